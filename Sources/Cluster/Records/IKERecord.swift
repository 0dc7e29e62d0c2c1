// An IKE SA as the store keeps it: its state as octets, which only the IKE side of a node reads,
// and beside it what every node needs to know of its pairs.

public import Crypto
public import Wire

/// An IKE SA with its keys. Frozen, so that other modules may take it apart.
@frozen
public struct IKERecord: ~Copyable {
    /// A pair of CHILD SAs of the IKE SA.
    public struct Pair: Hashable, Sendable {
        /// The inbound SPI, which names the tunnel.
        public let spi: SPI
        /// It sends for its selectors, rather than the one that it replaces.
        public let sends: Bool
        /// The place of its outbound selectors among those of all tunnels; that of the pair which
        /// it replaces. Every node must choose the same tunnel for a packet.
        public let order: UInt64

        /// See the properties.
        public init(spi: SPI, sends: Bool, order: UInt64) {
            self.spi = spi
            self.sends = sends
            self.order = order
        }
    }

    /// The UDP flow of the messages, as the cluster sees it; it is the pairs' flow too, where they
    /// are in UDP.
    public struct Flow: Hashable, Sendable {
        /// The cluster's address.
        public let local: IPAddress
        /// The peer's address, of the same family.
        public let remote: IPAddress
        /// The cluster's port.
        public let localPort: UInt16
        /// The peer's port.
        public let remotePort: UInt16

        /// See the properties. Precondition: one family.
        public init(
            local: IPAddress, remote: IPAddress, localPort: UInt16, remotePort: UInt16
        ) {
            precondition(local.family == remote.family)
            self.local = local
            self.remote = remote
            self.localPort = localPort
            self.remotePort = remotePort
        }
    }

    /// The most pairs, and the most addresses.
    public static let listMaximum = 4096

    /// Whose owner speaks for the IKE SA.
    public let identifier: DistributionIdentifier
    /// The SPI that the cluster chose.
    public let localSPI: UInt64
    /// To be added to the generation of the identifier's owner: an IKE SA may have come from
    /// another identifier, with higher generations, and no two owners may have one in common.
    public let generationOffset: Int32
    /// Equal for all IKE SAs of one connection with one peer, and hardly for others.
    public let peer: UInt64
    /// Where the peer is.
    public let flow: Flow
    /// In the order in which they were made.
    public let pairs: [Pair]
    /// Addresses of the cluster's pools that the peer has.
    public let addresses: [IPAddress]
    /// The state, as the IKE side of a node wrote it.
    public let state: SecretBytes

    /// SPI, flag, order.
    private static let pairBytes = 4 + 1 + 8
    /// Version, identifier, SPI, offset, peer, family, ports, two lists' lengths.
    private static let fixedBytes = 1 + 2 + 8 + 4 + 8 + 1 + 4 + 2 + 2

    /// A record; see the properties. Precondition: no list is longer than ``listMaximum``.
    public init(
        identifier: DistributionIdentifier, localSPI: UInt64, generationOffset: Int32,
        peer: UInt64, flow: Flow, pairs: [Pair], addresses: [IPAddress],
        state: consuming SecretBytes
    ) {
        precondition(max(pairs.count, addresses.count) <= Self.listMaximum)
        self.identifier = identifier
        self.localSPI = localSPI
        self.generationOffset = generationOffset
        self.peer = peer
        self.flow = flow
        self.pairs = pairs
        self.addresses = addresses
        self.state = state
    }

    /// The record as it is sealed.
    public borrowing func encode() -> SecretBytes {
        let flowBytes = 2 * (flow.local.bitWidth / 8)
        let addressBytes = addresses.reduce(0) { $0 + 1 + $1.bitWidth / 8 }
        let bytes =
            Self.fixedBytes + flowBytes + Self.pairBytes * pairs.count + addressBytes + state.count
        var octets = SecretBytes(count: bytes)
        octets.withUnsafeMutableBytes { bytes in
            var writer = OctetWriter(bytes)
            writer.recordVersion()
            writer.identifier(identifier)
            writer.uint64(localSPI)
            writer.uint32(UInt32(bitPattern: generationOffset))
            writer.uint64(peer)
            writer.family(flow.local.family)
            writer.address(flow.local)
            writer.address(flow.remote)
            writer.uint16(flow.localPort)
            writer.uint16(flow.remotePort)
            writer.listCount(pairs.count)
            for pair in pairs {
                writer.uint32(pair.spi.value)
                writer.uint8(pair.sends ? 1 : 0)
                writer.uint64(pair.order)
            }
            writer.listCount(addresses.count)
            for address in addresses {
                writer.family(address.family)
                writer.address(address)
            }
            state.withUnsafeBytes { writer.octets($0) }
            precondition(writer.count == bytes.count)
        }
        return octets
    }

    /// Reads an opened record; the state is not looked into.
    public init(decoding bytes: UnsafeRawBufferPointer) throws(RecordError) {
        self = try decodeRecord(bytes) { reader throws(RecordError) in
            try field { () throws(EncodingFault) in try IKERecord(fields: &reader) }
        }
    }

    private init(fields reader: inout OctetReader) throws(EncodingFault) {
        let identifier = try reader.identifier()
        let localSPI = try reader.uint64()
        let generationOffset = Int32(bitPattern: try reader.uint32())
        let peer = try reader.uint64()
        let family = try reader.family()
        let local = try reader.address(family)
        let remote = try reader.address(family)
        let flow = Flow(
            local: local, remote: remote, localPort: try reader.uint16(),
            remotePort: try reader.uint16())
        let pairs = try reader.shortList(
            bytesMinimum: Self.pairBytes
        ) { reader throws(EncodingFault) in
            Pair(spi: try reader.spi(), sends: try reader.flag(), order: try reader.uint64())
        }
        let addresses = try reader.shortList(bytesMinimum: 5) { reader throws(EncodingFault) in
            try reader.address(try reader.family())
        }
        let state = SecretBytes(copying: try reader.octets(reader.remaining))
        self.init(
            identifier: identifier, localSPI: localSPI, generationOffset: generationOffset,
            peer: peer, flow: flow, pairs: pairs, addresses: addresses, state: state)
    }
}

extension OctetReader {
    fileprivate mutating func flag() throws(EncodingFault) -> Bool {
        switch try uint8() {
        case 0: false
        case 1: true
        default: throw .range
        }
    }

    fileprivate mutating func shortList<Element>(
        bytesMinimum: Int, _ element: (inout OctetReader) throws(EncodingFault) -> Element
    ) throws(EncodingFault) -> [Element] {
        let count = Int(try uint16())
        guard count <= IKERecord.listMaximum else { throw .range }
        return try list(count, bytesMinimum: bytesMinimum, element)
    }
}
