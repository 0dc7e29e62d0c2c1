// The far ends of all tunnels of a simulated cluster. They really encrypt, decrypt and check for
// replays, so that whatever gateways get wrong shows at the place where it would hurt.

public import Cluster
public import Crypto
public import ESP
public import Wire

/// What a far end made of a packet.
public enum PeerVerdict: Hashable, Sendable {
    /// Accepted: an inner packet for this tunnel's user.
    case delivered(tunnel: Int, serial: UInt64)
    /// Refused, as a real peer would.
    case dropped(DropReason)
    /// Accepted, but it holds what its tunnel must not carry: another tunnel's packet, one of the
    /// other direction, or changed octets.
    case misdelivered(tunnel: Int)
}

/// What can be read off an ESP packet of a gateway without its keys.
public struct SentPacket: Hashable, Sendable {
    /// The tunnel.
    public let tunnel: Int
    /// The association, among all that a run ever has: it names the key.
    public let association: Int
    /// The sequence number, as far as the packet tells it: all of it under a counter mode.
    public let sequence: UInt64
    /// The sender's generation in the IV; nil unless the transform is a counter mode.
    public let generation: UInt16?
}

/// A tunnel as its gateway knows it.
public struct GatewayEnd: ~Copyable {
    /// From the peer to the gateway.
    public let inbound: SecurityAssociation
    /// From the gateway to the peer.
    public let outbound: SecurityAssociation
}

/// The far ends of tunnels 0..<count, on one slab and one engine.
///
/// Tunnel n's user has the address 10.0.0.1 + n and talks with the protected net 10.255.0.0/16. Its
/// outer address is 100.64.0.1 + n (RFC 6598's range), the cluster's is 192.0.2.1. SPIs and keys
/// follow from the random stream; no key is kept outside the slab.
public final class PeerBank {
    /// How many tunnels there may be.
    public static let tunnelsMaximum = 1 << 20
    /// The cluster's outer address.
    public static let gatewayAddress = IPAddress(v4: 0xC000_0201)
    /// The server in the protected net.
    public static let serverAddress: UInt32 = 0x0AFF_0001

    /// How many tunnels there are.
    public let count: Int
    private let distribution: Distribution
    private let transforms: [Transform]
    private let windowBits: Int
    private let usesESN: Bool
    private let random: SimulationRandom
    /// By tunnel; the gateway receives under the first, the peer under the second.
    private var gatewaySPIs: [SPI] = []
    private var peerSPIs: [SPI] = []
    /// The serial of the last packet sealed, by tunnel.
    private var serials: [UInt64]
    /// Tunnel n's inbound association is in slot 2n, its outbound one in slot 2n + 1.
    private var slab: AssociationSlab
    private var engine: ESPEngine
    private var tunnelOfPeerSPI: SPIIndex
    private var tunnelOfGatewaySPI: SPIIndex
    private let batch: UnsafeMutableBufferPointer<PacketDescriptor>

    /// Makes the tunnels; tunnel n has transform n modulo their number. `usesESN`: all tunnels have
    /// extended sequence numbers. Throws when OpenSSL can't serve.
    ///
    /// Preconditions: 1…`tunnelsMaximum` tunnels; at least one transform; a window of 0 (off) or
    /// 32…4096; with extended numbers a window and counter modes only, whose IV shows the number.
    public init(
        tunnels: Int, distribution: Distribution, transforms: [Transform], windowBits: Int,
        usesESN: Bool = false, random: SimulationRandom,
        keyedContexts: Int = ESPEngine.defaultKeyedContexts
    ) throws(CryptoError) {
        precondition((1...Self.tunnelsMaximum).contains(tunnels) && !transforms.isEmpty)
        precondition(!usesESN || transforms.allSatisfy(\.usesCounterIV))
        count = tunnels
        self.distribution = distribution
        self.transforms = transforms
        self.windowBits = windowBits
        self.usesESN = usesESN
        self.random = random
        serials = Array(repeating: 0, count: tunnels)
        slab = AssociationSlab(capacity: tunnels * 2, catalogue: AssociationCatalogue())
        engine = ESPEngine(library: try CryptoLibrary(), keyedContexts: keyedContexts)
        tunnelOfPeerSPI = SPIIndex(capacity: tunnels)
        tunnelOfGatewaySPI = SPIIndex(capacity: tunnels)
        batch = .allocate(capacity: 1)
        chooseSPIs()
        for tunnel in 0..<tunnels {
            insert(tunnel, isToPeer: true)
            insert(tunnel, isToPeer: false)
        }
    }

    deinit { batch.deallocate() }

    // MARK: Tunnels

    /// The SPI under which the gateway receives: it names the tunnel.
    public func gatewaySPI(of tunnel: Int) -> SPI { gatewaySPIs[tunnel] }

    /// The SPI under which the peer receives.
    public func peerSPI(of tunnel: Int) -> SPI { peerSPIs[tunnel] }

    /// The distribution identifier of the tunnel.
    public func identifier(of tunnel: Int) -> DistributionIdentifier {
        distribution.identifier(of: gatewaySPIs[tunnel])
    }

