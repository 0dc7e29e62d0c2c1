// Whether an address is the host's. The node's own sockets don't tell: they take addresses that may
// come later.

internal import CLinux
internal import Glibc
internal import Wire

extension IPAddress {
    /// False when the kernel has no device or route that makes the address the host's own, or has
    /// not found out yet that nobody else has it (RFC 4862 §5.4).
    var isOfThisHost: Bool {
        let kind = Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let number = socket(family == .v6 ? AF_INET6 : AF_INET, kind, 0)
        // Whatever else is wrong is said when the node's own sockets are opened.
        guard number >= 0 else { return true }
        defer { close(number) }
        return SocketAddress(self, 0).withPointer {
            bind(number, $0, $1) == 0 || errno != EADDRNOTAVAIL
        }
    }
}
