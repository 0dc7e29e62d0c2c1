// A bank of peers, one gateway and the wire between them, in virtual time.

import Crypto
import ESP
import IKEStub
import Testing
import Wire

@testable import SimKit

/// Carries packets between a bank and a station, and keeps the books.
final class IKEBankWorld {
    enum Event {
        case toGateway([UInt8])
        case toPeer([UInt8])
        case peer(Int)
        case gateway
        case traffic(Int)
        case plan((IKEBankWorld) throws -> Void)
    }

    let bank: IKEPeerBank
    let station: IKEStation
    var now: UInt64 = 0
    var trafficUntil: UInt64 = .max
    private var queue = EventQueue<Event>()
    var uplink = LinkModel(delayNanoseconds: 2_000_000, jitterNanoseconds: 500_000)
    var downlink = LinkModel(delayNanoseconds: 2_000_000, jitterNanoseconds: 500_000)
    private var random: SimulationRandom
    var delivered: DeliveryLedger
    var sent = SequenceLedger(associations: 0)
    var messages = IKELedger()
    var serverSerials: [UInt64]
    var verdicts: [IKEVerdict: Int] = [:]
    /// What must never be, and was.
    var faults: [String] = []
    var peerDrops: [DropReason: Int] = [:]

    init(_ options: IKEPeerOptions, seed: UInt64) throws {
        let library = try CryptoLibrary()
        let source = SimulationRandom(seed: seed)
        bank = IKEPeerBank(options, library: library, random: source.fork(1))
        station = IKEStation(bank, library: library, random: source.fork(2))
        random = source.fork(3)
        delivered = DeliveryLedger(tunnels: options.peers)
        serverSerials = Array(repeating: 0, count: options.peers)
        for peer in 0..<options.peers { queue.push(at: 1_000_000, .traffic(peer)) }
    }

    func plan(at time: UInt64, _ action: @escaping (IKEBankWorld) throws -> Void) {
        queue.push(at: time, .plan(action))
    }

    func disturb(loss: UInt32, duplicates: UInt32, reorder: UInt32) {
        for path in [\IKEBankWorld.uplink, \IKEBankWorld.downlink] {
            self[keyPath: path].lossPerMillion = loss
            self[keyPath: path].duplicatePerMillion = duplicates
            self[keyPath: path].reorderPerMillion = reorder
        }
    }

    /// All peers begin, and those that wait are begun with.
    func beginAll() throws {
        for peer in 0..<bank.count {
            bank.want(peer, now: now)
            if bank.peers[peer].beginner == .gateway { try station.begin(peer, now: now) }
        }
        carry()
    }

    func run(until end: UInt64) throws {
        while let time = queue.nextTime, time <= end, faults.isEmpty {
            guard let (time, event) = queue.pop() else { break }
            now = time
            try handle(event)
            carry()
        }
        now = end
    }

    private func handle(_ event: Event) throws {
        switch event {
        case .toGateway(let packet):
            if let label = try station.receive(packet, now: now) { note(label) }
        case .toPeer(let packet): receiveAtPeer(packet)
        case .peer(let number):
            planned[number] = .max
            bank.advance(number, now: now)
        case .gateway:
            gatewayPlanned = .max
            try station.advance(now: now)
        case .traffic(let peer):
            sendTraffic(peer)
            queue.push(at: now + 10_000_000 + random.below(2_000_000), .traffic(peer))
        case .plan(let action): try action(self)
        }
    }

    private func note(_ label: InnerLabel) {
        let isNew = delivered.note(
            tunnel: label.tunnel, isToPeer: label.isToPeer, serial: label.serial)
        if !isNew { faults.append("\(label) came out twice") }
    }

    private func receiveAtPeer(_ packet: [UInt8]) {
        if packet.withUnsafeBytes({ bank.receiveMessage($0, now: now) }) != nil { return }
        var octets = packet
        let verdict = octets.withUnsafeMutableBytes { bytes -> PeerVerdict? in
            guard let base = bytes.baseAddress else { return nil }
            return bank.open(
                base, capacity: bytes.count, offset: 0, length: bytes.count, now: now)
        }
        switch verdict {
        case .delivered(let tunnel, let serial):
            note(InnerLabel(tunnel: tunnel, isToPeer: true, serial: serial))
        case .dropped(let reason): peerDrops[reason, default: 0] += 1
        case .misdelivered(let tunnel): faults.append("\(tunnel) got what was not for it")
        case nil: faults.append("an empty packet")
        }
    }

    private func sendTraffic(_ peer: Int) {
        guard now < trafficUntil else { return }
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: 2048, alignment: 64)
        defer { buffer.deallocate() }
        let place = bank.seal(
            peer, into: buffer, capacity: 2048, offset: 128, payloadBytes: 40, now: now)
        if let place {
            let packet = UnsafeRawBufferPointer(start: buffer + place.offset, count: place.length)
            send(Array(packet), toGateway: true)
        }
        if let packet = station.seal(toPeer: peer, serial: serverSerials[peer] + 1, now: now) {
            serverSerials[peer] += 1
            noteSent(packet)
            send(packet, toGateway: false)
        }
    }

    private func noteSent(_ packet: [UInt8]) {
        guard let packet = packet.withUnsafeBytes({ bank.inspect($0) }) else {
            faults.append("the gateway sent what is no peer's")
            return
        }
        let verdict = sent.note(
            association: packet.association, sequence: packet.sequence,
            generation: packet.generation ?? 0)
        if verdict != .new { faults.append("\(packet): \(verdict)") }
    }

    private func noteMessage(_ packet: [UInt8]) {
        packet.withUnsafeBytes { octets in
            guard let (message, _) = IKEPacket.read(octets) else { return }
            let verdict = messages.note(message)
            verdicts[verdict, default: 0] += 1
            switch verdict {
            case .unprotected, .new, .again: break
            default: faults.append("a message is \(verdict)")
            }
        }
    }

    /// Brings what both ends want to send under way, and plans their next steps.
    private func carry() {
        for (_, packet) in bank.takeOutgoing() {
            noteMessage(packet)
            send(packet, toGateway: true)
        }
        for packet in station.outgoing {
            noteMessage(packet)
            send(packet, toGateway: false)
        }
        station.outgoing = []
        for peer in 0..<bank.count {
            let time = bank.deadline(of: peer)
            if time != .max { schedule(max(time, now), peer) }
        }
        if let time = station.endpoint.deadline, time < gatewayPlanned {
            gatewayPlanned = max(time, now)
            queue.push(at: gatewayPlanned, .gateway)
        }
    }

    private var gatewayPlanned: UInt64 = .max
    private lazy var planned = [UInt64](repeating: .max, count: bank.count)

    private func schedule(_ time: UInt64, _ peer: Int) {
        guard time < planned[peer] else { return }
        planned[peer] = time
        queue.push(at: time, .peer(peer))
    }

    private func send(_ packet: [UInt8], toGateway: Bool) {
        let arrivals =
            toGateway
            ? uplink.arrivals(sentAt: now, &random) : downlink.arrivals(sentAt: now, &random)
        for time in [arrivals.first, arrivals.second].compactMap({ $0 }) {
            queue.push(at: time, toGateway ? .toGateway(packet) : .toPeer(packet))
        }
    }
}
