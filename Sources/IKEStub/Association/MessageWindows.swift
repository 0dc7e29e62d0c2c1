// Requests and responses with a window of one, which every implementation has (RFC 7296 §2.1-2.3).

internal import ESP
internal import Wire

/// What a request of ours is about.
enum Exchange {
    case ikeSAInit
    case ikeAuth
    case createChild(ChildOffer)
    case rekeyIKE(SuccessorOffer)
    case deleteChildren([SPI])
    case deleteIKE
    case liveness
}

/// A request that has no response yet.
struct Outstanding {
    let messageID: UInt32
    let exchange: Exchange
    /// The same octets every time.
    let datagrams: [[UInt8]]
    /// Repetitions so far.
    var repetitions = 0
    var repeatAt: UInt64
    /// How long to wait after the next repetition.
    var patience: UInt64
}

/// What is to be asked when the window is free.
enum PendingTask: Hashable {
    case rekeyChild(SPI)
    case createChild(policy: String)
    case deleteChildren([SPI])
    case rekeyIKE
    case deleteIKE
    case liveness
}

/// Our requests.
struct RequestWindow {
    /// Of the next request.
    var nextID: UInt32 = 0
    var outstanding: Outstanding?
    /// In order; an equal task is not queued twice.
    var tasks: [PendingTask] = []

    mutating func add(_ task: PendingTask) {
        if !tasks.contains(task) { tasks.append(task) }
    }
}

/// The peer's requests.
struct ResponseWindow {
    /// Of the next request.
    var nextID: UInt32 = 0
    /// The response to the request before: sent again, the same octets, for the same request.
    var last: [[UInt8]] = []
}
