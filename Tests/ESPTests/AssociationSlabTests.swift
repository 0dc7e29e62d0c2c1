import Crypto
import TestSupport
import Testing
import Wire

@testable import ESP

private func selector(_ text: String, _ length: Int, _ ipProtocol: UInt8 = 0) -> TrafficSelector? {
    guard let range = IPAddress(text)?.prefixRange(length: length) else { return nil }
    return TrafficSelector(first: range.first, last: range.last, ipProtocol: ipProtocol)
}

/// One of each way a record keeps selectors.
private func selectorKinds() throws -> [(AssociationRecord.SelectorKind, AssociationSelectors)] {
    let ten = try #require(selector("10.1.2.3", 8))
    let host = try #require(selector("10.9.8.7", 32))
    let udp = try #require(selector("192.168.0.0", 16, 17))
    let other = try #require(selector("172.16.0.0", 12, 17))
    let six = try #require(selector("2001:db8::", 32))
    let ports = try #require(
        TrafficSelector(
            first: ten.first, last: ten.last, ipProtocol: 6, firstPort: 80, lastPort: 90))
    return [
        (.any, .any), (.ipv4Prefixes, AssociationSelectors(source: [ten], destination: [host])),
        (.ipv4Prefixes, AssociationSelectors(source: [udp], destination: [other])),
        (.list, AssociationSelectors(source: [ten], destination: [udp])),
        (.list, AssociationSelectors(source: [ten])),
        (.list, AssociationSelectors(destination: [ten])),
        (.list, AssociationSelectors(source: [ten, six, ports], destination: [six, ten])),
        (.list, AssociationSelectors(source: [six], destination: [six])),
    ]
}

