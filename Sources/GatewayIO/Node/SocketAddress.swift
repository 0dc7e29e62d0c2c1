// Addresses and ports as the kernel's socket calls take them.

internal import CLinux
internal import Glibc
internal import Wire

/// A `sockaddr_in` or `sockaddr_in6`.
struct SocketAddress {
    private(set) var storage = sockaddr_storage()
    private(set) var length: socklen_t

    init(_ address: IPAddress, _ port: UInt16) {
        switch address.family {
        case .v4:
            length = socklen_t(MemoryLayout<sockaddr_in>.size)
            var value = sockaddr_in()
            value.sin_family = sa_family_t(AF_INET)
            value.sin_port = port.bigEndian
            value.sin_addr.s_addr = UInt32(truncatingIfNeeded: address.low).bigEndian
            withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: value, as: sockaddr_in.self) }
        case .v6:
            length = socklen_t(MemoryLayout<sockaddr_in6>.size)
            var value = sockaddr_in6()
            value.sin6_family = sa_family_t(AF_INET6)
            value.sin6_port = port.bigEndian
            withUnsafeMutableBytes(of: &value.sin6_addr) {
                $0.storeBytes(of: address.high.bigEndian, as: UInt64.self)
                $0.storeBytes(of: address.low.bigEndian, toByteOffset: 8, as: UInt64.self)
            }
            withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: value, as: sockaddr_in6.self) }
        }
    }

    /// Reads what the kernel wrote; nil for another family.
    static func read(_ storage: UnsafePointer<sockaddr_storage>) -> (IPAddress, UInt16)? {
        let base = UnsafeRawPointer(storage)
        switch Int32(storage.pointee.ss_family) {
        case AF_INET:
            let value = base.load(as: sockaddr_in.self)
            return (
                IPAddress(v4: UInt32(bigEndian: value.sin_addr.s_addr)),
                UInt16(bigEndian: value.sin_port)
            )
        case AF_INET6:
            let value = base.load(as: sockaddr_in6.self)
            let address = withUnsafeBytes(of: value.sin6_addr) {
                IPAddress(
                    high: UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)),
                    low: UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
            }
            return (address, UInt16(bigEndian: value.sin6_port))
        default:
            return nil
        }
    }

    /// Lends it as the socket calls want it.
    func withPointer<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        withUnsafeBytes(of: storage) { bytes in
            guard let base = bytes.baseAddress else {
                preconditionFailure("an address has octets")
            }
            return body(base.assumingMemoryBound(to: sockaddr.self), length)
        }
    }
}
