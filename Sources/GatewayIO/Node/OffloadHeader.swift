// What stands in front of each packet at a TUN device: what the sender has left to be done (Virtio
// 1.2 §5.1.6, struct virtio_net_hdr in the byte order of the machine).

internal import CLinux
internal import Wire

/// What is left to be done with a packet.
struct OffloadHeader: Equatable {
    static let byteCount = 10

    /// What a packet is to be cut into.
    enum Row: Equatable {
        /// It is one packet.
        case none
        case tcpV4
        case tcpV6
        /// UDP datagrams, of either protocol.
        case udp
    }

    var row: Row
    /// Octets of payload of each segment of a row; the last may be shorter.
    var segmentBytes: Int
    /// Octets from the IP header to the end of the transport's. The kernel knows them better: they
    /// are a hint.
    var headerBytes: Int
    /// Where the octets begin that the transport's checksum is over; nil: it is right. What stands
    /// in its place is then the sum of the pseudo header.
    var checksumStart: Int?
    /// Where the checksum is, from there.
    var checksumOffset: Int

    /// A packet on which all is done.
    static let complete = OffloadHeader(
        row: .none, segmentBytes: 0, headerBytes: 0, checksumStart: nil, checksumOffset: 0)

    /// The same, for a packet behind so many octets of another header.
    func behind(_ octets: Int) -> OffloadHeader {
        var header = self
        header.headerBytes += octets
        header.checksumStart = checksumStart.map { $0 + octets }
        return header
    }

    /// Writes 10 octets.
    func write(_ base: UnsafeMutableRawPointer) {
        var header = virtio_net_hdr()
        switch row {
        case .none: header.gso_type = UInt8(VIRTIO_NET_HDR_GSO_NONE)
        case .tcpV4: header.gso_type = UInt8(VIRTIO_NET_HDR_GSO_TCPV4)
        case .tcpV6: header.gso_type = UInt8(VIRTIO_NET_HDR_GSO_TCPV6)
        case .udp: header.gso_type = UInt8(CLINUX_GSO_UDP)
        }
        header.gso_size = UInt16(truncatingIfNeeded: segmentBytes)
        header.hdr_len = UInt16(truncatingIfNeeded: headerBytes)
        if let checksumStart {
            header.flags = UInt8(VIRTIO_NET_HDR_F_NEEDS_CSUM)
            header.csum_start = UInt16(truncatingIfNeeded: checksumStart)
            header.csum_offset = UInt16(truncatingIfNeeded: checksumOffset)
        }
        base.storeBytes(of: header, as: virtio_net_hdr.self)
    }

    /// Computes the checksum of a packet that is no row, if that was left to be done. False: what
    /// it is over lies outside of the packet.
    func completeChecksum(_ packet: UnsafeMutableRawBufferPointer) -> Bool {
        guard let checksumStart else { return true }
        let place = checksumStart + checksumOffset
        guard let base = packet.baseAddress, place + 2 <= packet.count else { return false }
        let sum = checksumSum(base + checksumStart, count: packet.count - checksumStart)
        let checksum = checksumFold(sum)
        // 0 means "none" in UDP (RFC 768), and 0xFFFF is the same number.
        let isZero = checksum == 0 && checksumOffset == UDPHeader.checksumOffset
        store16(isZero ? 0xFFFF : checksum, base, place)
        return true
    }
}

extension OffloadHeader {
    /// Reads 10 octets. Nil: a row of a kind that nobody asked for.
    init?(at base: UnsafeRawPointer) {
        let header = base.loadUnaligned(as: virtio_net_hdr.self)
        let kind = Int32(header.gso_type) & ~VIRTIO_NET_HDR_GSO_ECN
        switch kind {
        case VIRTIO_NET_HDR_GSO_NONE: row = .none
        case VIRTIO_NET_HDR_GSO_TCPV4: row = .tcpV4
        case VIRTIO_NET_HDR_GSO_TCPV6: row = .tcpV6
        case Int32(CLINUX_GSO_UDP): row = .udp
        default: return nil
        }
        segmentBytes = Int(header.gso_size)
        headerBytes = Int(header.hdr_len)
        let isPartial = Int32(header.flags) & VIRTIO_NET_HDR_F_NEEDS_CSUM != 0
        checksumStart = isPartial ? Int(header.csum_start) : nil
        checksumOffset = Int(header.csum_offset)
    }
}
