// What recvmmsg(2) and sendmmsg(2) need beside the packets themselves.

internal import CLinux
internal import Glibc
internal import Wire

/// Message headers for a batch of datagrams, either for receiving or for sending. One owner, one
/// thread.
final class DatagramBatch {
    static let slots = PacketRoom.slots
    private static let controlBytes = Int(CLINUX_CONTROL_BYTES)

    let headers: UnsafeMutablePointer<mmsghdr>
    let pieces: UnsafeMutablePointer<iovec>
    let addresses: UnsafeMutablePointer<sockaddr_storage>
    private let controls: UnsafeMutableRawPointer
    /// Slots from here on are as `prepare` left them.
    private var used = slots

    init() {
        headers = .allocate(capacity: Self.slots)
        headers.initialize(repeating: mmsghdr(), count: Self.slots)
        pieces = .allocate(capacity: Self.slots)
        pieces.initialize(repeating: iovec(), count: Self.slots)
        addresses = .allocate(capacity: Self.slots)
        addresses.initialize(repeating: sockaddr_storage(), count: Self.slots)
        controls = .allocate(byteCount: Self.slots * Self.controlBytes, alignment: 16)
    }

    deinit {
        headers.deallocate()
        pieces.deallocate()
        addresses.deallocate()
        controls.deallocate()
    }

    /// Receives into the slots of `room` what waits at a socket; the number of datagrams.
    func receive(_ file: FileDescriptor, _ room: PacketRoom) -> Int {
        for slot in 0..<used { prepare(slot, room.place(slot)) }
        let count = recvmmsg(
            file.number, headers, UInt32(Self.slots), Int32(MSG_DONTWAIT), nil)
        used = max(0, Int(count))
        return used
    }

    /// Makes a slot ready to receive into `room`.
    private func prepare(_ slot: Int, _ room: UnsafeMutableRawBufferPointer) {
        pieces[slot] = iovec(iov_base: room.baseAddress, iov_len: room.count)
        headers[slot].msg_hdr = msghdr()
        headers[slot].msg_hdr.msg_name = UnsafeMutableRawPointer(addresses + slot)
        headers[slot].msg_hdr.msg_namelen = socklen_t(MemoryLayout<sockaddr_storage>.size)
        headers[slot].msg_hdr.msg_iov = pieces + slot
        headers[slot].msg_hdr.msg_iovlen = 1
        headers[slot].msg_hdr.msg_control = controls + slot * Self.controlBytes
        headers[slot].msg_hdr.msg_controllen = Self.controlBytes
    }

    /// Octets that were received.
    func length(_ slot: Int) -> Int { Int(headers[slot].msg_len) }

    /// Octets of each datagram of a row that the kernel joined (UDP_GRO), of which the last may be
    /// shorter; of the only one, where there is no row.
    func segmentBytes(_ slot: Int) -> Int {
        let bytes = Int(clinux_segment_bytes(&headers[slot].msg_hdr))
        return bytes > 0 ? bytes : length(slot)
    }

    /// Where a received datagram came from.
    func source(_ slot: Int) -> (IPAddress, UInt16)? { SocketAddress.read(addresses + slot) }

    /// The traffic class of a received datagram.
    func trafficClass(_ slot: Int) -> UInt8 { clinux_traffic_class(&headers[slot].msg_hdr) }

    /// Makes message `slot` of `count` pieces from `first` on, which are datagrams of
    /// `segmentBytes` each but the last, to one address.
    func fill(
        _ slot: Int, pieces first: Int, count: Int, to address: SocketAddress, trafficClass: UInt8,
        segmentBytes: Int
    ) {
        addresses[slot] = address.storage
        headers[slot].msg_hdr = msghdr()
        headers[slot].msg_hdr.msg_name = UnsafeMutableRawPointer(addresses + slot)
        headers[slot].msg_hdr.msg_namelen = address.length
        headers[slot].msg_hdr.msg_iov = pieces + first
        headers[slot].msg_hdr.msg_iovlen = count
        clinux_put_controls(
            &headers[slot].msg_hdr, controls + slot * Self.controlBytes,
            address.storage.ss_family == sa_family_t(AF_INET6) ? 1 : 0, trafficClass,
            count > 1 ? UInt16(truncatingIfNeeded: segmentBytes) : 0)
    }
}
