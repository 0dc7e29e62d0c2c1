// The network device of a shared segment.

internal import CLinux
internal import Glibc
internal import Wire

/// An Ethernet device as it was when it was looked up.
struct SegmentDevice {
    let name: String
    /// The kernel's number of it.
    let index: Int32
    /// Its MAC address.
    let address: MACAddress
    /// Octets of an IP packet that it takes.
    let mtu: Int

    /// Looks up a device by its name.
    init(name: String) throws(NodeError) {
        var index: Int32 = 0
        var mtu: Int32 = 0
        var octets: UInt64 = 0
        let result = withUnsafeMutableBytes(of: &octets) { bytes in
            clinux_describe_device(
                name, &index, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), &mtu)
        }
        guard result == 0 else {
            if errno == EAFNOSUPPORT {
                throw .system(
                    doing: "using the device \(name) for a shared segment",
                    reason: "it is no Ethernet device: configure one that is")
            }
            throw .last("looking up the device \(name)")
        }
        self.name = name
        self.index = index
        self.mtu = Int(mtu)
        address = withUnsafeBytes(of: octets) { bytes in
            bytes.baseAddress.map { MACAddress(at: $0, 0) } ?? MACAddress(0)
        }
    }
}
