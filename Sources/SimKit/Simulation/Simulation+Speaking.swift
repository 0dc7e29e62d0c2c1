// Peers that speak IKE: what they and the nodes say to each other, and when.

import Cluster
import Gateway
import IKEStub
import Wire

/// What a run with IKE knows beside its peers.
struct SpeakingState {
    /// By peer: the tick that is planned; later ones are void.
    var plannedTicks: [UInt64] = []
    /// Pairs that some node has announced, by the gateway's SPIs. Asked for members only.
    var announced: Set<SPI> = []
    var ledger = IKELedger()
    /// IKE messages on the wire, of both sides.
    var messages: UInt64 = 0
    /// No identifier is moved because of a message before this time.
    var restsUntil: UInt64 = 0
    /// Nothing is to be rekeyed any more.
    var isSettled = false
    /// IKE SAs with which a node went on that another had spoken for.
    var adoptions = 0
}

extension Simulation {
    /// After the last packet: until what is due is rekeyed, what is deleted is forgotten (5 s), and
    /// a peer that is gone is taken for dead (`IKETimers.brisk`).
    static let quietNanoseconds: UInt64 = 14_000_000_000
    /// A wish is carried out in some round trips to the store; more at a time would only wait.
    private static let restNanoseconds: UInt64 = 15_000_000

    // MARK: Nodes

    /// A node that starts speaks IKE from the first moment on.
    func beginSpeaking(_ number: Int, _ random: SimulationRandom) {
        guard let speakers, let life = nodes[number].life else { return }
        tellTime(number)
        life.gateway.speakIKE(
            speaking.isSettled
                ? speakers.settledGatewayConfiguration : speakers.gatewayConfiguration,
            random: SimulationRandomSource(random.fork(0x0049_4B45)),
            nowNanoseconds: nodes[number].local(now))
    }

    /// The world's time, which all machines know well enough.
    func tellTime(_ number: Int) {
        guard speakers != nil else { return }
        nodes[number].life?.gateway.secondsSince1970 = IKEPeerBank.seconds(now)
    }

    /// A packet of a peer's that a node classified as an IKE message or a keepalive.
    func takeMessage(_ slot: Int32, _ number: Int) {
        guard let life = nodes[number].life else { return }
        pool.setWord(slot, pool.word(slot) | Self.messageMark)
        guard speakers != nil, let (message, path) = IKEPacket.read(pool.packet(slot)) else {
            return
        }
        tellTime(number)
        life.gateway.receive(
            message: message, path: path, nowNanoseconds: nodes[number].local(now))
        drain(number)
    }

    /// A node sends a message to a peer.
    func sendMessage(_ octets: [UInt8], _ path: IKEPath, from number: Int) {
        let packet = IKEPacket.octets(octets, path)
        note { "node \(nodes[number].id) → \(path.remote): \(Self.text(octets))" }
        packet.withUnsafeBytes { noteMessage($0, by: "node \(nodes[number].id)") }
        sendDown(packet)
    }

    /// A node keeps a NAT's mapping alive.
    func sendKeepalive(_ path: IKEPath) { sendDown(IKEPacket.keepalive(path)) }

    private func sendDown(_ packet: [UInt8]) {
        let arrivals = downlink.arrivals(sentAt: now, &linkRandom)
        packet.withUnsafeBytes { octets in
            if let first = arrivals.first { arrive(octets, at: first) }
            if let second = arrivals.second { arrive(octets, at: second) }
        }
    }

    /// What a node tells of its IKE SAs.
    func hear(_ event: GatewayEvent, at number: Int) {
        switch event {
        case .ikeAdopted(let spi):
            speaking.adoptions += 1
            note { "node \(nodes[number].id) goes on with IKE SA \(String(spi, radix: 16))" }
        case .ikeEstablished(let spi):
            note { "node \(nodes[number].id): IKE SA \(String(spi, radix: 16)) is established" }
        case .ikeClosed(let spi):
            note { "node \(nodes[number].id): IKE SA \(String(spi, radix: 16)) is closed" }
        case .lingering(let spi): note { "node \(nodes[number].id): SPI \(spi) sends no more" }
        case .cleared(let spi): note { "node \(nodes[number].id): SPI \(spi) is cleared" }
        default: break
        }
    }

    /// A pair is in the store, and packets may go through it.
    func announce(_ spi: SPI, by number: Int) {
        guard let speakers else {
            guard let tunnel = peers.tunnel(ofGatewaySPI: spi) else { return }
            note { "node \(nodes[number].id): tunnel \(tunnel) is established" }
            return begin(tunnel)
        }
        note { "node \(nodes[number].id): SPI \(spi) is there" }
        speaking.announced.insert(spi)
        if let tunnel = speakers.tunnel(usingGatewaySPI: spi) { beginIfReady(tunnel) }
    }

    // MARK: Peers

