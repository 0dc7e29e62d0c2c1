// What a node tells of itself: to its operator, and to a monitoring system.

internal import Cluster
internal import ESP
internal import Gateway
internal import Wire

extension LiveNode {
    /// Everything at this moment. The work grows with members times identifiers.
    func reading() -> NodeReading {
        NodeReading(
            isAlone: cluster == nil, gateway: member.gateway.status(nowNanoseconds: now),
            identifiers: cluster == nil ? [] : member.gateway.identifierStatuses(),
            counters: member.gateway.counters, ike: member.gateway.ikeCounters(),
            link: member.gateway.linkCounters, card: member.gateway.cardCounters,
            segments: cluster?.counts ?? [:], pairs: pairs.count, storeTrouble: member.storeTrouble,
            isStopping: isStopping)
    }

    func answer(_ monitor: any MonitorBackend) {
        if monitor.takeQuestion() { monitor.answer(reading()) }
    }

    // MARK: Refused packets

    /// The refused packets that were asked for, and who has what they were for.
    func trace(_ request: ControlRequest, _ session: ControlSession) {
        var reply = ControlReply.done
        reply.lastRefusal = member.gateway.lastRefusal
        var wanted: SPI?
        if let text = request.spi {
            guard let value = UInt32(text, radix: 16) else {
                return session.say(.failed("\(text) is no SPI: write 1 to 8 hexadecimal digits"))
            }
            wanted = SPI(value)
            reply.report = ownerText(SPI(value))
        }
        // A node that was started anew counts from 1 again.
        let after = request.after ?? 0
        let refusals = member.gateway.refusals(
            after: after > member.gateway.lastRefusal ? 0 : after)
        reply.refusals = refusals.filter { wanted == nil || $0.spi == wanted }
            .suffix(max(request.count ?? .max, 0)).map(listing)
        session.say(reply)
    }

    private func listing(_ refusal: Refusal) -> RefusalListing {
        let age = now - min(now, refusal.timeNanoseconds)
        let world = Self.worldNanoseconds() - age
        let identifier = refusal.spi.map { member.gateway.distribution.identifier(of: $0) }
        return RefusalListing(
            number: refusal.number, time: UTCTime(nanosecondsSince1970: world).description,
            reason: refusal.reason.name, explanation: refusal.reason.explanation,
            isInbound: refusal.isInbound, spi: refusal.spi?.description,
            sequence: refusal.spi == nil || !refusal.isInbound ? nil : refusal.sequence,
            source: refusal.source?.description, destination: refusal.destination?.description,
            octets: refusal.byteCount,
            identifier: cluster == nil ? nil : identifier?.value,
            owner: cluster == nil ? nil : identifier.flatMap(owner))
    }

    private func owner(of identifier: DistributionIdentifier) -> NodeID? {
        member.gateway.allocation?.owner(of: identifier)
    }

    /// In one line: whose packets of this SPI are.
    private func ownerText(_ spi: SPI) -> String {
        let known = member.gateway.status(of: spi) == nil ? "no tunnel of" : "a tunnel of"
        let identifier = member.gateway.distribution.identifier(of: spi)
        guard cluster != nil else { return "SPI \(spi) is \(known) this node" }
        guard let owner = owner(of: identifier) else {
            return "SPI \(spi) has identifier \(identifier), which nobody owns yet"
        }
        if owner == member.gateway.node {
            return "SPI \(spi) has identifier \(identifier), which this node owns; "
                + "it is \(known) this node"
        }
        return "SPI \(spi) has identifier \(identifier), which node \(owner) owns: its packets "
            + "never come to this node's program; ask node \(owner)"
    }
}
