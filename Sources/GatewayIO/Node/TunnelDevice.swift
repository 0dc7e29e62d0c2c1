// The TUN device: what comes out of tunnels goes into the kernel here, and what the routes send to
// the peers comes out.

internal import CLinux
internal import ESP
internal import Glibc
internal import Wire

/// An attached TUN device, which goes with its last holder.
final class TunnelDevice {
    private static let path = "/dev/net/tun"

    let name: String
    let descriptor: FileDescriptor
    /// Segments that wait to be written as one packet.
    private var train: SegmentTrain?
    private var joinsDatagrams = true
    /// The first packet of the train with its header, and the payload of each other.
    private let pieces: UnsafeMutablePointer<iovec>

    /// Makes the device, sets its MTU and brings it up.
    init(name: String, mtu: Int) throws(NodeError) {
        let file = open(Self.path, O_RDWR | O_NONBLOCK | O_CLOEXEC)
        guard file >= 0 else {
            throw errno == ENOENT || errno == ENODEV
                ? .noTunnelDriver(Self.path) : .last("opening \(Self.path)")
        }
        descriptor = FileDescriptor(file)
        pieces = .allocate(capacity: PacketRoom.slots)
        pieces.initialize(repeating: iovec(), count: PacketRoom.slots)
        self.name = name
        guard clinux_attach_tun(file, name) == 0 else {
            throw errno == EBUSY ? .deviceBusy(name) : .last("making the device \(name)")
        }
        guard clinux_bring_up(name, Int32(mtu)) == 0 else {
            throw .last("bringing up \(name) with an MTU of \(mtu)")
        }
    }

    /// The kernel's number of the device.
    var index: UInt32 { if_nametoindex(name) }

    deinit { pieces.deallocate() }

    /// The next packet, written to `room`, before which there are `OffloadHeader.byteCount` octets
    /// for what is left to be done with it. Nil: there is none now.
    func read(into room: UnsafeMutableRawBufferPointer) -> Int? {
        guard let base = room.baseAddress else { return nil }
        let header = OffloadHeader.byteCount
        let count = Glibc.read(descriptor.number, base - header, room.count + header)
        return count > header ? count - header : nil
    }

    /// Gives a packet to the kernel, at the latest when `flush` is called; until then its memory
    /// must stay as it is. What is in front of the packet is overwritten.
    func write(_ packet: PacketDescriptor) {
        let header = OffloadHeader.byteCount
        precondition(packet.offset >= header)
        let base = packet.buffer + packet.offset
        if let segment = train?.append(base, count: packet.length), let last = train?.count {
            pieces[last - 1] = iovec(
                iov_base: base + segment.headerBytes, iov_len: segment.payloadBytes)
        } else {
            flush()
            pieces[0] = iovec(iov_base: base - header, iov_len: packet.length + header)
            train = SegmentTrain(
                base, count: packet.length, joinsDatagrams: joinsDatagrams)
        }
        if train?.isClosed == true || train?.count == PacketRoom.slots { flush() }
    }

    /// Writes what waits. What the kernel does not take is lost, as on any network.
    func flush() {
        guard let train, let first = pieces[0].iov_base else { return }
        self.train = nil
        train.finish().write(first)
        let written = writev(descriptor.number, pieces, Int32(train.count))
        if written < 0, errno == EINVAL, train.isOfDatagrams { joinsDatagrams = false }
    }
}