@Suite struct AssociationSlabTests {
    // What would fool us: two handles that look alike because a slot was used again.
    @Test func agreesWithADictionary() throws {
        var random = SeededGenerator()
        let capacity = 12
        let station = try Station(capacity: capacity)
        var model: [AssociationHandle: UInt32] = [:]
        var gone: Set<AssociationHandle> = []
        var spi: UInt32 = 0x1000
        for _ in 0..<2_000 {
            if Int.random(in: 0..<5, using: &random) < 3 {
                spi += 1
                do {
                    let handle = try station.add(parameters(spi))
                    #expect(model[handle] == nil && !gone.contains(handle))
                    model[handle] = spi
                } catch {
                    #expect(error as? SlabError == .full(capacity: capacity))
                    #expect(model.count == capacity)
                }
            } else if let handle = model.keys.sorted(by: { $0.index < $1.index })
                .randomElement(using: &random)
            {
                station.slab.remove(handle)
                model[handle] = nil
                gone.insert(handle)
            }
            #expect(station.slab.count == model.count)
            for (handle, spi) in model {
                #expect(station.isCurrent(handle))
                #expect(station.status(handle).spi == SPI(spi))
                #expect(station.handle(at: handle.index) == handle)
            }
            for handle in gone { #expect(!station.isCurrent(handle)) }
        }
        #expect(gone.count > 500)
        for index in 0..<UInt32(capacity + 3) {
            let expected = model.keys.first { $0.index == index }
            #expect(station.handle(at: index) == expected)
        }
        #expect(!station.isCurrent(AssociationHandle(index: .max, generation: 1)))
    }

    // What would fool us: a record that is marked free, with its keys still in memory.
    @Test(arguments: Transform.all)
    func memoryIsWipedOnRemoval(_ transform: Transform) throws {
        let station = try Station(capacity: 2)
        var wanted = parameters(0x1001, .inbound, transform)
        wanted.replayWindow = 128
        let handle = try station.add(wanted)
        let keys = keyOctets(wanted.spi, transform)
        let keyBytes = transform.keyBytes + transform.integrityKeyBytes
        #expect(contains(station.recordOctets(handle), keys[..<keyBytes]))
        station.slab.remove(handle)
        let record = station.record(handle).pointee
        #expect(record.generation == handle.generation && record.next == .max)
        var left = station.recordOctets(handle)
        for range in [8..<12, 248..<252] {
            left.replaceSubrange(range, with: repeatElement(0, count: range.count))
        }
        #expect(left == Array(repeating: 0, count: 256))
    }

    // A removed slot in the middle of a copied record is as clean.
    @Test func linksAreWhereTheWipeTestLooks() {
        #expect(MemoryLayout<AssociationRecord>.offset(of: \.generation) == 8)
        #expect(MemoryLayout<AssociationRecord>.offset(of: \.next) == 248)
    }

    @Test func dropCountersStartAtZeroInAUsedSlot() throws {
        let station = try Station(capacity: 1)
        let first = try station.add(parameters(0x1001, .outbound))
        for _ in 0..<3 { #expect(station.seal([1, 2, 3], first).drop == .innerMalformed) }
        #expect(station.drops(first)[.innerMalformed] == 3)
        #expect(station.engine.drops[.innerMalformed] == 3)
        station.engine.forget(first, in: station.slab)
        station.slab.remove(first)
        let second = try station.add(parameters(0x1002, .outbound))
        #expect(second.index == first.index && second != first)
        #expect(station.drops(second) == DropCounters())
        #expect(station.engine.drops[.innerMalformed] == 3)
        // Without a refusal, there is nothing to reset, and the mark says so.
        #expect(station.record(second).pointee.marks == [])
    }

    @Test(arguments: Transform.all)
    func parametersAndKeysComeBack(_ transform: Transform) throws {
        for mode in [Mode.tunnel, .transport] {
            for family in [IPAddress.Family.v4, .v6] {
                for (kind, selectors) in try selectorKinds() {
                    for direction in [Direction.inbound, .outbound] {
                        var wanted = parameters(
                            0xABCD_0001, direction, mode: mode, transform, family: family)
                        wanted.selectors = selectors
                        try expectRoundTrip(wanted, kind)
                    }
                }
            }
        }
    }

    @Test(arguments: [32, 64, 192, 193, 256, 1024, 4096])
    func everyOtherParameterComesBack(window: Int) throws {
        var wanted = parameters(0xABCD_0001, .inbound)
        wanted.usesESN = true
        wanted.replayWindow = window
        wanted.udp = UDPPorts(source: 4500, destination: 61_234)
        wanted.lifetimes.softPackets = 3
        wanted.lifetimes.hardNanoseconds = 1 << 60
        wanted.headers.dscp = 46
        wanted.headers.hopLimit = nil
        wanted.headers.dontFragment = .clear
        wanted.headers.ecn = .compatibility
        wanted.headers.decrementsInnerHopLimit = true
        wanted.headers.tfcBytes = 512
        wanted.headers.pathMTU = 1400
        wanted.firstSequence = 1 << 33
        wanted.createdNanoseconds = 77
        try expectRoundTrip(wanted, .any)
    }

    private func expectRoundTrip(
        _ wanted: AssociationParameters, _ kind: AssociationRecord.SelectorKind
    ) throws {
        let station = try Station(capacity: 2)
        let handle = try station.add(wanted, generation: 9)
        #expect(station.record(handle).pointee.selectorKind == kind)
        let back = station.slab.association(of: handle)
        var expected = wanted
        // Only a receiver has a window.
        if wanted.direction == .outbound { expected.replayWindow = 0 }
        #expect(back.parameters == expected)
        let keys = back.secret.withUnsafeBytes { Array($0) }
        #expect(keys == keyOctets(wanted.spi, wanted.transform))
        let status = station.status(handle)
        #expect(status.direction == wanted.direction && status.spi == wanted.spi)
        #expect(status.distributionIdentifier == 7 && status.ivGeneration == 9)
        #expect(status.sequence == wanted.firstSequence - 1)
        #expect(status.packets == 0 && status.bytes == 0)
        // And once more from what came back.
        let again = try station.slab.insert(back, distributionIdentifier: 7, ivGeneration: 9)
        let twice = station.slab.association(of: again)
        #expect(twice.parameters == expected)
    }

    // An association that has used all its numbers is still one that can be told to others.
    @Test(arguments: [false, true])
    func exhaustedAssociationsCanBeCopied(usesESN: Bool) throws {
        let station = try Station(capacity: 2)
        var wanted = parameters(0x1001, .inbound)
        wanted.usesESN = usesESN
        let handle = try station.add(wanted)
        let last = usesESN ? UInt64.max : UInt64(UInt32.max)
        station.record(handle).pointee.sequence = last
        let back = station.slab.association(of: handle)
        let copy = try station.slab.insert(back, distributionIdentifier: 7, ivGeneration: 1)
        #expect(station.status(copy).sequence == last)
    }
}

@Suite struct CheckpointTests {
    /// A receiver that has accepted some numbers, and which.
    private func receiver(
        _ random: inout SeededGenerator, window: Int, usesESN: Bool
    ) throws -> (tunnel: Tunnel, packets: [[UInt8]], accepted: Set<Int>) {
        let tunnel = try Tunnel {
            $0.replayWindow = window
            $0.usesESN = usesESN
            $0.firstSequence = usesESN ? 1 << 32 - 40 : 1
        }
        let packets = try (0..<80).map { _ in try tunnel.seal(IPv4Packet().bytes) }
        var accepted: Set<Int> = []
        for index in packets.indices where index == 70 || Bool.random(using: &random) && index < 70
        {
            #expect(tunnel.open(packets[index]).drop == nil)
            accepted.insert(index)
        }
        return (tunnel, packets, accepted)
    }

    // What would fool us: a copy that knows the highest number only, and takes what lies in the
    // window once more; or two records that share one window.
    @Test(arguments: [32, 64, 192, 193, 1024, 4096], [false, true])
    func copiesRefuseExactlyWhatTheOriginalAccepted(window: Int, usesESN: Bool) throws {
        var random = SeededGenerator()
        let (tunnel, packets, accepted) = try receiver(&random, window: window, usesESN: usesESN)
        let receiver = tunnel.receiver
        // A copy in another slab of the same node, and one told through parameters and checkpoint.
        let near = try Station(catalogue: receiver.slab.catalogue)
        let far = try Station()
        let handles = try (
            near.slab.insert(copying: tunnel.into, from: receiver.slab, ivGeneration: 2),
            far.slab.insert(
                receiver.slab.association(of: tunnel.into), distributionIdentifier: 7,
                ivGeneration: 2)
        )
        let applied = far.slab.apply(receiver.checkpoint(tunnel.into), to: handles.1)
        #expect(applied)
        #expect(near.status(handles.0).ivGeneration == 2)
        for (station, handle) in [(near, handles.0), (far, handles.1)] {
            let before = receiver.status(tunnel.into)
            let copy = station.status(handle)
            #expect(copy.sequence == before.sequence && copy.packets == before.packets)
            #expect(copy.bytes == before.bytes)
            for (index, packet) in packets.enumerated() {
                // An extended number left of the window is taken for one 2^32 later (RFC 4303
                // §A2.1), under which its ICV is wrong.
                let old: DropReason = usesESN ? .integrity : .tooOld
                let expected: DropReason? =
                    70 - index >= window ? old : accepted.contains(index) ? .replayed : nil
                #expect(station.open(packet, handle).drop == expected, "packet \(index)")
            }
            // The original has not moved.
            #expect(receiver.status(tunnel.into) == before)
        }
    }

    @Test func olderCheckpointsChangeNothing() throws {
        var random = SeededGenerator()
        let tunnel = try Tunnel()
        let packets = try (0..<20).map { _ in try tunnel.seal(IPv4Packet().bytes) }
        let copy = try tunnel.receiver.slab.insert(
            tunnel.receiver.slab.association(of: tunnel.into), distributionIdentifier: 7,
            ivGeneration: 1)
        var checkpoints = [tunnel.receiver.checkpoint(tunnel.into)]
        for packet in packets.shuffled(using: &random) {
            _ = tunnel.open(packet)
            checkpoints.append(tunnel.receiver.checkpoint(tunnel.into))
        }
        let latest = checkpoints[20]
        for checkpoint in checkpoints.shuffled(using: &random) + checkpoints.reversed() {
            let isTaken = tunnel.receiver.slab.apply(checkpoint, to: copy)
            #expect(isTaken)
        }
        #expect(tunnel.receiver.checkpoint(copy) == latest)
    }

    @Test func checkpointsOfOthersAreRefused() throws {
        let station = try Station()
        var wide = parameters(0x1002, .inbound)
        wide.replayWindow = 1024
        let one = try station.add(parameters(0x1001, .inbound))
        let two = try station.add(wide)
        var twin = wide
        twin.spi = SPI(0x1001)
        let three = try station.add(twin)
        let before = station.checkpoint(one)
        let taken = (
            station.slab.apply(station.checkpoint(two), to: one),
            station.slab.apply(station.checkpoint(three), to: one)
        )
        #expect(taken == (false, false))
        #expect(station.checkpoint(one) == before)
    }

    // The number before the first counts as received: what an older owner took is refused.
    @Test func firstSequenceSetsTheWindow() throws {
        let tunnel = try Tunnel()
        let packets = try (0..<100).map { _ in try tunnel.seal(IPv4Packet().bytes) }
        var late = parameters(0x1001, .inbound)
        late.firstSequence = 91
        let station = try Station()
        let handle = try station.add(late)
        #expect(station.open(packets[89], handle).drop == .replayed)
        #expect(station.open(packets[88], handle).drop == nil)
        #expect(station.open(packets[10], handle).drop == .tooOld)
        #expect(station.open(packets[90], handle).drop == nil)
    }
}
