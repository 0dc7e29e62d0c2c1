// Fooled by: peers that agree with themselves only. The gateway here is a slab and an engine that
// know of a tunnel what `gatewayEnd` says, and inner packets are built by the tests' own builder.

import Cluster
import Crypto
import ESP
import SimKit
import TestSupport
import Testing
import Wire

/// A gateway that knows all tunnels of a bank; slot 2n receives from tunnel n, 2n + 1 sends.
private final class LoneGateway {
    static let room = 2048
    var slab: AssociationSlab
    var engine: ESPEngine
    let memory = UnsafeMutableRawPointer.allocate(byteCount: room, alignment: 64)
    private let batch = UnsafeMutableBufferPointer<PacketDescriptor>.allocate(capacity: 1)

    init(_ bank: PeerBank, generation: UInt16 = 9) throws {
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: Self.room)
        slab = AssociationSlab(capacity: bank.count * 2, catalogue: AssociationCatalogue())
        engine = ESPEngine(library: try CryptoLibrary(), keyedContexts: 4)
        for tunnel in 0..<bank.count {
            let end = bank.gatewayEnd(of: tunnel)
            _ = try slab.insert(end.inbound, distributionIdentifier: 0, ivGeneration: generation)
            _ = try slab.insert(end.outbound, distributionIdentifier: 0, ivGeneration: generation)
        }
    }

    deinit {
        memory.deallocate()
        batch.deallocate()
    }

    /// The inner packet, or why there is none.
    func open(_ lies: (offset: Int, length: Int), _ tunnel: Int) -> Result<[UInt8], Refusal> {
        var descriptor = PacketDescriptor(
            buffer: memory, capacity: Self.room, offset: lies.offset, length: lies.length)
        guard
            case .esp(let location) = OuterPacket.classify(
                at: memory + lies.offset, count: lies.length)
        else { return .failure(Refusal(reason: nil)) }
        descriptor.location = location
        descriptor.slot = UInt32(tunnel * 2)
        batch.initializeElement(at: 0, to: descriptor)
        engine.decapsulate(batch, slab: slab, nowNanoseconds: 0)
        if let reason = batch[0].drop { return .failure(Refusal(reason: reason)) }
        return .success(Array(batch[0].packet))
    }

    func seal(_ inner: [UInt8], _ tunnel: Int) -> (offset: Int, length: Int)? {
        (memory + 128).copyMemory(from: inner, byteCount: inner.count)
        var descriptor = PacketDescriptor(
            buffer: memory, capacity: Self.room, offset: 128, length: inner.count)
        descriptor.slot = UInt32(tunnel * 2 + 1)
        batch.initializeElement(at: 0, to: descriptor)
        engine.encapsulate(batch, slab: slab, nowNanoseconds: 0)
        return batch[0].drop == nil ? (batch[0].offset, batch[0].length) : nil
    }

    func octets(_ lies: (offset: Int, length: Int)) -> [UInt8] {
        Array(UnsafeRawBufferPointer(start: memory + lies.offset, count: lies.length))
    }
}

private struct Refusal: Error, Equatable { let reason: DropReason? }

@Suite struct PeerBankTests {
    private func bank(
        _ tunnels: Int, _ transforms: [Transform] = [.gcm], window: Int = 64, esn: Bool = false,
        seed: UInt64 = 1
    ) throws -> PeerBank {
        let key = CookieKey(multipliers: SIMD4(3, 5, 7, 9), offset: 11)
        return try PeerBank(
            tunnels: tunnels, distribution: try Distribution(cookieKey: key),
            transforms: transforms, windowBits: window, usesESN: esn,
            random: SimulationRandom(seed: seed))
    }

    /// What the tests' own builder makes of the inner packet's headers.
    private func headers(from source: UInt32, to destination: UInt32, body: [UInt8]) -> [UInt8] {
        var packet = IPv4Packet(payload: udpDatagram(from: 10000, to: 10000, body))
        packet.source = source
        packet.destination = destination
        packet.identification = 0
        packet.fragment = 0x4000
        return packet.bytes
    }