    /// The algorithms of the tunnel.
    public func transform(of tunnel: Int) -> Transform { transforms[tunnel % transforms.count] }

    /// The tunnel that the gateway's SPI names; nil: none.
    public func tunnel(ofGatewaySPI spi: SPI) -> Int? { tunnelOfGatewaySPI.find(spi).map(Int.init) }

    /// The inner address of the tunnel's user.
    public func hostAddress(of tunnel: Int) -> UInt32 {
        0x0A00_0001 &+ UInt32(truncatingIfNeeded: tunnel)
    }

    /// The tunnel's associations as they were agreed upon, from the gateway's point of view.
    public func gatewayEnd(of tunnel: Int) -> GatewayEnd {
        GatewayEnd(
            inbound: association(tunnel, isToPeer: false, isGateway: true),
            outbound: association(tunnel, isToPeer: true, isGateway: true))
    }

    // MARK: Packets

    /// Writes the next inner packet of a tunnel's user at `offset` of `buffer` and seals it, with
    /// `ESPOverhead` around it; returns where the outer packet lies. Nil: no number is left.
    /// Precondition: `InnerPacket` allows `payloadBytes`, and it all fits into `capacity` octets.
    public func seal(
        _ tunnel: Int, into buffer: UnsafeMutableRawPointer, capacity: Int, offset: Int,
        payloadBytes: Int, now: UInt64
    ) -> (offset: Int, length: Int)? {
        let length = InnerPacket.length(payloadBytes: payloadBytes)
        var descriptor = PacketDescriptor(
            buffer: buffer, capacity: capacity, offset: offset, length: length)
        InnerPacket.write(
            InnerLabel(tunnel: tunnel, isToPeer: false, serial: serials[tunnel] &+ 1),
            source: hostAddress(of: tunnel), destination: Self.serverAddress,
            into: buffer + offset, payloadBytes: payloadBytes)
        descriptor.slot = UInt32(truncatingIfNeeded: Self.slot(tunnel, isToPeer: false))
        batch.initializeElement(at: 0, to: descriptor)
        engine.encapsulate(batch, slab: slab, nowNanoseconds: now)
        guard batch[0].drop == nil else { return nil }
        serials[tunnel] &+= 1
        return (batch[0].offset, batch[0].length)
    }

    /// Writes at `buffer` what a server in the protected net sends to a tunnel's user; returns its
    /// length. Precondition: `InnerPacket` allows `payloadBytes`, and the memory has room for it.
    public func innerPacket(
        toPeer tunnel: Int, serial: UInt64, into buffer: UnsafeMutableRawPointer, payloadBytes: Int
    ) -> Int {
        InnerPacket.write(
            InnerLabel(tunnel: tunnel, isToPeer: true, serial: serial),
            source: Self.serverAddress, destination: hostAddress(of: tunnel), into: buffer,
            payloadBytes: payloadBytes)
        return InnerPacket.length(payloadBytes: payloadBytes)
    }

    /// Takes an outer packet that a gateway sent, in place.
    public func open(
        _ buffer: UnsafeMutableRawPointer, capacity: Int, offset: Int, length: Int, now: UInt64
    ) -> PeerVerdict {
        var descriptor = PacketDescriptor(
            buffer: buffer, capacity: capacity, offset: offset, length: length)
        switch OuterPacket.classify(at: buffer + offset, count: length) {
        case .esp(let location): descriptor.location = location
        case .fragment: return .dropped(.fragment)
        case .malformed(.truncated): return .dropped(.truncated)
        default: return .dropped(.malformed)
        }
        guard let location = descriptor.location, let found = tunnelOfPeerSPI.find(location.spi)
        else { return .dropped(.unknownSPI) }
        let tunnel = Int(found)
        descriptor.slot = UInt32(truncatingIfNeeded: Self.slot(tunnel, isToPeer: true))
        batch.initializeElement(at: 0, to: descriptor)
        engine.decapsulate(batch, slab: slab, nowNanoseconds: now)
        if let reason = batch[0].drop { return .dropped(reason) }
        guard let label = InnerPacket.read(batch[0].packet), label.isToPeer,
            label.tunnel == tunnel
        else { return .misdelivered(tunnel: tunnel) }
        return .delivered(tunnel: tunnel, serial: label.serial)
    }

    /// The label of an inner packet, wherever it arrived; nil when it is none or was changed.
    public func readInner(_ packet: UnsafeRawBufferPointer) -> InnerLabel? {
        InnerPacket.read(packet)
    }

