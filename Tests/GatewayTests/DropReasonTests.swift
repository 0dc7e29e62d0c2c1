import Cluster
import CryptoCardSim
import ESP
import TestSupport
import Testing
import Wire

@testable import Gateway

/// One refusal, as the counters tell of it.
private struct Evidence {
    let reason: DropReason?
    /// nil: the caller counts, because no card saw the packet.
    var total: DropCounters?
    /// nil: there was no association to count it for.
    var own: DropCounters?
}

/// A node with one association, whose insides a test can write.
private struct Scene {
    let node: Node
    let spi: SPI

    init(
        configuration: (inout GatewayConfiguration) -> Void = { _ in },
        association change: (inout AssociationParameters) -> Void = { _ in }
    ) throws {
        node = try Node(1, configuration)
        try node.take(Allocation(nodes: [NodeID(1)], identifierCount: 16))
        spi = try tunnelSPI(3, 1)
        var wanted = parameters(spi.value, .inbound, .plain)
        change(&wanted)
        let refusal = try node.add(wanted)
        #expect(refusal == nil)
    }

    func packet(
        _ sequence: UInt32 = 1, body: [UInt8]? = nil, trafficClass: UInt8 = 0,
        hasWrongICV: Bool = false
    ) throws -> [UInt8] {
        try craftESP(
            spi.value, sequence: sequence,
            body: body ?? paddedBody(IPv4Packet(payload: []).bytes, next: 4),
            trafficClass: trafficClass, hasWrongICV: hasWrongICV)
    }