    /// Both ends are ready to carry packets: from now on none may be lost without a cause.
    private func beginIfReady(_ tunnel: Int) {
        guard let speakers, tunnels[tunnel].state == .wanted, speakers.peers[tunnel].isUp,
            let spi = speakers.gatewaySPI(of: tunnel), speaking.announced.contains(spi)
        else { return }
        note { "tunnel \(tunnel) is up" }
        begin(tunnel)
    }

    /// True for a packet that a node sent to a peer's IKE side, which has it now.
    func takeMessageAtPeer(_ slot: Int32) -> Bool {
        guard let speakers else { return false }
        let packet = pool.packet(slot)
        if let tunnel = speakers.receiveMessage(packet, now: now) {
            carry(tunnel)
            beginIfReady(tunnel)
            return true
        }
        guard let base = packet.baseAddress,
            case .natKeepalive = OuterPacket.classify(at: base, count: packet.count)
        else { return false }
        return true
    }

    func tickPeer(_ peer: Int, _ time: UInt64) {
        guard let speakers, speaking.plannedTicks[peer] == time else { return }
        speaking.plannedTicks[peer] = .max
        speakers.advance(peer, now: now)
        carry(peer)
    }

    /// Sends what peers want to send, and plans the next step of one of them.
    func carry(_ peer: Int) {
        guard let speakers else { return }
        for (sender, packet) in speakers.takeOutgoing() {
            packet.withUnsafeBytes { octets in
                noteMessage(octets, by: "peer \(sender)")
                sendUp(octets)
            }
        }
        if speaking.plannedTicks.isEmpty {
            speaking.plannedTicks = Array(repeating: .max, count: speakers.count)
        }
        let deadline = speakers.deadline(of: peer)
        let time = deadline == .max ? .max : max(deadline, now + 1000)
        guard time < speaking.plannedTicks[peer] else { return }
        speaking.plannedTicks[peer] = time
        queue.push(at: time, .peerTick(peer: peer, time: time))
    }

    private func sendUp(_ octets: UnsafeRawBufferPointer) {
        guard let base = octets.baseAddress else { return }
        let slot = pool.allocate()
        let offset = PacketPool.headroom
        (pool.base(slot) + offset).copyMemory(from: base, byteCount: octets.count)
        pool.place(slot, offset: offset, length: octets.count)
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

    // MARK: Books

    /// Every message, of either side, at the moment at which it is sent.
    private func noteMessage(_ packet: UnsafeRawBufferPointer, by sender: String) {
        guard let (message, _) = IKEPacket.read(packet), let base = message.baseAddress else {
            return
        }
        speaking.messages += 1
        trace.mix(message)
        let header = String(load64(base, 0), radix: 16) + " " + Self.text(Array(message))
        switch speaking.ledger.note(message) {
        case .unprotected, .new, .again: break
        case .nonceTwice: fail("\(sender) used a nonce twice in IKE SA \(header)")
        case .otherRequest: fail("\(sender) changed a request in IKE SA \(header)")
        case .otherAnswer: fail("\(sender) changed an answer in IKE SA \(header)")
        }
        let restless = options.ike?.restless ?? 0
        guard restless > 0, speaking.messages % restless == 0, now >= speaking.restsUntil,
            now < end
        else { return }
        speaking.restsUntil = now + Self.restNanoseconds
        queue.push(at: now, .moves(initiatorSPI: load64(base, 0)))
    }

    /// What a message is, in few words.
    private static func text(_ message: [UInt8]) -> String {
        message.withUnsafeBytes { octets in
            guard let header = try? IKEHeader(reading: octets) else { return "\(octets.count)" }
            let exchange = header.exchangeType.map { "\($0)" } ?? "\(header.exchange)"
            let kind = header.flags.contains(.response) ? "response" : "request"
            let side = header.flags.contains(.initiator) ? "initiator" : "responder"
            return "\(exchange) \(kind) \(header.messageID) of the \(side), \(octets.count) octets"
        }
    }

    /// An operator moves the identifier of an IKE SA, whatever is under way in it.
    func move(_ initiatorSPI: UInt64) {
        let alive = nodes.indices.filter {
            nodes[$0].life != nil && nodes[$0].stoppedUntil <= now
        }
        guard !alive.isEmpty else { return }
        let asked = alive[Int(ikeRandom.below(UInt64(alive.count)))]
        let target = alive[Int(ikeRandom.below(UInt64(alive.count)))]
        let identifier = distribution.identifier(ofInitiatorCookie: initiatorSPI)
        // Who is no member, or owns it already, is refused: the next message moves it, then.
        try? nodes[asked].life?.gateway.move(
            identifier, to: nodes[target].id, nowNanoseconds: nodes[asked].local(now))
        drain(asked)
    }

    /// The end of traffic: from now on nothing new is rekeyed, so that in the end all ends have had
    /// time to agree.
    func settlePeers() {
        guard let speakers else { return }
        speaking.isSettled = true
        speakers.settle()
        for node in nodes {
            node.life?.gateway.ikeConfiguration = speakers.settledGatewayConfiguration
        }
    }
}
