// What comes in from a shared segment: frames to the cluster's MAC address and to the node's own,
// as far as a filter accepts them.
//
//     device ─▶ filter in the kernel ─▶ ring (TPACKET_V3, libpcap) ─▶ IP packets ─▶ PacketRoom
//                    │ foreign                                     └▶ ARP, discovery, echo, errors
//                    ▼
//                 dropped: no copy, no wake-up

internal import CLinux
internal import Cluster
internal import CPcap
internal import Glibc
internal import Wire

/// An open capture on one device. One owner, one thread.
final class SegmentCapture {
    /// How the kernel hands packets over.
    struct Tuning {
        /// A block of the ring is handed over when it is full, or after so many milliseconds. What
        /// is waited longer saves wake-ups.
        var milliseconds: Int32 = 1
        /// The ring's octets: what may come while the node is busy. libpcap's blocks have 256 KB,
        /// and one that is handed over for its time is not filled up: at low load, 16 MB are 64 ms.
        /// A node that is busy for so long has lost its right to serve (docs/decisions/0010).
        var ringBytes: Int32 = 16 << 20
    }

    /// What the kernel counted since the capture began.
    struct Statistics: Equatable {
        /// Packets that the filter accepted.
        var accepted: UInt64 = 0
        /// Of these, packets that found the ring full.
        var dropped: UInt64 = 0
    }

    let device: SegmentDevice
    /// Readable when there are packets; libpcap owns it.
    let fileNumber: Int32
    private let socket: CaptureSocket
    /// Frames that were no IP packets, or too long for a room.
    private(set) var unusable: UInt64 = 0
    private var last = pcap_stat()
    private var total = Statistics()

    /// Begins to capture what `program` accepts. `program` stands before anything comes in: what
    /// came between opening and filtering is thrown away.
    init(
        _ device: SegmentDevice, program: [FilterInstruction], tuning: Tuning = Tuning()
    ) throws(NodeError) {
        self.device = device
        let socket = try CaptureSocket(device.name, tuning)
        self.socket = socket
        fileNumber = socket.descriptorNumber
        try replaceFilter(program)
        socket.skipWaiting()
    }

    /// Has the kernel judge by another program from the next packet on; no packet is lost or seen
    /// twice for it. What waits in the ring was accepted by the program before: whoever reads it
    /// asks the distribution again.
    func replaceFilter(_ program: [FilterInstruction]) throws(NodeError) {
        try socket.lent.attach(program)
    }

    /// Listens to a group address, too: a card drops its frames otherwise.
    func join(_ group: MACAddress) throws(NodeError) {
        precondition(group.isGroup)
        var request = packet_mreq()
        request.mr_ifindex = device.index
        request.mr_type = UInt16(PACKET_MR_MULTICAST)
        request.mr_alen = UInt16(MACAddress.byteCount)
        withUnsafeMutableBytes(of: &request.mr_address) { bytes in
            if let base = bytes.baseAddress { group.write(base, 0) }
        }
        let result = setsockopt(
            fileNumber, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request,
            socklen_t(MemoryLayout<packet_mreq>.size))
        guard result == 0 else { throw .last("joining \(group) on \(device.name)") }
    }

    /// What becomes of a frame with an IP packet.
    enum Use { case packet, other, none }

    /// Puts IP packets that wait, without their Ethernet headers, into the free places of `room`,
    /// as far as `sort` says so, and shows every other frame, and those that `sort` says, to
    /// `other`. Returns how many frames there were; does not wait.
    ///
    /// Neither may keep the octets: they go back to the kernel.
    func receive(
        into room: PacketRoom, sort: (UnsafeRawBufferPointer) -> Use = { _ in .packet },
        other: (UnsafeRawBufferPointer) -> Void
    ) -> Int {
        socket.dispatch(limit: room.free) { frame in
            guard frame.count > EthernetHeader.byteCount, let base = frame.baseAddress else {
                unusable += 1
                return
            }
            let type = load16(base, 12)
            guard type == EthernetHeader.ipv4 || type == EthernetHeader.ipv6 else {
                return other(frame)
            }
            switch sort(frame) {
            case .packet: break
            case .other: return other(frame)
            case .none: return
            }
            let bytes = frame.count - EthernetHeader.byteCount
            guard bytes <= PacketRoom.packetMaximum else {
                unusable += 1
                return
            }
            room.piece.copyMemory(from: base + EthernetHeader.byteCount, byteCount: bytes)
            room.appendPiece(of: 0, before: 0, count: bytes)
        }
    }

