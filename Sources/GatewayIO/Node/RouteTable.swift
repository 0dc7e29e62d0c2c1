// Routes to what the peers protect: all in a table of their own, which a rule consults for every
// packet but the node's. So a peer's selectors may cover the peer itself (0.0.0.0/0), and at the
// end nothing is left behind.

internal import CLinux
internal import ESP
internal import Glibc
internal import Wire

/// The routes of one node.
final class RouteTable {
    /// The number of the table, and the mark of packets that don't see it.
    static let number: UInt32 = 4500
    private static let rulePriority: UInt32 = 4500

    struct Prefix: Hashable {
        let address: IPAddress
        let length: Int
    }

    private let claim: FileDescriptor
    private let netlink: Netlink
    private let device: UInt32
    /// How many pairs want each route.
    private var counts: [Prefix: Int] = [:]

    /// Sets the rules for both families.
    init(device: UInt32) throws(NodeError) {
        claim = try Self.claim()
        netlink = try Netlink()
        self.device = device
        for family in [AF_INET, AF_INET6] {
            _ = netlink.perform(Self.rule(family, type: Int(RTM_DELRULE)))
            let cause = netlink.perform(Self.rule(family, type: Int(RTM_NEWRULE)))
            // A kernel without IPv6 has no rules for it.
            guard cause == 0 || (family == AF_INET6 && cause == EAFNOSUPPORT) else {
                errno = cause
                throw .last("setting the rule for routing table \(Self.number)")
            }
        }
    }

