// What must always be, and what must be once all is quiet again.

import Cluster
import ESP
import Gateway
import Wire

/// Exact books of everything sent and delivered.
struct Checker {
    /// ESP packets that gateways sent.
    var sent: SequenceLedger
    /// Inner packets that came out on either side.
    var delivered: DeliveryLedger
    var outages: Outages
    /// Duplicates on the protected side: replays that were accepted.
    var accepted: UInt64 = 0
    /// Packets that no node handled or held.
    var unowned: UInt64 = 0
    /// Packets that nodes held, those that came out of them later, and those whose node died.
    var held: UInt64 = 0
    var released: UInt64 = 0
    var lostHeld: UInt64 = 0

    init(tunnels: Int, duration: UInt64) {
        sent = SequenceLedger(associations: tunnels)
        delivered = DeliveryLedger(tunnels: tunnels)
        let begin = Simulation.warmUpNanoseconds
        // Nothing is sent at the very end: that is nobody's outage.
        outages = Outages(
            tunnels: tunnels, from: begin,
            until: begin + duration - Simulation.silentNanoseconds)
    }

    /// No sequence number of an association is sent twice, and no nonce under a key.
    mutating func noteSent(_ packet: SentPacket, _ simulation: Simulation) {
        let verdict = sent.note(
            association: packet.association, sequence: packet.sequence,
            generation: packet.generation ?? 0)
        switch verdict {
        case .new: break
        case .sequenceTwice:
            simulation.fail("tunnel \(packet.tunnel) sent number \(packet.sequence) twice")
        case .nonceTwice:
            simulation.fail("tunnel \(packet.tunnel) used a nonce twice: number \(packet.sequence)")
        }
    }

    /// No inner packet comes out twice; with `learn`, within the counted exposure only.
    mutating func deliver(_ label: InnerLabel, at time: UInt64, _ simulation: Simulation) {
        let isNew = delivered.note(
            tunnel: label.tunnel, isToPeer: label.isToPeer, serial: label.serial)
        if isNew {
            if !label.isToPeer { outages.note(tunnel: label.tunnel, at: time) }
            return
        }
        if label.isToPeer || simulation.options.policy == .strict {
            simulation.fail(
                "inner packet \(label.serial) of tunnel \(label.tunnel) came out twice "
                    + (label.isToPeer ? "at the peer" : "at the cluster"))
        } else {
            accepted += 1
            simulation.note { "tunnel \(label.tunnel): packet \(label.serial) came out again" }
        }
    }
}

extension Simulation {
    /// After every step of the control plane: at most one node may serve an identifier.
    func checkControl(_ changed: Int) {
        let node = nodes[changed]
        guard let life = node.life else { return }
        life.noteRights()
        guard life.servingUntil > node.local(now) else { return }
        for other in nodes.indices where other != changed {
            guard let rival = nodes[other].life, rival.servingUntil > nodes[other].local(now)
            else { continue }
            for place in life.owned.indices {
                let both = life.owned[place] & rival.owned[place]
                guard both != 0 else { continue }
                fail(
                    "nodes \(node.id) and \(nodes[other].id) both serve identifier "
                        + "\(place * 64 + both.trailingZeroBitCount)")
                return
            }
        }
    }

    func checkAll() {
        for number in nodes.indices where nodes[number].life != nil { checkControl(number) }
    }

    /// Every now and then: cards and tables agree, and keys are where they belong.
    func check() {
        checkAll()
        checkContents()
        for node in nodes {
            guard let life = node.life, node.stoppedUntil <= now else { continue }
            checkCard(node, life)
            checkStores(node, life)
        }
        noteOwnership()
    }

    private func checkCard(_ node: SimulatedNode, _ life: SimulatedNode.Life) {
        let sessions = life.gateway.sessionSPIs()
        let table = life.gateway.tableSPIs()
        if life.gateway.sessionCount > options.cardCapacity {
            fail("the card of node \(node.id) holds more than it can")
        }
        var known = 0
        for spi in sessions {
            while known < table.count, table[known] < spi { known += 1 }
            guard known < table.count, table[known] == spi else {
                fail("node \(node.id) has a session without an entry: SPI \(spi)")
                return
            }
            let identifier = distribution.identifier(of: spi)
            guard mayHold(life, identifier) else {
                fail("node \(node.id) keeps keys of SPI \(spi), which it does not own")
                return
            }
        }
    }

    /// Who serves what, for the report.
    private func noteOwnership() {
        guard options.records else { return }
        var owners = [UInt16](repeating: 0, count: options.identifiers)
        for node in nodes {
            guard let life = node.life, node.stoppedUntil <= now else { continue }
            for value in owners.indices {
                let identifier = DistributionIdentifier(UInt16(value))
                if life.gateway.serves(identifier, nowNanoseconds: node.local(now)) {
                    owners[value] = node.id.value
                }
            }
        }
        if figures.ownership.last?.owners != owners {
            figures.ownership.append(.init(time: now, owners: owners))
        }
    }

    // MARK: When all is quiet

