// Requests to the kernel's routing tables (rtnetlink(7)). Not by running ip(8): that would need the
// program at its place, a process for each route, and its texts to tell one failure from another.

internal import CLinux
internal import Glibc
internal import Wire

/// A message that is being written.
struct NetlinkRequest {
    private(set) var octets: [UInt8]

    /// `body`: the fixed structure of the type.
    init<Body>(type: Int, flags: Int, _ body: Body) {
        let header = nlmsghdr(
            nlmsg_len: 0, nlmsg_type: UInt16(type),
            nlmsg_flags: UInt16(flags) | UInt16(NLM_F_REQUEST) | UInt16(NLM_F_ACK), nlmsg_seq: 1,
            nlmsg_pid: 0)
        octets = withUnsafeBytes(of: header) { Array($0) }
        octets += withUnsafeBytes(of: body) { Array($0) }
        pad()
    }

    private mutating func pad() { while octets.count % 4 != 0 { octets.append(0) } }

    /// An attribute, its octets in the order that the type wants.
    mutating func add(_ type: Int, _ value: [UInt8]) {
        let attribute = rtattr(rta_len: UInt16(4 + value.count), rta_type: UInt16(type))
        octets += withUnsafeBytes(of: attribute) { Array($0) }
        octets += value
        pad()
    }

    mutating func add(_ type: Int, _ value: UInt32) {
        add(type, withUnsafeBytes(of: value) { Array($0) })
    }

    mutating func finish() {
        let length = UInt32(octets.count)
        octets.withUnsafeMutableBytes { $0.storeBytes(of: length, as: UInt32.self) }
    }
}

/// A socket for such requests.
struct Netlink {
    private let descriptor: FileDescriptor

    init() throws(NodeError) {
        let number = socket(
            AF_NETLINK, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue), NETLINK_ROUTE)
        guard number >= 0 else { throw .last("opening a netlink socket") }
        descriptor = FileDescriptor(number)
    }

    /// Sends a request and waits for the kernel's answer, which comes at once. 0, or its errno.
    func perform(_ request: NetlinkRequest) -> Int32 {
        var request = request
        request.finish()
        var kernel = sockaddr_nl()
        kernel.nl_family = sa_family_t(AF_NETLINK)
        let sent = withUnsafePointer(to: &kernel) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                sendto(
                    descriptor.number, request.octets, request.octets.count, 0, address,
                    socklen_t(MemoryLayout<sockaddr_nl>.size))
            }
        }
        guard sent == request.octets.count else { return errno }
        var answer = [UInt8](repeating: 0, count: 4096)
        let count = recv(descriptor.number, &answer, answer.count, 0)
        let headerBytes = MemoryLayout<nlmsghdr>.size
        guard count >= headerBytes + 4 else { return count < 0 ? errno : EPROTO }
        return answer.withUnsafeBytes { bytes in
            bytes.load(fromByteOffset: 4, as: UInt16.self) == UInt16(NLMSG_ERROR)
                ? -bytes.load(fromByteOffset: headerBytes, as: Int32.self) : 0
        }
    }
}

extension IPAddress {
    /// In network order.
    var networkOctets: [UInt8] {
        let all = withUnsafeBytes(of: (high.bigEndian, low.bigEndian)) { Array($0) }
        return family == .v4 ? Array(all[12...]) : all
    }

    var kernelFamily: UInt8 { UInt8(family == .v4 ? AF_INET : AF_INET6) }
}