    /// One node of a network namespace has the rule: who stopped would take it from the other. An
    /// abstract socket (unix(7)) is of its namespace, and goes with the process however that ends.
    private static func claim() throws(NodeError) -> FileDescriptor {
        let number = socket(
            AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard number >= 0 else { throw .last("claiming routing table \(Self.number)") }
        let claim = FileDescriptor(number)
        let name = Array("spindle-routes-\(Self.number)".utf8)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { path in
            for (place, octet) in name.enumerated() { path[1 + place] = octet }
        }
        let length = MemoryLayout<sa_family_t>.size + 1 + name.count
        let cause = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(number, $0, socklen_t(length)) == 0 ? 0 : errno
            }
        }
        guard cause == 0 else {
            if cause == EADDRINUSE { throw .routesInUse }
            errno = cause
            throw .last("claiming routing table \(Self.number)")
        }
        return claim
    }

    /// Takes rules and routes away. The routes would go with the device anyway.
    func removeAll() {
        for prefix in counts.keys { _ = netlink.perform(route(prefix, isNew: false)) }
        counts = [:]
        for family in [AF_INET, AF_INET6] {
            _ = netlink.perform(Self.rule(family, type: Int(RTM_DELRULE)))
        }
    }

    /// Routes the addresses of selectors into the tunnels. Where `sources`, what we may send from,
    /// is one address of the host, its own packets go from there. Returns what the kernel refused.
    func add(_ selectors: [TrafficSelector], from sources: [TrafficSelector] = []) -> [String] {
        let source =
            sources.count == 1 && sources[0].first == sources[0].last ? sources[0].first : nil
        return change(selectors) { prefix in
            counts[prefix, default: 0] += 1
            guard counts[prefix] == 1 else { return 0 }
            if let source, source.family == prefix.address.family {
                let cause = netlink.perform(route(prefix, isNew: true, from: source))
                // The address may be one of the network behind us.
                if cause != EINVAL { return cause }
            }
            return netlink.perform(route(prefix, isNew: true))
        }
    }

    /// The opposite, when no other pair wants the route.
    func remove(_ selectors: [TrafficSelector]) {
        _ = change(selectors) { prefix in
            guard let count = counts[prefix] else { return 0 }
            counts[prefix] = count == 1 ? nil : count - 1
            return count == 1 ? netlink.perform(route(prefix, isNew: false)) : 0
        }
    }

    /// Gives the device an address: a virtual one that we got from a peer. Returns the errno.
    func setAddress(_ address: IPAddress, isNew: Bool) -> Int32 {
        var body = ifaddrmsg()
        body.ifa_family = address.kernelFamily
        body.ifa_prefixlen = UInt8(address.bitWidth)
        body.ifa_index = device
        var request = NetlinkRequest(
            type: isNew ? Int(RTM_NEWADDR) : Int(RTM_DELADDR),
            flags: isNew ? Int(NLM_F_CREATE) | Int(NLM_F_REPLACE) : 0, body)
        request.add(Int(IFA_LOCAL), address.networkOctets)
        request.add(Int(IFA_ADDRESS), address.networkOctets)
        return netlink.perform(request)
    }

    private func change(
        _ selectors: [TrafficSelector], _ body: (Prefix) -> Int32
    ) -> [String] {
        var refused: [String] = []
        for prefix in Self.prefixes(of: selectors) {
            let cause = body(prefix)
            if cause != 0 {
                refused.append(
                    "\(prefix.address)/\(prefix.length): " + String(cString: strerror(cause)))
            }
        }
        return refused
    }

    /// Routes of one pair: each takes a call to the kernel, between packets.
    private static let routesMaximum = 64

    /// What the selectors fall into; or, where a peer's odd ranges fall into too many prefixes, the
    /// one prefix of each family around them. Which packets a pair carries its selectors say.
    static func prefixes(of selectors: [TrafficSelector]) -> [Prefix] {
        var exact: [Prefix] = []
        for selector in selectors {
            exact += selector.prefixes.map { Prefix(address: $0.0, length: $0.1) }
            if exact.count > routesMaximum { return around(selectors) }
        }
        return exact
    }

    private static func around(_ selectors: [TrafficSelector]) -> [Prefix] {
        [IPAddress.Family.v4, .v6].compactMap { family in
            let ranges = selectors.filter { $0.first.family == family }
            guard var first = ranges.first?.first, var last = ranges.first?.last else { return nil }
            for range in ranges {
                if IPAddress.isOrdered(range.first, first) { first = range.first }
                if IPAddress.isOrdered(last, range.last) { last = range.last }
            }
            var length = first.bitWidth
            while !IPAddress.isOrdered(last, first.prefixRange(length: length).last) {
                length -= 1
            }
            return Prefix(address: first.prefixRange(length: length).first, length: length)
        }
    }

    private func route(
        _ prefix: Prefix, isNew: Bool, from source: IPAddress? = nil
    ) -> NetlinkRequest {
        var body = rtmsg()
        body.rtm_family = prefix.address.kernelFamily
        body.rtm_dst_len = UInt8(prefix.length)
        body.rtm_table = UInt8(RT_TABLE_UNSPEC.rawValue)
        body.rtm_protocol = UInt8(RTPROT_STATIC)
        body.rtm_scope = UInt8(RT_SCOPE_UNIVERSE.rawValue)
        body.rtm_type = UInt8(RTN_UNICAST)
        var request = NetlinkRequest(
            type: isNew ? Int(RTM_NEWROUTE) : Int(RTM_DELROUTE),
            flags: isNew ? Int(NLM_F_CREATE) | Int(NLM_F_REPLACE) : 0, body)
        request.add(Int(RTA_DST.rawValue), prefix.address.networkOctets)
        if let source { request.add(Int(RTA_PREFSRC.rawValue), source.networkOctets) }
        request.add(Int(RTA_OIF.rawValue), device)
        request.add(Int(RTA_TABLE.rawValue), Self.number)
        return request
    }

    /// `not fwmark NUMBER lookup NUMBER`.
    private static func rule(_ family: Int32, type: Int) -> NetlinkRequest {
        var body = fib_rule_hdr()
        body.family = UInt8(family)
        body.action = UInt8(FR_ACT_TO_TBL)
        body.flags = UInt32(FIB_RULE_INVERT)
        // For a deletion the same bit means another thing (NLM_F_BULK).
        let isNew = type == Int(RTM_NEWRULE)
        var request = NetlinkRequest(
            type: type, flags: isNew ? Int(NLM_F_CREATE) | Int(NLM_F_EXCL) : 0, body)
        request.add(Int(FRA_PRIORITY), rulePriority)
        request.add(Int(FRA_FWMARK), number)
        request.add(Int(FRA_FWMASK), UInt32.max)
        request.add(Int(FRA_TABLE), number)
        return request
    }
}

extension TrafficSelector {
    /// The fewest prefixes that make up the range of addresses.
    var prefixes: [(IPAddress, Int)] {
        var found: [(IPAddress, Int)] = []
        var next = first
        while true {
            var length = next.bitWidth
            // The largest prefix that begins here and does not reach beyond the end.
            while length > 0 {
                let range = next.prefixRange(length: length - 1)
                guard range.first == next, IPAddress.isOrdered(range.last, last) else { break }
                length -= 1
            }
            found.append((next, length))
            let end = next.prefixRange(length: length).last
            guard end != last, let following = end.successor else { return found }
            next = following
        }
    }
}

extension IPAddress {
    /// The address after this one; nil after the last.
    var successor: IPAddress? {
        switch family {
        case .v4: return low == UInt64(UInt32.max) ? nil : IPAddress(v4: UInt32(low + 1))
        case .v6:
            let (sum, carries) = low.addingReportingOverflow(1)
            if carries, high == .max { return nil }
            return IPAddress(high: high + (carries ? 1 : 0), low: sum)
        }
    }
}
