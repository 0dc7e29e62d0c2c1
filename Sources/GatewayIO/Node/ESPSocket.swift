// ESP as an IP protocol of its own (RFC 4303 §2), where no NAT stands between the ends.

internal import CLinux
internal import Glibc
internal import Wire

/// A raw socket for protocol 50 at one address. Whatever the kernel does with ESP of its own, it
/// gives a copy of every packet to raw sockets: IPv4 ones with their headers, IPv6 ones without.
final class ESPSocket {
    let address: IPAddress
    let descriptor: FileDescriptor
    private let sender: FileDescriptor

    init(_ address: IPAddress) throws(NodeError) {
        self.address = address
        let isV6 = address.family == .v6
        let kind =
            Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            | Int32(SOCK_NONBLOCK.rawValue)
        let receiving = socket(isV6 ? AF_INET6 : AF_INET, kind, Int32(IPPROTO_ESP))
        guard receiving >= 0 else { throw .last("opening a raw socket for ESP") }
        descriptor = FileDescriptor(receiving)
        // The engine's packets have their headers.
        let sending = socket(isV6 ? AF_INET6 : AF_INET, kind, Int32(IPPROTO_RAW))
        guard sending >= 0 else { throw .last("opening a raw socket") }
        sender = FileDescriptor(sending)
        try sending.set(SOL_SOCKET, SO_MARK, Int32(RouteTable.number))
        if isV6 {
            try sending.set(Int32(IPPROTO_IPV6), IPV6_HDRINCL, 1)
            try receiving.set(Int32(IPPROTO_IPV6), IPV6_RECVTCLASS, 1)
            _ = receiving.trySet(Int32(IPPROTO_IPV6), IPV6_FREEBIND, 1)
        } else {
            try sending.set(Int32(IPPROTO_IP), IP_HDRINCL, 1)
            _ = receiving.trySet(Int32(IPPROTO_IP), IP_FREEBIND, 1)
        }
        _ = receiving.trySet(SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        let isBound = SocketAddress(address, 0).withPointer { bind(receiving, $0, $1) }
        guard isBound == 0 else { throw .last("binding the raw socket for ESP to \(address)") }
    }

    /// Sends a whole packet to the address in its header.
    @discardableResult
    func send(_ packet: UnsafeRawBufferPointer, to address: IPAddress) -> Bool {
        SocketAddress(address, 0).withPointer {
            sendto(sender.number, packet.baseAddress, packet.count, 0, $0, $1) == packet.count
        }
    }
}
