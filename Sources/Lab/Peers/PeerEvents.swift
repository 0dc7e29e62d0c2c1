// What peers say that happened to their SAs: they are who would notice a failover.

/// Something that a peer did or had done to a tunnel's SAs.
struct PeerEvent: Hashable, Sendable {
    enum Kind: Hashable, Sendable {
        /// An IKE SA that was set up: an authentication.
        case authenticated
        /// An IKE SA that ended.
        case ended
        /// New keys for an IKE SA.
        case rekeyedIKE
        /// New keys for a pair of CHILD SAs.
        case rekeyedChild
        /// A pair that was set up otherwise.
        case pairAdded
        /// A pair that ended without a successor.
        case pairEnded
    }

    /// When the director read it, in nanoseconds.
    var time: UInt64
    var tunnel: Int
    var kind: Kind
}

extension PeerEvent {
    /// The events of strongSwan by their names.
    static let viciNames = ["ike-updown", "child-updown", "ike-rekey", "child-rekey"]

    /// Reads one of strongSwan's events. `tunnels`: places by name of the connection.
    static func read(
        _ message: ViciMessage, at time: UInt64, tunnels: [String: Int]
    ) -> [PeerEvent] {
        let isUp = message.contents.text("up") == "yes"
        let kind: Kind
        switch message.name {
        case "ike-updown": kind = isUp ? .authenticated : .ended
        case "child-updown": kind = isUp ? .pairAdded : .pairEnded
        case "ike-rekey": kind = .rekeyedIKE
        case "child-rekey": kind = .rekeyedChild
        default: return []
        }
        return message.contents.sections.compactMap { name, _ in
            tunnels[name].map { PeerEvent(time: time, tunnel: $0, kind: kind) }
        }
    }
}
