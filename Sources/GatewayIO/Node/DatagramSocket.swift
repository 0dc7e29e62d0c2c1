// The UDP sockets of IKE and of ESP in UDP: one for each address and port, so that the local end of
// a datagram is known and stays the same.

internal import CLinux
internal import Glibc
internal import Wire

/// A bound UDP socket.
final class DatagramSocket {
    let address: IPAddress
    let port: UInt16
    /// A marker stands before IKE messages, since ESP shares the port (RFC 3948 §2.2).
    let hasMarker: Bool
    let descriptor: FileDescriptor

    init(_ address: IPAddress, port: UInt16, hasMarker: Bool) throws(NodeError) {
        self.address = address
        self.port = port
        self.hasMarker = hasMarker
        let isV6 = address.family == .v6
        let kind =
            Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            | Int32(SOCK_NONBLOCK.rawValue)
        let number = socket(isV6 ? AF_INET6 : AF_INET, kind, 0)
        guard number >= 0 else { throw .last("opening a UDP socket") }
        descriptor = FileDescriptor(number)
        try number.set(SOL_SOCKET, SO_MARK, Int32(RouteTable.number))
        // The address of a cluster may come later.
        _ =
            isV6
            ? number.trySet(Int32(IPPROTO_IPV6), IPV6_FREEBIND, 1)
            : number.trySet(Int32(IPPROTO_IP), IP_FREEBIND, 1)
        if isV6 {
            try number.set(Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1)
            try number.set(Int32(IPPROTO_IPV6), IPV6_RECVTCLASS, 1)
        } else {
            try number.set(Int32(IPPROTO_IP), IP_RECVTOS, 1)
            // Packets of tunnels that are too long for the path go in fragments.
            try number.set(Int32(IPPROTO_IP), IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        }
        // Rows of datagrams of one flow come in one piece, where the kernel can.
        _ = number.trySet(SOL_UDP, UDP_GRO, 1)
        // Bursts wait here while the node works; what the system does not allow is cut off.
        _ = number.trySet(SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        _ = number.trySet(SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20)
        let text = isV6 ? "[\(address)]:\(port)" : "\(address):\(port)"
        let isBound = SocketAddress(address, port).withPointer { bind(number, $0, $1) }
        guard isBound == 0 else {
            throw errno == EADDRINUSE ? .portInUse("UDP \(text)") : .last("binding UDP \(text)")
        }
    }

    /// Sends one datagram. What the kernel does not take is lost, as on any network.
    func send(_ datagram: [UInt8], to address: IPAddress, _ port: UInt16) {
        _ = SocketAddress(address, port).withPointer {
            sendto(descriptor.number, datagram, datagram.count, 0, $0, $1)
        }
    }

    /// Sends the first `count` messages of a batch; the number of messages that were taken.
    func send(_ batch: DatagramBatch, count: Int) -> Int {
        var sent = 0
        while sent < count {
            let taken = sendmmsg(
                descriptor.number, batch.headers + sent, UInt32(count - sent), 0)
            if taken > 0 {
                sent += Int(taken)
            } else if errno != EINTR {
                // One message that can't be sent must not hold up the others.
                sent += 1
            }
        }
        return sent
    }
}

extension Int32 {
    /// Sets an option of the socket with this number.
    func set(_ level: Int32, _ option: Int32, _ value: Int32) throws(NodeError) {
        guard trySet(level, option, value) else {
            throw .last("setting option \(option) of a socket")
        }
    }

    /// False: the kernel refused.
    func trySet(_ level: Int32, _ option: Int32, _ value: Int32) -> Bool {
        withUnsafePointer(to: value) {
            setsockopt(self, level, option, $0, socklen_t(MemoryLayout<Int32>.size)) == 0
        }
    }
}