    /// The kernel's counts; libpcap adds up what the kernel resets at each reading.
    var statistics: Statistics {
        var now = pcap_stat()
        guard pcap_stats(socket.handle, &now) == 0 else { return total }
        // 32 bits that wrap around.
        total.accepted += UInt64(now.ps_recv &- last.ps_recv)
        total.dropped += UInt64(now.ps_drop &- last.ps_drop)
        last = now
        return total
    }
}

/// libpcap's handle. Closes itself.
private final class CaptureSocket {
    let handle: OpaquePointer
    /// libpcap's descriptor, which it closes itself.
    let lent: LentDescriptor

    var descriptorNumber: Int32 { lent.number }

    init(_ name: String, _ tuning: SegmentCapture.Tuning) throws(NodeError) {
        var message = [CChar](repeating: 0, count: Int(PCAP_ERRBUF_SIZE))
        guard let handle = pcap_create(name, &message) else {
            throw .system(doing: "capturing on \(name)", reason: Self.text(message))
        }
        var isOpen = false
        defer { if !isOpen { pcap_close(handle) } }
        // Whole packets, also such that the device joined; no packet by itself but blocks of them.
        pcap_set_snaplen(handle, 1 << 18)
        pcap_set_promisc(handle, 0)
        pcap_set_immediate_mode(handle, 0)
        pcap_set_timeout(handle, tuning.milliseconds)
        pcap_set_buffer_size(handle, tuning.ringBytes)
        let result = pcap_activate(handle)
        guard result >= 0 else {
            if result == PCAP_ERROR_PERM_DENIED {
                throw .notPermitted(
                    doing: "capturing on \(name)", needs: "CAP_NET_RAW and CAP_NET_ADMIN")
            }
            let detail = String(cString: pcap_geterr(handle))
            throw .system(
                doing: "capturing on \(name)",
                reason: detail.isEmpty ? String(cString: pcap_statustostr(result)) : detail)
        }
        guard pcap_setnonblock(handle, 1, &message) == 0, pcap_datalink(handle) == DLT_EN10MB
        else {
            throw .system(doing: "capturing on \(name)", reason: "it is no Ethernet device")
        }
        isOpen = true
        self.handle = handle
        lent = LentDescriptor(number: pcap_get_selectable_fd(handle))
    }

    deinit { pcap_close(handle) }

    private static func text(_ message: [CChar]) -> String {
        String(decoding: message.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// Reads away what came before there was a filter. Bounded: a block at a time.
    func skipWaiting() {
        for _ in 0..<1024 where dispatch(limit: 4096, { _ in }) == 0 { return }
    }

    /// Lends the frames that wait, at most `limit`, to `body`.
    func dispatch(limit: Int, _ body: (UnsafeRawBufferPointer) -> Void) -> Int {
        guard limit > 0 else { return 0 }
        return withoutActuallyEscaping(body) { body in
            var delivery = FrameDelivery(body: body)
            return withUnsafeMutablePointer(to: &delivery) { delivery in
                let count = pcap_dispatch(
                    handle, Int32(limit),
                    { delivery, header, octets in
                        guard let delivery, let header, let octets else { return }
                        UnsafeRawPointer(delivery)
                            .assumingMemoryBound(to: FrameDelivery.self).pointee
                            .body(
                                UnsafeRawBufferPointer(
                                    start: octets, count: Int(header.pointee.caplen)))
                    },
                    UnsafeMutableRawPointer(delivery).assumingMemoryBound(to: UInt8.self))
                return max(0, Int(count))
            }
        }
    }
}

/// What libpcap carries from the call to its callback.
private struct FrameDelivery {
    let body: (UnsafeRawBufferPointer) -> Void
}

/// A descriptor that somebody else closes.
struct LentDescriptor {
    let number: Int32
}
