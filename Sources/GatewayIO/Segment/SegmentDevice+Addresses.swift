// The addresses that the host has on a device.

internal import CLinux
internal import Glibc
internal import Wire

/// An address of a device, and the network that it is in.
struct DeviceAddress: Equatable {
    let address: IPAddress
    /// Bits of the network.
    let prefixLength: Int
}

extension SegmentDevice {
    /// The addresses of the device now, as the kernel lists them.
    func addresses() throws(NodeError) -> [DeviceAddress] {
        var first: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&first) == 0 else { throw .last("listing the addresses of \(name)") }
        defer { freeifaddrs(first) }
        var found: [DeviceAddress] = []
        var next = first
        while let entry = next?.pointee {
            next = entry.ifa_next
            guard String(cString: entry.ifa_name) == name, let address = Self.read(entry.ifa_addr),
                let mask = Self.read(entry.ifa_netmask)
            else { continue }
            let bits =
                mask.family == .v4
                ? UInt32(truncatingIfNeeded: mask.low).nonzeroBitCount
                : mask.high.nonzeroBitCount + mask.low.nonzeroBitCount
            found.append(DeviceAddress(address: address, prefixLength: bits))
        }
        return found
    }

    private static func read(_ address: UnsafeMutablePointer<sockaddr>?) -> IPAddress? {
        guard let address else { return nil }
        var storage = sockaddr_storage()
        let bytes =
            Int32(address.pointee.sa_family) == AF_INET6
            ? MemoryLayout<sockaddr_in6>.size : MemoryLayout<sockaddr_in>.size
        withUnsafeMutableBytes(of: &storage) {
            $0.copyMemory(from: UnsafeRawBufferPointer(start: address, count: bytes))
        }
        return SocketAddress.read(&storage)?.0
    }
}
