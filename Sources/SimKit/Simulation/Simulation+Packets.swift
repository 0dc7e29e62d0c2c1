// Traffic: peers and a server send numbered packets through all tunnels, and every node sees all.

import Cluster
import ESP
import Gateway
import Wire

extension Simulation {
    // MARK: Sending

    func sendTraffic(_ tunnel: Int) {
        guard tunnels[tunnel].state == .established else {
            tunnels[tunnel].isTrafficPlanned = false
            return
        }
        if now + Self.silentNanoseconds < end {
            if now >= end - Self.settledNanoseconds, tunnels[tunnel].peerMark == nil {
                tunnels[tunnel].peerMark = ends.serial(of: tunnel) + 1
                tunnels[tunnel].serverMark = tunnels[tunnel].serverSerial + 1
            }
            sendFromPeer(tunnel)
            sendFromServer(tunnel)
        }
        let interval = packetInterval(of: tunnel)
        let jitter = trafficRandom.below(interval / 4 + 1)
        queue.push(at: now + interval - jitter, .traffic(tunnel: tunnel))
    }

    private func sendFromPeer(_ tunnel: Int) {
        let slot = pool.allocate()
        guard
            let place = ends.seal(
                tunnel, into: pool.base(slot), capacity: PacketPool.slotBytes,
                offset: PacketPool.headroom, payloadBytes: options.payloadBytes, now: now)
        else {
            pool.release(slot)
            return
        }
        pool.place(slot, offset: place.offset, length: place.length)
        figures.packets += 1
        record(slot)
        let arrivals = uplink.arrivals(sentAt: now, &linkRandom)
        if let second = arrivals.second {
            queue.push(at: second, .outerArrives(slot: pool.copy(slot)))
        }
        if let first = arrivals.first {
            queue.push(at: first, .outerArrives(slot: slot))
        } else {
            pool.release(slot)
        }
    }

    private func sendFromServer(_ tunnel: Int) {
        tunnels[tunnel].serverSerial += 1
        let slot = pool.allocate()
        let length = ends.innerPacket(
            toPeer: tunnel, serial: tunnels[tunnel].serverSerial,
            into: pool.base(slot) + PacketPool.headroom, payloadBytes: options.payloadBytes)
        pool.place(slot, offset: PacketPool.headroom, length: length)
        figures.packets += 1
        queue.push(at: now + 20_000, .innerArrives(slot: slot))
    }

    // MARK: The segment that all nodes are on

    /// Shows a packet to every node, to each in a copy of its own.
    func spread(_ slot: Int32, isOuter: Bool, isForged: Bool = false) {
        pool.setWord(slot, isForged ? Self.forgedMark : 0)
        guard options.skew > 0 else {
            for number in nodes.indices {
                if isOuter { showOuter(slot, to: number) } else { showInner(slot, to: number) }
            }
            finishPacket(slot)
            pool.release(slot)
            return
        }
        for number in nodes.indices {
            pool.retain(slot)
            let time = now + linkRandom.below(options.skew)
            queue.push(
                at: time,
                isOuter
                    ? .outerAt(node: number, slot: slot) : .innerAt(node: number, slot: slot))
        }
        pool.release(slot)
    }

    /// What no node handled was sent while its tunnel had no owner.
    private func finishPacket(_ slot: Int32) {
        // Nobody waits for what an attacker sends.
        if pool.word(slot) == 0 { checker.unowned += 1 }
    }

    /// One of the nodes has seen the packet; the last one ends it.
    func leave(_ slot: Int32) {
        if pool.users(slot) == 1 { finishPacket(slot) }
        pool.release(slot)
    }

    /// In a packet's word: some node holds it. Below stands how many nodes handled it.
    private static let heldMark: UInt64 = 1 << 32
    /// In a packet's word: an attacker sent it.
    private static let forgedMark: UInt64 = 1 << 33
    /// In a packet's word: an IKE message that some node may act upon.
    static let messageMark: UInt64 = 1 << 34

    private func noteHeld(_ slot: Int32) {
        checker.held += 1
        pool.setWord(slot, pool.word(slot) | Self.heldMark)
    }

    private func copyToScratch(_ slot: Int32) -> PacketDescriptor {
        let packet = pool.packet(slot)
        let offset = PacketPool.headroom
        if let base = packet.baseAddress {
            (scratch + offset).copyMemory(from: base, byteCount: packet.count)
        }
        return PacketDescriptor(
            buffer: scratch, capacity: PacketPool.slotBytes, offset: offset,
            length: packet.count)
    }

    func showOuter(_ slot: Int32, to number: Int) {
        let node = nodes[number]
        guard let life = node.life, node.stoppedUntil <= now else { return }
        packets.initializeElement(at: 0, to: copyToScratch(slot))
        life.gateway.receive(
            packets, verdicts: verdicts, nowNanoseconds: node.local(now), packetTime: now)
        switch verdicts[0] {
        case .delivered:
            claim(slot, number)
            deliverInner(packets[0].packet, at: number)
            if speakers != nil { drain(number) }
        case .ike, .natKeepalive: takeMessage(slot, number)
        case .dropped(let reason):
            if reason == .unknownSPI { checkKnown(number) }
            claim(slot, number, reason)
            note { "node \(node.id) refuses a packet of a peer's: \(reason.name)" }
            trace.mix(UInt64(reason.rawValue) << 8 | 3, now)
        case .held: noteHeld(slot)
        default: break
        }
    }

