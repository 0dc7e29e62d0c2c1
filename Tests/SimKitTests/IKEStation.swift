// A gateway that is one endpoint and one slab, without a cluster around it: what peers meet in the
// tests of a bank.

import Crypto
import ESP
import IKEStub
import Testing
import Wire

@testable import SimKit

/// Answers peers, and begins with those that wait for it.
final class IKEStation {
    struct Pair {
        let peer: Int
        let inbound: SPI
        let outbound: SPI
        let receives: AssociationHandle
        let sends: AssociationHandle
        var isWaiting: Bool
    }

    static let room = 2048
    let bank: IKEPeerBank
    let environment: IKEEnvironment
    let endpoint: IKEEndpoint
    var pairs: [Pair] = []
    /// Of each peer: the pairs that may send, the last one does.
    var senders: [[SPI]]
    var outgoing: [[UInt8]] = []
    var reports: [IKEReport] = []
    private var slab: AssociationSlab
    private var engine: ESPEngine
    private let memory = UnsafeMutableRawPointer.allocate(byteCount: room, alignment: 64)
    private let batch = UnsafeMutableBufferPointer<PacketDescriptor>.allocate(capacity: 1)

    init(_ bank: IKEPeerBank, library: CryptoLibrary, random: SimulationRandom) {
        self.bank = bank
        environment = IKEEnvironment(
            library: library, configuration: bank.gatewayConfiguration,
            random: SimulationRandomSource(random), resources: LocalResources(capacity: 4096))
        endpoint = IKEEndpoint(environment, now: 0)
        senders = Array(repeating: [], count: bank.count)
        slab = AssociationSlab(capacity: 8192, catalogue: AssociationCatalogue())
        engine = ESPEngine(library: library, keyedContexts: 16)
    }

    deinit {
        memory.deallocate()
        batch.deallocate()
    }

    private func seconds(_ now: UInt64) -> Int64 { IKEPeerBank.seconds(now) }

    // MARK: IKE

    func begin(_ peer: Int, now: UInt64) throws {
        let (_, outcome) = try #require(
            endpoint.initiate(
                IKEPeerPlan.name(peer), child: IKEPeerBank.policy,
                path: IKEPeerBank.gatewayPath(of: peer), now: now, seconds: seconds(now)))
        try perform(outcome)
    }

    func advance(now: UInt64) throws {
        try perform(endpoint.advance(to: now, seconds: seconds(now)))
    }

    private func perform(_ outcome: IKEOutcome) throws {
        for event in outcome.events {
            switch event {
            case .send(let messages, let path):
                outgoing += messages.map { IKEPacket.octets($0, path) }
            case .keepalive(let path): outgoing.append(IKEPacket.keepalive(path))
            case .install(let child): try install(child)
            case .sendThrough(let spi): beginSending(spi)
            case .firstContact: break
            case .linger(let spi):
                for peer in senders.indices { senders[peer].removeAll { $0 == spi } }
            case .remove(let spi): remove(spi)
            case .redirect, .advanceSequence, .established, .closed: break
            case .report(let report): reports.append(report)
            }
        }
    }

    private func install(_ child: NewChild) throws {
        let peer = try #require(bank.peer(at: child.outbound.parameters.destination))
        let pair = Pair(
            peer: peer, inbound: child.inbound.parameters.spi,
            outbound: child.outbound.parameters.spi,
            receives: try slab.insert(
                child.inbound, distributionIdentifier: 0, ivGeneration: 5),
            sends: try slab.insert(child.outbound, distributionIdentifier: 0, ivGeneration: 5),
            isWaiting: !child.isReadyToSend)
        pairs.append(pair)
        if child.isReadyToSend { beginSending(pair.inbound) }
    }

    private func beginSending(_ spi: SPI) {
        guard let place = pairs.firstIndex(where: { $0.inbound == spi }) else { return }
        pairs[place].isWaiting = false
        senders[pairs[place].peer].removeAll { $0 == spi }
        senders[pairs[place].peer].append(spi)
    }

    private func remove(_ spi: SPI) {
        guard let place = pairs.firstIndex(where: { $0.inbound == spi }) else { return }
        let pair = pairs.remove(at: place)
        senders[pair.peer].removeAll { $0 == spi }
        for handle in [pair.receives, pair.sends] {
            engine.forget(handle, in: slab)
            slab.remove(handle)
        }
    }

    // MARK: Packets

    /// Takes a packet of a peer; the label of the inner packet, if one comes out.
    func receive(_ packet: [UInt8], now: UInt64) throws -> InnerLabel? {
        let location: ESPLocation? = try packet.withUnsafeBytes { octets in
            let base = try #require(octets.baseAddress)
            switch OuterPacket.classify(at: base, count: octets.count) {
            case .esp(let location): return location
            case .ike:
                let (message, path) = try #require(IKEPacket.read(octets))
                try perform(
                    endpoint.receive(message, path: path, now: now, seconds: seconds(now)))
                return nil
            case .natKeepalive: return nil
            default:
                Issue.record("a peer sent something else")
                return nil
            }
        }
        guard let location, let pair = pairs.first(where: { $0.inbound == location.spi }) else {
            return nil
        }
        memory.copyMemory(from: packet, byteCount: packet.count)
        var descriptor = PacketDescriptor(
            buffer: memory, capacity: Self.room, offset: 0, length: packet.count)
        descriptor.location = location
        descriptor.slot = pair.receives.index
        batch.initializeElement(at: 0, to: descriptor)
        engine.decapsulate(batch, slab: slab, nowNanoseconds: now)
        guard batch[0].drop == nil else { return nil }
        let label = InnerPacket.read(batch[0].packet)
        try hear(pair, now: now)
        return label
    }

    private func hear(_ pair: Pair, now: UInt64) throws {
        (environment.resources as? LocalResources).map {
            var resources = $0
            resources.noteReceived(pair.inbound, at: now)
            environment.resources = resources
        }
        guard pair.isWaiting, let owner = endpoint.localSPI(ofChild: pair.inbound) else { return }
        try perform(endpoint.noteReceived(pair.inbound, localSPI: owner))
    }

    /// Seals what a server sends to a peer's user; nil: no pair can send.
    func seal(toPeer peer: Int, serial: UInt64, now: UInt64) -> [UInt8]? {
        guard let spi = senders[peer].last, let pair = pairs.first(where: { $0.inbound == spi })
        else { return nil }
        let length = bank.innerPacket(
            toPeer: peer, serial: serial, into: memory + 128, payloadBytes: 40)
        var descriptor = PacketDescriptor(
            buffer: memory, capacity: Self.room, offset: 128, length: length)
        descriptor.slot = pair.sends.index
        batch.initializeElement(at: 0, to: descriptor)
        engine.encapsulate(batch, slab: slab, nowNanoseconds: now)
        guard batch[0].drop == nil else { return nil }
        return Array(batch[0].packet)
    }
}
