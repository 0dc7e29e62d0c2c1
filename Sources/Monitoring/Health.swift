// Whether a node does what it is there for, in one line.

internal import Gateway
internal import GatewayIO

/// What a health check is told.
struct Health: Equatable {
    /// The node may handle packets.
    let isGood: Bool
    /// In words, without a line end.
    let text: String

    /// Judges a reading; nil: the node did not give one in time.
    init(_ reading: NodeReading?) {
        guard let reading else {
            isGood = false
            text = "the node's loop did not answer within a second"
            return
        }
        let state = reading.gateway
        isGood = !state.isFenced && !reading.isStopping
        if isGood {
            text = reading.storeTrouble.map { "serving; \($0)" } ?? "serving"
        } else if reading.isStopping {
            text = "stopping"
        } else if state.isReplaced {
            text = "not serving: another process has this node's number"
        } else if !(state.members.first { $0.node == state.node }?.isMember ?? false) {
            text = "not serving: not in the allocation yet"
        } else {
            text = "not serving: neither enough members nor the store vouch for this node"
        }
    }
}
