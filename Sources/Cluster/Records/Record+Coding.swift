// Records without keys as octets: format version, then fields (docs/cluster-protocol.md).

internal import Wire

/// The first octet of every record.
private let formatVersion: UInt8 = 1

/// Reads a record: the version, then `body`, then nothing more.
func decodeRecord<Value: ~Copyable>(
    _ bytes: UnsafeRawBufferPointer, _ body: (inout OctetReader) throws(RecordError) -> Value
) throws(RecordError) -> Value {
    var reader = OctetReader(bytes)
    let version = try field { () throws(EncodingFault) in try reader.uint8() }
    guard version == formatVersion else { throw .version(version) }
    let value = try body(&reader)
    try field { () throws(EncodingFault) in try reader.end() }
    return value
}

/// A fault in a field as a fault of the record.
func field<Value: ~Copyable>(
    _ body: () throws(EncodingFault) -> Value
) throws(RecordError) -> Value {
    do {
        return try body()
    } catch {
        throw .malformed(error)
    }
}

extension OctetWriter {
    mutating func recordVersion() { uint8(formatVersion) }
}

extension AllocationRecord {
    private static let identifierBytes = 8

    /// The record as it is sealed.
    public func encode() -> [UInt8] {
        let count = allocation.identifierCount
        precondition(successors.count == count && overrunGenerations.count == count)
        let bytes = 13 + 2 * allocation.nodes.count + Self.identifierBytes * count
        return OctetWriter.array(count: bytes) { writer in
            writer.recordVersion()
            writer.uint64(allocation.epoch)
            writer.listCount(allocation.nodes.count)
            for node in allocation.nodes { writer.uint16(node.value) }
            writer.listCount(count)
            for index in 0..<count {
                writer.uint16(allocation.owners[index].value)
                writer.uint16(allocation.generations[index])
                writer.uint16(successors[index]?.value ?? 0)
                writer.uint16(overrunGenerations[index])
            }
        }
    }

    /// Reads an opened record.
    public init(decoding bytes: UnsafeRawBufferPointer) throws(RecordError) {
        self = try decodeRecord(bytes) { reader throws(RecordError) in
            try AllocationRecord(fields: &reader)
        }
    }

    private init(fields reader: inout OctetReader) throws(RecordError) {
        var epoch: UInt64 = 0
        var nodes: [NodeID] = []
        var owners: [NodeID] = []
        var generations: [UInt16] = []
        var successors: [NodeID?] = []
        var overruns: [UInt16] = []
        try field { () throws(EncodingFault) in
            epoch = try reader.uint64()
            let nodeCount = Int(try reader.uint16())
            nodes = try reader.list(nodeCount, bytesMinimum: 2) { reader throws(EncodingFault) in
                try reader.node()
            }
            guard nodes.ascends(by: { $0 }) else { throw .order }
            let count = Int(try reader.uint16())
            guard Distribution.identifierCountRange.contains(count) else { throw .range }
            guard reader.remaining >= count * Self.identifierBytes else { throw .truncated }
            for _ in 0..<count {
                owners.append(try reader.node())
                generations.append(try reader.uint16())
                let successor = try reader.uint16()
                successors.append(NodeID(exactly: successor))
                overruns.append(try reader.uint16())
            }
        }
        do {
            let allocation = try Allocation(
                epoch: epoch, nodes: nodes, owners: owners, generations: generations)
            try self.init(
                allocation: allocation, successors: successors, overrunGenerations: overruns)
        } catch {
            throw .allocation(error)
        }
    }
}

extension LeaseRecord {
    /// SPI and three numbers of one octet.
    private static let leaseBytesMinimum = 7

    /// The record as it is sealed. Precondition: it keeps the bounds of its properties.
    public func encode() -> [UInt8] {
        precondition(leases.count <= Self.leasesMaximum && leases.ascends { $0.spi })
        let bytes = leases.reduce(5 + OctetWriter.varintBytes(UInt64(leases.count))) {
            $0 + $1.encodedBytes
        }
        return OctetWriter.array(count: bytes) { writer in
            writer.recordVersion()
            writer.identifier(identifier)
            writer.generation(generation)
            writer.varint(UInt64(leases.count))
            for lease in leases { lease.encode(into: &writer) }
        }
    }