    /// The end of a run: everything must have healed.
    func finish() {
        let alive = nodes.filter { $0.life != nil }
        guard !alive.isEmpty else {
            fail("in the end no node is alive")
            return
        }
        checkOwners(alive)
        checkTables(alive)
        checkPlaces(alive)
        checkTunnels(alive)
        countCards(alive)
        checkSums(alive)
        // What was never set up waits for nothing.
        figures.tunnelOutages = tunnels.indices.filter { tunnels[$0].state != .wanted }
            .map(checker.outages.longest(of:))
        figures.outages = OutageSummary(figures.tunnelOutages)
        figures.unowned = checker.unowned
        figures.duplicates = checker.accepted
        figures.lost = lostPackets
    }

    private func checkOwners(_ alive: [SimulatedNode]) {
        for value in 0..<UInt16(options.identifiers) {
            let identifier = DistributionIdentifier(value)
            let owners = alive.filter {
                $0.life?.gateway.serves(identifier, nowNanoseconds: $0.local(now)) ?? false
            }
            if owners.isEmpty {
                fail("in the end nobody serves identifier \(identifier)")
                return
            }
        }
    }

    private func checkTables(_ alive: [SimulatedNode]) {
        var stored: [SPI] = []
        let entries = store.handle(
            .read(prefix: StoreKey.prefix + "entry/"), nowNanoseconds: now)
        if case .pairs(let pairs, _) = entries {
            for pair in pairs {
                if case .entry(_, let spi) = StoreKey(text: pair.key) { stored.append(spi) }
            }
        }
        stored.sort()
        checkContents(alive, stored)
        guard speakers == nil else { return checkSpeaking(alive, stored) }
        for tunnel in tunnels.indices where tunnels[tunnel].state != .wanted {
            let isStored = stored.contains(peers.gatewaySPI(of: tunnel))
            if isStored != (tunnels[tunnel].state == .established) {
                fail("in the end tunnel \(tunnel) is \(isStored ? "still there" : "gone")")
            }
            if tunnels[tunnel].state == .leaving {
                fail("in the end tunnel \(tunnel) is still being cleared")
            }
        }
    }

    /// Every tunnel carries packets both ways.
    private func checkTunnels(_ alive: [SimulatedNode]) {
        for tunnel in tunnels.indices
        where tunnels[tunnel].state == .wanted && !isWithoutRoom(tunnel, alive) {
            fail("in the end tunnel \(tunnel) was never set up")
        }
        for tunnel in tunnels.indices
        where tunnels[tunnel].state == .established && !isWithoutRoom(tunnel, alive) {
            guard let peerMark = tunnels[tunnel].peerMark,
                let serverMark = tunnels[tunnel].serverMark
            else { continue }
            let isUp = checker.delivered.highest(tunnel, isToPeer: false).map { $0 >= peerMark }
            let isDown = checker.delivered.highest(tunnel, isToPeer: true).map { $0 >= serverMark }
            if isUp != true { fail("tunnel \(tunnel) is dead from its peer") }
            if isDown != true { fail("tunnel \(tunnel) is dead to its peer") }
        }
    }

    /// Every packet is accounted for once.
    private func checkSums(_ alive: [SimulatedNode]) {
        var sum = GatewayCounters()
        for node in nodes {
            sum.add(node.buried)
            if let life = node.life { sum.add(life.gateway.counters) }
        }
        if sum.delivered != figures.delivered || sum.sealed != figures.sealed {
            fail("the nodes count other deliveries than there were")
        }
        var drops = figures.drops
        drops += sum.heldDrops
        if sum.drops != drops {
            fail("the nodes count other refusals than there were")
        }
        let holding = alive.reduce(0) { $0 + ($1.life?.gateway.heldCount ?? 0) }
        let ended = checker.released + sum.heldForeign + sum.heldDrops.total
        if sum.held != checker.held || checker.held != ended + holding + checker.lostHeld {
            fail("of \(checker.held) packets held, not all are accounted for")
        }
        figures.exposed = sum.exposed
        figures.counters = sum
        if options.policy == .learn, checker.accepted > sum.exposed {
            fail(
                "\(checker.accepted) packets came out twice, and only \(sum.exposed) are "
                    + "counted as exposed")
        }
        // What had no room was refused, and told.
        guard isLossless, options.whenFull == .serveFromHost || sum.drops[.cardFull] == 0 else {
            return
        }
        for tunnel in tunnels.indices where isWhole(tunnel) {
            let up = checker.delivered.count(tunnel, isToPeer: false)
            let down = checker.delivered.count(tunnel, isToPeer: true)
            if up != Int(ends.serial(of: tunnel)) || down != Int(tunnels[tunnel].serverSerial) {
                fail(
                    "tunnel \(tunnel) lost packets though nothing was lost on the way: "
                        + "\(up) of \(ends.serial(of: tunnel)) came from its peer, \(down) of "
                        + "\(tunnels[tunnel].serverSerial) to it")
                return
            }
        }
    }

    /// True when only planned moves happened: then no packet may be missing.
    var isLossless: Bool {
        faults.allSatisfy { $0.kind == .drain || $0.kind == .join }
    }
}