    /// Reads off an outer packet what a gateway used for it; nil when it is no ESP packet of these
    /// tunnels, or its IV does not hold the sequence number.
    public func inspect(_ packet: UnsafeRawBufferPointer) -> SentPacket? {
        guard let base = packet.baseAddress,
            case .esp(let location) = OuterPacket.classify(at: base, count: packet.count),
            let found = tunnelOfPeerSPI.find(location.spi)
        else { return nil }
        let tunnel = Int(found)
        let body = Int(location.espOffset) + ESPLocation.espHeaderBytes
        guard transform(of: tunnel).usesCounterIV else {
            return SentPacket(
                tunnel: tunnel, association: tunnel, sequence: UInt64(location.sequence),
                generation: nil)
        }
        guard body + 8 <= Int(location.end) else { return nil }
        let iv = load64(base, body)
        let sequence = iv & (1 << 48 - 1)
        guard UInt32(truncatingIfNeeded: sequence) == location.sequence else { return nil }
        return SentPacket(
            tunnel: tunnel, association: tunnel, sequence: sequence,
            generation: UInt16(truncatingIfNeeded: iv >> 48))
    }

    // MARK: Counters

    /// The sequence number of the last packet sealed.
    public func sequence(of tunnel: Int) -> UInt64 { status(tunnel, isToPeer: false).sequence }

    /// The serial of the last packet sealed.
    public func serial(of tunnel: Int) -> UInt64 { serials[tunnel] }

    /// The highest sequence number accepted.
    public func highestReceived(of tunnel: Int) -> UInt64 {
        status(tunnel, isToPeer: true).sequence
    }

    /// Refusals of all tunnels together, without packets of unknown SPIs.
    public var drops: DropCounters { engine.drops }

    private func status(_ tunnel: Int, isToPeer: Bool) -> AssociationStatus {
        let slot = UInt32(Self.slot(tunnel, isToPeer: isToPeer))
        guard let handle = slab.handle(at: slot) else {
            preconditionFailure("there is no tunnel \(tunnel)")
        }
        return slab.status(of: handle)
    }
}

// MARK: Making tunnels

extension PeerBank {
    @inline(__always)
    private static func slot(_ tunnel: Int, isToPeer: Bool) -> Int {
        tunnel &* 2 &+ (isToPeer ? 0 : 1)
    }

    private func insert(_ tunnel: Int, isToPeer: Bool) {
        let handle = try? slab.insert(
            association(tunnel, isToPeer: isToPeer, isGateway: false),
            distributionIdentifier: identifier(of: tunnel).value, ivGeneration: 1)
        precondition(
            handle.map { Int($0.index) } == Self.slot(tunnel, isToPeer: isToPeer),
            "a slab fills its slots in order")
    }

    private func chooseSPIs() {
        var stream = random.fork(.max)
        for tunnel in 0..<count {
            let slot = UInt32(tunnel)
            var gateway: SPI
            repeat {
                let identifier = stream.below(UInt64(distribution.identifierCount))
                gateway = distribution.spi(
                    for: DistributionIdentifier(UInt16(identifier)),
                    low: UInt32(truncatingIfNeeded: stream.next()))
            } while !tunnelOfGatewaySPI.insert(gateway, slot: slot)
            var peer: SPI
            repeat {
                peer = SPI(UInt32(truncatingIfNeeded: stream.next()))
            } while peer.isReserved || !tunnelOfPeerSPI.insert(peer, slot: slot)
            gatewaySPIs.append(gateway)
            peerSPIs.append(peer)
        }
    }

    private func association(
        _ tunnel: Int, isToPeer: Bool, isGateway: Bool
    ) -> SecurityAssociation {
        let transform = transform(of: tunnel)
        let peer = IPAddress(v4: 0x6440_0001 &+ UInt32(tunnel))
        var parameters = AssociationParameters(
            spi: isToPeer ? peerSPIs[tunnel] : gatewaySPIs[tunnel],
            direction: isToPeer == isGateway ? .outbound : .inbound, mode: .tunnel,
            transform: transform, source: isToPeer ? Self.gatewayAddress : peer,
            destination: isToPeer ? peer : Self.gatewayAddress)
        parameters.usesESN = usesESN
        parameters.replayWindow = windowBits
        let host = Self.selector(hostAddress(of: tunnel), length: 32)
        let net = Self.selector(Self.serverAddress, length: 16)
        parameters.selectors = AssociationSelectors(
            source: isToPeer ? net : host, destination: isToPeer ? host : net)
        var stream = random.fork(UInt64(Self.slot(tunnel, isToPeer: isToPeer)))
        do {
            return try SecurityAssociation(
                parameters, cipherKey: Self.secret(transform.keyBytes, &stream),
                integrityKey: Self.secret(transform.integrityKeyBytes, &stream),
                salt: Self.secret(transform.saltBytes, &stream))
        } catch {
            preconditionFailure("\(error)")
        }
    }

    private static func selector(_ address: UInt32, length: Int) -> [TrafficSelector] {
        let range = IPAddress(v4: address).prefixRange(length: length)
        return TrafficSelector(first: range.first, last: range.last).map { [$0] } ?? []
    }

    private static func secret(_ count: Int, _ stream: inout SimulationRandom) -> SecretBytes {
        var secret = SecretBytes(count: count)
        secret.withUnsafeMutableBytes { octets in
            for index in octets.indices {
                octets[index] = UInt8(truncatingIfNeeded: stream.next() >> 56)
            }
        }
        return secret
    }
}