    /// Reads an opened record.
    public init(decoding bytes: UnsafeRawBufferPointer) throws(RecordError) {
        self = try decodeRecord(bytes) { reader throws(RecordError) in
            try field { () throws(EncodingFault) in try LeaseRecord(fields: &reader) }
        }
    }

    private init(fields reader: inout OctetReader) throws(EncodingFault) {
        identifier = try reader.identifier()
        generation = try reader.generation()
        let count = try reader.varint()
        guard count <= UInt64(Self.leasesMaximum) else { throw .range }
        leases = try reader.list(Int(count), bytesMinimum: Self.leaseBytesMinimum) {
            reader throws(EncodingFault) in try TunnelLease(&reader)
        }
        guard leases.ascends(by: { $0.spi }) else { throw .order }
    }
}

extension TunnelLease {
    fileprivate var encodedBytes: Int {
        4 + OctetWriter.varintBytes(sendLimit) + OctetWriter.varintBytes(receiveEdge)
            + OctetWriter.varintBytes(receiveLimit - receiveEdge)
    }

    fileprivate func encode(into writer: inout OctetWriter) {
        writer.uint32(spi.value)
        writer.varint(sendLimit)
        writer.varint(receiveEdge)
        writer.varint(receiveLimit - receiveEdge)
    }

    fileprivate init(_ reader: inout OctetReader) throws(EncodingFault) {
        spi = try reader.spi()
        sendLimit = try reader.varint()
        receiveEdge = try reader.varint()
        let (limit, overflows) = receiveEdge.addingReportingOverflow(try reader.varint())
        guard !overflows else { throw .range }
        receiveLimit = limit
    }
}

extension MemberRecord {
    /// The record as it is sealed.
    public func encode() -> [UInt8] {
        let addressBytes = endpoint.map { $0.address.family == .v4 ? 4 : 16 }
        return OctetWriter.array(count: 10 + (addressBytes.map { $0 + 8 } ?? 0)) { writer in
            writer.recordVersion()
            writer.uint64(incarnation)
            guard let endpoint else { return writer.uint8(0) }
            writer.family(endpoint.address.family)
            writer.address(endpoint.address)
            writer.uint16(endpoint.port)
            writer.uint16(UInt16(truncatingIfNeeded: endpoint.station.value >> 32))
            writer.uint32(UInt32(truncatingIfNeeded: endpoint.station.value))
        }
    }

    /// Reads an opened record.
    public init(decoding bytes: UnsafeRawBufferPointer) throws(RecordError) {
        self = try decodeRecord(bytes) { reader throws(RecordError) in
            try field { () throws(EncodingFault) in
                let incarnation = try reader.uint64()
                let endpoint = try reader.endpoint()
                return MemberRecord(incarnation: incarnation, endpoint: endpoint)
            }
        }
    }
}

extension OctetReader {
    /// Nil after an octet of 0.
    fileprivate mutating func endpoint() throws(EncodingFault) -> MemberEndpoint? {
        var ahead = self
        guard try ahead.uint8() != 0 else {
            self = ahead
            return nil
        }
        let address = try address(try family())
        let port = try uint16()
        let station = MACAddress(UInt64(try uint16()) << 32 | UInt64(try uint32()))
        guard !address.isUnspecified, !address.isMulticast, port != 0, !station.isGroup else {
            throw .range
        }
        return MemberEndpoint(address: address, port: port, station: station)
    }
}

extension WeightRecord {
    /// The record as it is sealed.
    public func encode() -> [UInt8] {
        OctetWriter.array(count: 3) { writer in
            writer.recordVersion()
            writer.uint16(weight)
        }
    }

    /// Reads an opened record.
    public init(decoding bytes: UnsafeRawBufferPointer) throws(RecordError) {
        weight = try decodeRecord(bytes) { reader throws(RecordError) in
            try field { () throws(EncodingFault) in try reader.uint16() }
        }
    }
}