    func showInner(_ slot: Int32, to number: Int) {
        let node = nodes[number]
        guard let life = node.life, node.stoppedUntil <= now else { return }
        packets.initializeElement(at: 0, to: copyToScratch(slot))
        life.gateway.send(
            packets, verdicts: verdicts, nowNanoseconds: node.local(now), packetTime: now)
        switch verdicts[0] {
        case .delivered:
            // What goes through a pair that its peer has forgotten reaches nobody.
            if speakers?.isForgotten(packets[0].packet) != true {
                claim(slot, number)
            } else {
                note { "node \(node.id) sends through a pair that its peer has forgotten" }
            }
            sendOuter(packets[0].packet, from: number)
        case .dropped(let reason):
            claim(slot, number, reason)
            note { "node \(node.id) refuses a packet to a peer: \(reason.name)" }
            trace.mix(UInt64(reason.rawValue) << 8 | 4, now)
        case .held: noteHeld(slot)
        default: break
        }
    }

    /// Who serves a tunnel's identifier knows the tunnel: its entry is older than the ownership.
    private func checkKnown(_ number: Int) {
        guard let location = packets[0].location,
            let tunnel = tunnel(usingGatewaySPI: location.spi),
            tunnels[tunnel].state == .established
        else { return }
        fail("node \(nodes[number].id) serves tunnel \(tunnel) and does not know it")
    }

    /// A packet is handled by one node. One that is fenced refuses what may be another's now, and
    /// one that counts what no tunnel covers may not know of a new tunnel yet: neither handles.
    private func claim(_ slot: Int32, _ number: Int, _ reason: DropReason? = nil) {
        if let reason {
            figures.drops[reason] += 1
            if reason == .notServing || reason == .noAssociation { return }
        }
        let handled = pool.word(slot) + 1
        pool.setWord(slot, handled)
        if handled & (Self.heldMark - 1) > 1 {
            fail("two nodes handled one packet; the second was node \(nodes[number].id)")
        }
    }

    // MARK: Arriving

    /// An inner packet came out of a node.
    func deliverInner(_ packet: UnsafeRawBufferPointer, at number: Int) {
        guard let label = InnerPacket.read(packet), !label.isToPeer else {
            fail("node \(nodes[number].id) delivered what no peer had sent")
            return
        }
        trace.mix(UInt64(label.tunnel) << 8 | 1, label.serial)
        figures.delivered += 1
        recorder?.deliver(tunnel: label.tunnel, by: nodes[number].id, at: now)
        checker.deliver(label, at: now, self)
    }

    /// A gateway sends an ESP packet to a peer.
    func sendOuter(_ packet: UnsafeRawBufferPointer, from number: Int) {
        guard let sent = ends.inspect(packet) else {
            fail("node \(nodes[number].id) sent what belongs to no tunnel")
            return
        }
        trace.mix(UInt64(sent.tunnel) << 8 | 2, sent.sequence)
        figures.sealed += 1
        checker.noteSent(sent, self)
        let arrivals = downlink.arrivals(sentAt: now, &linkRandom)
        if let first = arrivals.first { arrive(packet, at: first) }
        if let second = arrivals.second { arrive(packet, at: second) }
    }

    func arrive(_ packet: UnsafeRawBufferPointer, at time: UInt64) {
        guard let base = packet.baseAddress else { return }
        let slot = pool.allocate()
        let offset = PacketPool.headroom
        (pool.base(slot) + offset).copyMemory(from: base, byteCount: packet.count)
        pool.place(slot, offset: offset, length: packet.count)
        queue.push(at: time, .peerReceives(slot: slot))
    }

    func receiveAtPeer(_ slot: Int32) {
        defer { pool.release(slot) }
        if takeMessageAtPeer(slot) { return }
        let verdict = ends.open(
            pool.base(slot), capacity: PacketPool.slotBytes, offset: pool.offset(slot),
            length: pool.length(slot), now: now)
        switch verdict {
        case .delivered(let tunnel, let serial):
            figures.received += 1
            checker.deliver(
                InnerLabel(tunnel: tunnel, isToPeer: true, serial: serial), at: now, self)
        case .dropped(let reason):
            figures.peerDrops += 1
            note { "a peer refuses a packet of SPI \(spi(of: slot)): \(reason.name)" }
        case .misdelivered(let tunnel):
            fail("the peer of tunnel \(tunnel) got a packet that was not for it")
        }
    }

    /// For the trace.
    private func spi(of slot: Int32) -> String {
        let packet = pool.packet(slot)
        guard let base = packet.baseAddress,
            case .esp(let location) = OuterPacket.classify(at: base, count: packet.count)
        else { return "?" }
        return location.spi.description
    }

    // MARK: An attacker

    /// Remembers packets on the wire, the newest of a bounded number.
    func record(_ slot: Int32) {
        let octets = Array(pool.packet(slot))
        if recorded.count < 512 {
            recorded.append(octets)
        } else {
            recorded[Int(figures.packets % 512)] = octets
        }
    }

    /// Sends a recorded packet again.
    func replay(_ place: Int) {
        guard !recorded.isEmpty else { return }
        let octets = recorded[place % recorded.count]
        let slot = pool.allocate()
        let offset = PacketPool.headroom
        (pool.base(slot) + offset).copyMemory(from: octets, byteCount: octets.count)
        pool.place(slot, offset: offset, length: octets.count)
        figures.replayed += 1
        spread(slot, isOuter: true, isForged: true)
    }
}