    /// Receives packets, the last of which must be refused and all others delivered.
    func receive(_ packets: [[UInt8]], now: UInt64 = 0) -> Evidence {
        var last = PacketVerdict.other
        for (index, packet) in packets.enumerated() {
            last = node.receive([packet], now: now)[0]
            if index + 1 < packets.count { #expect(last == .delivered) }
        }
        guard case .dropped(let reason) = last else { return Evidence(reason: nil) }
        return Evidence(
            reason: reason, total: node.gateway.counters.drops, own: node.drops(spi))
    }
}

/// Sends packets through a session of a card, the last of which must be refused.
private func send(
    _ count: Int = 1, _ change: (inout AssociationParameters) -> Void
) throws -> Evidence {
    let holder = try CardHolder(capacity: 1)
    var wanted = parameters(0x1001)
    change(&wanted)
    let handle = try holder.open(wanted)
    var packet = IPv4Packet()
    packet.ttl = 1
    for _ in 1..<count { _ = holder.send([(packet.bytes, handle)]) }
    guard case .drop(let reason) = holder.send([(packet.bytes, handle)]).results[0] else {
        return Evidence(reason: nil)
    }
    return Evidence(reason: reason, total: holder.card.drops, own: try holder.drops(handle))
}

@Suite struct DropReasonTests {
    // Every reason there is, by the shortest way to it. The switch below has no default: a new
    // reason does not compile before somebody has said how it comes about.
    @Test(arguments: DropReason.allCases)
    func everyReasonComesAboutAndIsCounted(_ reason: DropReason) throws {
        let evidence = try produce(reason)
        #expect(evidence.reason == reason)
        if let total = evidence.total { #expect(total[reason] == 1 && total.total == 1) }
        let isCountedForAssociation = evidence.own.map { $0[reason] == 1 && $0.total == 1 } ?? false
        #expect(isCountedForAssociation == hasAssociation(reason))
        if !hasAssociation(reason), let own = evidence.own { #expect(own.total == 0) }
    }

    /// Is the refusal that of an association?
    private func hasAssociation(_ reason: DropReason) -> Bool {
        switch reason {
        case .malformed, .fragment, .reservedSPI, .unknownSPI, .cardFull, .sessionLost,
            .cardStalled, .cardBusy, .notServing, .noAssociation:
            false
        default: true
        }
    }

    private func produce(_ reason: DropReason) throws -> Evidence {
        switch reason {
        case .malformed, .fragment, .reservedSPI, .unknownSPI: try beforeAnyAssociation(reason)
        case .cardFull, .sessionLost, .cardStalled, .cardBusy: try cardTrouble(reason)
        case .truncated, .sequenceZero, .replayed, .tooOld, .ciphertextLength, .integrity:
            try beforeDecryption(reason)
        case .padding, .dummy, .nextHeader, .innerMalformed, .ecn, .selector:
            try afterDecryption(reason)
        case .noAssociation: try noAssociation()
        case .sequenceExhausted: try send(2) { $0.firstSequence = UInt64(UInt32.max) }
        case .packetTooBig: try send { $0.headers.pathMTU = 100 }
        case .hopLimit: try send { $0.headers.decrementsInnerHopLimit = true }
        case .lifetimePackets, .lifetimeBytes, .lifetimeTime: try lifetimes(reason)
        case .cryptoFailure: try cryptoFailure()
        case .notServing: try notServing()
        case .leaseEnded: try leaseEnded()
        }
    }

    private func beforeAnyAssociation(_ reason: DropReason) throws -> Evidence {
        let scene = try Scene()
        var packet = try scene.packet()
        switch reason {
        case .malformed: packet[0] = 0x44
        case .fragment: packet[6] = 0x20
        case .reservedSPI: packet.replaceSubrange(20..<24, with: [0, 0, 0, 255])
        default: packet.replaceSubrange(20..<24, with: [1, 2, 3, 4])
        }
        return scene.receive([packet])
    }

    private func cardTrouble(_ reason: DropReason) throws -> Evidence {
        let timing = CardTiming(
            latencyNanoseconds: 0, packetNanoseconds: 10, kibibyteNanoseconds: 0,
            queueNanosecondsMaximum: 5)
        let scene = try Scene {
            $0.cardCapacity = 1
            $0.cardTiming = timing
        }
        switch reason {
        case .cardFull:
            // It found no room; the tunnel that did is not concerned.
            let late = try tunnelSPI(4, 1)
            let refusal = try scene.node.add(parameters(late.value, .inbound, .plain))
            #expect(refusal == CardError.full(capacity: 1).description)
            let packet = try craftESP(late.value, sequence: 1, body: paddedBody([], next: 59))
            return scene.receive([packet])
        case .sessionLost: scene.node.gateway.inject(.reset)
        case .cardStalled: scene.node.gateway.inject(.stalled(untilNanoseconds: 1))
        default: return scene.receive([try scene.packet(1), try scene.packet(2)])
        }
        return scene.receive([try scene.packet()])
    }

    private func beforeDecryption(_ reason: DropReason) throws -> Evidence {
        let scene = try Scene()
        switch reason {
        case .truncated: return scene.receive([try scene.packet(body: [])])
        case .sequenceZero: return scene.receive([try scene.packet(0)])
        case .replayed: return scene.receive([try scene.packet(9), try scene.packet(9)])
        case .tooOld: return scene.receive([try scene.packet(65), try scene.packet(1)])
        case .ciphertextLength: return scene.receive([try scene.packet(body: [1, 2, 3, 0, 4])])
        default: return scene.receive([try scene.packet(hasWrongICV: true)])
        }
    }

    private func afterDecryption(_ reason: DropReason) throws -> Evidence {
        let nowhere = IPAddress(v4: 0x0101_0101)
        let selector = try #require(TrafficSelector(first: nowhere, last: nowhere))
        let scene = try Scene(association: {
            if reason == .selector { $0.selectors.source = [selector] }
        })
        let inner = IPv4Packet(payload: []).bytes
        switch reason {
        case .padding: return scene.receive([try scene.packet(body: inner + [1, 3, 2, 4])])
        case .dummy: return scene.receive([try scene.packet(body: [1, 2, 2, 59])])
        case .nextHeader:
            return scene.receive([try scene.packet(body: paddedBody(inner, next: 6))])
        case .innerMalformed:
            return scene.receive([try scene.packet(body: paddedBody(inner, next: 41))])
        case .ecn: return scene.receive([try scene.packet(trafficClass: 3)])
        default: return scene.receive([try scene.packet()])
        }
    }

    /// The sender asks the card which of its sessions may carry the packet, and there is none.
    private func noAssociation() throws -> Evidence {
        let holder = try CardHolder(capacity: 2)
        let nowhere = IPAddress(v4: 0x0101_0101)
        let selector = try #require(TrafficSelector(first: nowhere, last: nowhere))
        var wanted = parameters(0x1001)
        wanted.selectors.destination = [selector]
        let handles = [try holder.open(wanted), CardHandle(index: 1, generation: 1)]
        let choice = holder.first(of: handles, covering: IPv4Packet().bytes)
        return Evidence(reason: choice == nil ? .noAssociation : nil)
    }

    private func lifetimes(_ reason: DropReason) throws -> Evidence {
        let scene = try Scene(association: {
            switch reason {
            case .lifetimePackets: $0.lifetimes.hardPackets = 1
            case .lifetimeBytes: $0.lifetimes.hardBytes = 1
            default: $0.lifetimes.hardNanoseconds = 10
            }
        })
        if reason == .lifetimeTime { return scene.receive([try scene.packet()], now: 10) }
        return scene.receive([try scene.packet(1), try scene.packet(2)])
    }

    private func cryptoFailure() throws -> Evidence {
        let scene = try Scene()
        scene.node.gateway.inject(.keyingFails(count: 1))
        return scene.receive([try scene.packet()])
    }

    /// No member of the cluster vouches for the node any more: somebody else may serve by now.
    private func notServing() throws -> Evidence {
        let scene = try Scene()
        scene.node.mayServe = false
        try scene.node.take(Allocation(nodes: [NodeID(1)], identifierCount: 16).renewing(NodeID(1)))
        return scene.receive([try scene.packet()])
    }

    /// The store was told that numbers up to 2 may be accepted, and no more.
    private func leaseEnded() throws -> Evidence {
        let scene = try Scene(configuration: {
            var sizing = LeaseSizing(policy: .learn)
            sizing.receiveMinimum = 2
            $0.leaseSizing = sizing
        })
        return scene.receive([try scene.packet(1), try scene.packet(2), try scene.packet(3)])
    }
}
