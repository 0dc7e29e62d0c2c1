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
    /// IPSEC_REPLAY_COUNTER_SYNC without its sibling (RFC 6311 §5, case 2).
    case replayCounters(UInt64)

    /// What its messages are called.
    var type: ExchangeType {
        switch self {
        case .ikeSAInit: .ikeSAInit
        case .ikeAuth: .ikeAuth
        case .createChild, .rekeyIKE: .createChildSA
        case .deleteChildren, .deleteIKE, .liveness, .replayCounters: .informational
        }
    }
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
    /// An answer that can't be used was reported.
    var isReported = false
}

/// What is to be asked when the window is free.
enum PendingTask: Hashable {
    case rekeyChild(SPI)
    /// A pair in place of one that the peer may not have any more: asked for as a new one.
    case renewChild(SPI)
    case createChild(policy: String)
    case deleteChildren([SPI])
    case rekeyIKE
    case deleteIKE
    case liveness
    case replayCounters(UInt64)
}

/// Our requests.
struct RequestWindow {
    /// Of the next request.
    var nextID: UInt32 = 0
    var outstanding: Outstanding?
    /// In order; an equal task is not queued twice.
    var tasks: [PendingTask] = []
    /// Tasks for which the peer has no time at present (TEMPORARY_FAILURE).
    var postponed: [PendingTask] = []

    mutating func add(_ task: PendingTask) {
        if !tasks.contains(task) { tasks.append(task) }
    }

    mutating func addFirst(_ task: PendingTask) {
        tasks.removeAll { $0 == task }
        tasks.insert(task, at: 0)
    }
}

/// The peer's requests.
struct ResponseWindow {
    /// Of the next request.
    var nextID: UInt32 = 0
    /// The response to the request before: sent again, the same octets, for the same request.
    var last: [[UInt8]] = []
    /// The owner before may have answered liveness checks that the store does not know of.
    var mayHaveMissed = false

    /// How many checks may have been missed: of a day, at one in a second.
    private static let missedMaximum: UInt32 = 86_400

    /// True for the next request, or for one behind some that were missed. All that were missed
    /// were empty: an empty one proves nothing then.
    func isNew(_ id: UInt32) -> Bool {
        guard id != .max else { return false }
        return id == nextID || (mayHaveMissed && id > nextID && id - nextID <= Self.missedMaximum)
    }

    /// True for the request that ``last`` answers.
    func isAnswered(_ id: UInt32) -> Bool { id &+ 1 == nextID && !last.isEmpty }
}
