// Where the peer is now: behind a NAT that changed its mind, it is where its last authentic message
// or packet came from (RFC 7296 §2.23).

internal import ESP
internal import Wire

/// Between two moves that packets cause: a NAT that gives each packet another port would move the
/// IKE SA with every one of them.
private let movePauseNanoseconds: UInt64 = 1_000_000_000

extension IKEAssociation {
    /// An authentic message came on another path. False: the message can't be the peer's.
    func follow(_ path: IKEPath, _ outcome: inout IKEOutcome) -> Bool {
        guard path != self.path else { return true }
        if stage == .initAnswered {
            // The initiator goes to the other port by itself, once. Selectors and connections are
            // chosen by its address, which only IKE_SA_INIT has proven.
            guard path.remote == origin.remote, path.local == origin.local else { return false }
            self.path = path
            return true
        }
        if mayFollow, path.hasMarker || !self.path.hasMarker { move(to: path, &outcome) }
        return true
    }

    /// An authentic packet of the pair came in UDP from that address and port. Only a packet that
    /// is new tells where the peer is, so that a pair without a replay window tells nothing, and
    /// neither does one that only packets under way still use.
    func followPacket(
        of spi: SPI, _ remote: IPAddress, _ port: UInt16, now: UInt64, _ outcome: inout IKEOutcome
    ) {
        guard mayFollow, path.hasMarker, remote.family == path.remote.family,
            let child = children.first(where: { $0.inbound == spi }), child.stage != .lingering,
            child.hasReplayWindow
        else { return }
        var path = path
        path.remote = remote
        path.remotePort = port
        guard path != self.path, now >= times.moveAgain else { return }
        times.moveAgain = now &+ movePauseNanoseconds
        move(to: path, &outcome)
    }

    /// Not for an end that is behind a NAT itself: anybody who can change addresses on the way
    /// could lead it elsewhere.
    private var mayFollow: Bool { traits.contains(.remoteNAT) && !traits.contains(.localNAT) }

    private func move(to path: IKEPath, _ outcome: inout IKEOutcome) {
        let old = self.path
        self.path = path
        report(.pathChanged, .info, "the peer was at \(old)", &outcome)
        outcome.noteChange(of: localSPI)
        for child in children { outcome.events.append(.redirect(child.inbound, path)) }
    }
}
