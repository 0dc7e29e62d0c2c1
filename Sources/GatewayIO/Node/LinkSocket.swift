// The way of the HA link's datagrams: a UDP socket between the nodes. Whose a datagram is, and
// whether it is anyone's, its seal says; addresses are not looked at.

internal import CLinux
internal import Cluster
internal import Glibc
internal import Wire

/// A UDP socket on the network between the nodes.
final class LinkSocket {
    /// Datagrams of one visit: others have their turn, too.
    private static let visitMaximum = 256
    /// Internetwork control (RFC 2474 §4.2.2.2): before all other traffic where the network cares.
    private static let trafficClass: Int32 = 0xC0

    let descriptor: FileDescriptor
    private let family: IPAddress.Family
    private let room: UnsafeMutableRawBufferPointer

    init(_ address: IPAddress, port: UInt16) throws(NodeError) {
        family = address.family
        let isV6 = address.family == .v6
        let kind =
            Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
            | Int32(SOCK_NONBLOCK.rawValue)
        let number = socket(isV6 ? AF_INET6 : AF_INET, kind, 0)
        guard number >= 0 else { throw .last("opening the socket of the HA link") }
        descriptor = FileDescriptor(number)
        room = .allocate(byteCount: 2048, alignment: 16)
        _ =
            isV6
            ? number.trySet(Int32(IPPROTO_IPV6), IPV6_TCLASS, Self.trafficClass)
            : number.trySet(Int32(IPPROTO_IP), IP_TOS, Self.trafficClass)
        _ = number.trySet(SOL_SOCKET, SO_PRIORITY, 6)
        _ = number.trySet(SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
        _ = number.trySet(SOL_SOCKET, SO_SNDBUFFORCE, 4 << 20)
        let isBound = SocketAddress(address, port).withPointer { bind(number, $0, $1) }
        guard isBound == 0 else {
            switch errno {
            case EADDRINUSE: throw .portInUse("UDP \(address) \(port)")
            case EADDRNOTAVAIL:
                throw .system(
                    doing: "binding the HA link to \(address)",
                    reason: "the host has no such address: add it, or correct cluster.link.address")
            default: throw .last("binding the HA link to \(address)")
            }
        }
    }

    deinit { room.deallocate() }

    /// Sends a datagram. What the kernel does not take is lost, as on any network.
    func send(_ datagram: [UInt8], to endpoint: MemberEndpoint) {
        guard endpoint.address.family == family else { return }
        _ = SocketAddress(endpoint.address, endpoint.port).withPointer {
            sendto(descriptor.number, datagram, datagram.count, 0, $0, $1)
        }
    }

    /// Lends what waits, one datagram after the other.
    func receive(_ body: (UnsafeRawBufferPointer) -> Void) {
        for _ in 0..<Self.visitMaximum {
            let count = recv(descriptor.number, room.baseAddress, room.count, 0)
            guard count >= 0 else { return }
            body(UnsafeRawBufferPointer(rebasing: room[..<count]))
        }
    }
}
