// The TUN device: what comes out of tunnels goes into the kernel here, and what the routes send to
// the peers comes out.

internal import CLinux
internal import Glibc
internal import Wire

/// An attached TUN device, which goes with its last holder.
final class TunnelDevice {
    private static let path = "/dev/net/tun"

    let name: String
    let descriptor: FileDescriptor

    /// Makes the device, sets its MTU and brings it up.
    init(name: String, mtu: Int) throws(NodeError) {
        let file = open(Self.path, O_RDWR | O_NONBLOCK | O_CLOEXEC)
        guard file >= 0 else {
            throw errno == ENOENT || errno == ENODEV
                ? .noTunnelDriver(Self.path) : .last("opening \(Self.path)")
        }
        descriptor = FileDescriptor(file)
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

    /// The next packet, written to `room`; nil: there is none now.
    func read(into room: UnsafeMutableRawBufferPointer) -> Int? {
        let count = Glibc.read(descriptor.number, room.baseAddress, room.count)
        return count > 0 ? count : nil
    }

    /// Gives a packet to the kernel. False: it did not take it.
    @discardableResult
    func write(_ packet: UnsafeRawBufferPointer) -> Bool {
        Glibc.write(descriptor.number, packet.baseAddress, packet.count) == packet.count
    }
}
