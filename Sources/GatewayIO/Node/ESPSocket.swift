// ESP as an IP protocol of its own (RFC 4303 §2), where no NAT stands between the ends.

internal import CLinux
internal import Glibc
internal import Wire

/// A raw socket for protocol 50 at one address. Whatever the kernel does with ESP of its own, it
/// gives a copy of every packet to raw sockets: IPv4 ones with their headers, IPv6 ones without.
final class ESPSocket {
    let address: IPAddress
    /// Nil where ESP comes another way.
    let descriptor: FileDescriptor?
    private let sender: FileDescriptor

    init(_ address: IPAddress, receives: Bool = true) throws(NodeError) {
        self.address = address
        descriptor = receives ? try Self.openReceiver(address) : nil
        let isV6 = address.family == .v6
        // The engine's packets have their headers.
        let number = socket(isV6 ? AF_INET6 : AF_INET, Self.kind, Int32(IPPROTO_RAW))
        guard number >= 0 else { throw .last("opening a raw socket") }
        sender = FileDescriptor(number)
        try number.set(SOL_SOCKET, SO_MARK, Int32(RouteTable.number))
        try isV6
            ? number.set(Int32(IPPROTO_IPV6), IPV6_HDRINCL, 1)
            : number.set(Int32(IPPROTO_IP), IP_HDRINCL, 1)
        _ = number.trySet(SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20)
    }

    private static var kind: Int32 {
        Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
    }

    private static func openReceiver(_ address: IPAddress) throws(NodeError) -> FileDescriptor {
        let isV6 = address.family == .v6
        let number = socket(isV6 ? AF_INET6 : AF_INET, kind, Int32(IPPROTO_ESP))
        guard number >= 0 else { throw .last("opening a raw socket for ESP") }
        let descriptor = FileDescriptor(number)
        if isV6 {
            try number.set(Int32(IPPROTO_IPV6), IPV6_RECVTCLASS, 1)
            _ = number.trySet(Int32(IPPROTO_IPV6), IPV6_FREEBIND, 1)
        } else {
            _ = number.trySet(Int32(IPPROTO_IP), IP_FREEBIND, 1)
        }
        _ = number.trySet(SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        let isBound = SocketAddress(address, 0).withPointer { bind(number, $0, $1) }
        guard isBound == 0 else { throw .last("binding the raw socket for ESP to \(address)") }
        return descriptor
    }

    /// Sends a whole packet to the address in its header.
    @discardableResult
    func send(_ packet: UnsafeRawBufferPointer, to address: IPAddress) -> Bool {
        SocketAddress(address, 0).withPointer {
            sendto(sender.number, packet.baseAddress, packet.count, 0, $0, $1) == packet.count
        }
    }
}