    @Test(arguments: [false, true])
    func gatewaysOpenWhatPeersSeal(esn: Bool) throws {
        let transforms = esn ? Transform.kinds.filter(\.usesCounterIV) : Transform.kinds
        let bank = try bank(12, transforms, esn: esn)
        let gateway = try LoneGateway(bank)
        for round in 1...3 as ClosedRange<UInt64> {
            for tunnel in 0..<12 {
                let payload = 16 + tunnel * 9
                let lies = try #require(
                    bank.seal(
                        tunnel, into: gateway.memory, capacity: 2048, offset: 128,
                        payloadBytes: payload, now: 0))
                let outer = gateway.octets(lies)
                #expect(SPI(number(outer[20..<24])) == bank.gatewaySPI(of: tunnel))
                #expect(bank.sequence(of: tunnel) == round && bank.serial(of: tunnel) == round)
                let inner = try gateway.open(lies, tunnel).get()
                let label = InnerLabel(tunnel: tunnel, isToPeer: false, serial: round)
                #expect(inner.withUnsafeBytes { bank.readInner($0) } == label)
                #expect(
                    inner
                        == headers(
                            from: 0x0A00_0001 + UInt32(tunnel), to: 0x0AFF_0001,
                            body: Array(inner[28...])))
                #expect(inner.count == 28 + payload)
            }
        }
    }

    @Test func peersOpenOnceWhatGatewaysSeal() throws {
        let bank = try bank(16, Transform.kinds)
        let gateway = try LoneGateway(bank, generation: 513)
        for tunnel in 0..<16 {
            let length = bank.innerPacket(
                toPeer: tunnel, serial: 77, into: gateway.memory, payloadBytes: 64)
            let inner = gateway.octets((0, length))
            #expect(
                inner
                    == headers(
                        from: 0x0AFF_0001, to: bank.hostAddress(of: tunnel),
                        body: Array(inner[28...])))
            let lies = try #require(gateway.seal(inner, tunnel))
            let outer = gateway.octets(lies)
            let sent = try #require(outer.withUnsafeBytes { bank.inspect($0) })
            let counts = bank.transform(of: tunnel).usesCounterIV
            #expect(sent.tunnel == tunnel && sent.sequence == 1)
            #expect(sent.generation == (counts ? 513 : nil))
            if counts {
                var otherIV = outer
                otherIV[35] ^= 1
                #expect(otherIV.withUnsafeBytes { bank.inspect($0) } == nil, "IV and number differ")
            }
            func arrive(_ packet: [UInt8]) -> PeerVerdict {
                (gateway.memory + lies.offset).copyMemory(
                    from: packet, byteCount: packet.count)
                return bank.open(
                    gateway.memory, capacity: 2048, offset: lies.offset, length: packet.count,
                    now: 0)
            }
            var broken = outer
            broken[outer.count - 1] ^= 1
            #expect(arrive(broken) == .dropped(.integrity))
            #expect(arrive(outer) == .delivered(tunnel: tunnel, serial: 77))
            #expect(arrive(outer) == .dropped(.replayed))
            #expect(bank.highestReceived(of: tunnel) == 1)
        }
        #expect(bank.drops[.replayed] == 16 && bank.drops[.integrity] == 16)
    }

    /// What only a wrong gateway would send.
    @Test func wrongPacketsAreFoundOut() throws {
        let bank = try bank(3)
        let gateway = try LoneGateway(bank)
        func inner(_ tunnel: Int, _ label: InnerLabel, changing place: Int? = nil) -> [UInt8] {
            var packet = [UInt8](repeating: 0, count: InnerPacket.length(payloadBytes: 61))
            packet.withUnsafeMutableBytes {
                guard let base = $0.baseAddress else { return }
                InnerPacket.write(
                    label, source: 0x0AFF_0001, destination: bank.hostAddress(of: tunnel),
                    into: base, payloadBytes: 61)
            }
            if let place { packet[place] ^= 0x40 }
            return packet
        }
        func verdict(_ packet: [UInt8], _ tunnel: Int) -> PeerVerdict? {
            guard let lies = gateway.seal(packet, tunnel) else { return nil }
            return bank.open(
                gateway.memory, capacity: 2048, offset: lies.offset, length: lies.length, now: 0)
        }
        let good = InnerLabel(tunnel: 1, isToPeer: true, serial: 5)
        #expect(verdict(inner(1, good), 1) == .delivered(tunnel: 1, serial: 5))
        #expect(verdict(inner(1, good), 2) == nil, "selectors refuse another tunnel's user")
        let other = InnerLabel(tunnel: 2, isToPeer: true, serial: 5)
        #expect(verdict(inner(1, other), 1) == .misdelivered(tunnel: 1))
        let back = InnerLabel(tunnel: 1, isToPeer: false, serial: 5)
        #expect(verdict(inner(1, back), 1) == .misdelivered(tunnel: 1))
        for place in 28..<89 {
            let changed = verdict(inner(1, good, changing: place), 1)
            #expect(changed == .misdelivered(tunnel: 1), "octet \(place)")
        }
        // Another peer's key.
        let stranger = try LoneGateway(try self.bank(3, seed: 2))
        let lies = try #require(
            bank.seal(
                0, into: stranger.memory, capacity: 2048, offset: 128, payloadBytes: 16, now: 0))
        #expect(stranger.open(lies, 0) == .failure(Refusal(reason: .integrity)))
    }

    @Test func spisAreUniqueAndSpread() throws {
        let bank = try bank(20_000)
        let gateways = (0..<20_000).map { bank.gatewaySPI(of: $0) }
        #expect(Set(gateways).count == 20_000 && !gateways.contains(where: \.isReserved))
        #expect(Set((0..<20_000).map { bank.peerSPI(of: $0) }).count == 20_000)
        var counts = [Int](repeating: 0, count: 256)
        for tunnel in 0..<20_000 { counts[Int(bank.identifier(of: tunnel).value)] += 1 }
        // 78 each, give or take six standard deviations.
        #expect(counts.allSatisfy { (25...131).contains($0) })
        #expect(bank.tunnel(ofGatewaySPI: gateways[17]) == 17)
        #expect(bank.tunnel(ofGatewaySPI: SPI(0)) == nil)
        #expect(bank.hostAddress(of: 19_999) == 0x0A00_4E20)
    }

    @Test func oneSeedGivesTheSameOctets() throws {
        func octets(_ seed: UInt64, _ tunnel: Int) throws -> [UInt8] {
            let bank = try bank(3, seed: seed)
            var memory = [UInt8](repeating: 0, count: 512)
            return try memory.withUnsafeMutableBytes { memory in
                let base = try #require(memory.baseAddress)
                let lies = try #require(
                    bank.seal(
                        tunnel, into: base, capacity: 512, offset: 128, payloadBytes: 64, now: 0))
                return Array(memory[lies.offset..<lies.offset + lies.length])
            }
        }
        #expect(try octets(5, 1) == octets(5, 1))
        #expect(try octets(5, 1) != octets(6, 1))
    }

    @Test func anyOctetsAreRefusedQuietly() throws {
        var generator = SeededGenerator()
        let bank = try bank(2, [.gcm, .plain])
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 512, alignment: 64)
        defer { memory.deallocate() }
        for round in 0..<4000 {
            var packet = generator.bytes(Int(generator.next() % 120))
            // Half of them look like ESP of a tunnel.
            if round % 2 == 0, packet.count >= 28 {
                var shell = IPv4Packet(
                    payload: bigEndian(bank.peerSPI(of: round / 2 % 2).value)
                        + packet.dropFirst(24))
                shell.transport = 50
                packet = shell.bytes
            }
            packet.withUnsafeBytes { octets in
                #expect(bank.readInner(octets) == nil)
                _ = bank.inspect(octets)
                if let base = octets.baseAddress {
                    memory.copyMemory(from: base, byteCount: octets.count)
                }
            }
            guard
                case .dropped = bank.open(
                    memory, capacity: 512, offset: 0, length: packet.count, now: 0)
            else {
                Issue.record("random octets were taken")
                return
            }
        }
    }
}
