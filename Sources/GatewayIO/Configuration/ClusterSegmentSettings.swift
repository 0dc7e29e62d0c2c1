// The two segments on which all nodes of a cluster hear the same, and addresses on them.

internal import Cluster
internal import ESP
internal import IKEStub
internal import Wire

/// Reads `cluster.outside` and `cluster.inside`.
enum SegmentSettings {
    private static let routesMaximum = 256

    /// Its addresses are those of the node, and are filled in later.
    static func outside(_ setting: Setting) -> SegmentConfiguration? {
        setting.settings(["device"])?.required("device")?.device().map {
            SegmentConfiguration(device: $0, addresses: [])
        }
    }

    /// Nil when something is wrong.
    static func inside(_ setting: Setting, _ context: ClusterContext) -> SegmentConfiguration? {
        guard let fields = setting.settings(["device", "addresses", "routes"]) else { return nil }
        let device = fields.required("device")?.device()
        let list = fields.required("addresses")
        let addresses = list?.list { $0.address() }
        if let addresses, let list {
            check(addresses, list, linkLocal: true)
            if Set(addresses).count < addresses.count {
                list.refuse(.clash, "an address stands there twice: remove one")
            }
            for (element, address) in zip(list.elements(), addresses) {
                if context.addresses.contains(address) {
                    element.refuse(
                        .clash,
                        "\(address) is where peers send to (node.addresses): use another address "
                            + "on this side")
                }
                refusePooled(address, element, context)
            }
        }
        // Also without addresses, so that all faults are said at once.
        let shared = context.addresses + (addresses ?? [])
        let routes = fields["routes"].map { $0.list { route($0, addresses, shared) } }
        if let setting = fields["routes"], let routes = routes ?? nil { check(routes, setting) }
        guard let device, let addresses else { return nil }
        var segment = SegmentConfiguration(device: device, addresses: addresses)
        segment.routes = (routes ?? nil) ?? []
        return segment
    }

    /// Addresses for which all nodes answer.
    static func check(_ addresses: [IPAddress], _ setting: Setting, linkLocal: Bool) {
        let maximum = ClusterFront.addressesMaximum
        if addresses.count > maximum {
            setting.refuse(
                .outOfRange,
                "\(addresses.count) addresses are too many for a cluster: use at most \(maximum)")
        }
        for element in setting.elements() { _ = element.station(linkLocal: linkLocal) }
    }

    /// An address that a peer may get can't be anybody's.
    static func refusePooled(_ address: IPAddress, _ setting: Setting, _ context: ClusterContext) {
        for pool in context.pools where pool.range.covers(address) {
            setting.refuse(
                .clash,
                "\(address) is among the addresses of the pool \(pool.name), so that a peer could "
                    + "get it: make the range smaller")
        }
    }

    // MARK: Routes

    private static func route(
        _ setting: Setting, _ addresses: [IPAddress]?, _ shared: [IPAddress]
    ) -> SegmentConfiguration.Route? {
        guard let fields = setting.settings(["to", "via"]) else { return nil }
        let prefix = fields.required("to").flatMap(Self.prefix)
        guard let value = fields.required("via"), let via = value.station(linkLocal: true) else {
            return nil
        }
        if shared.contains(via) {
            value.refuse(
                .contradiction, "\(via) is the cluster itself: name the router that is next")
        }
        guard let prefix else { return nil }
        guard prefix.address.family == via.family else {
            value.refuse(
                .contradiction,
                "\(via) is of another family than \(prefix.address)/\(prefix.length): name a "
                    + "router of the same")
            return nil
        }
        if let addresses, !addresses.contains(where: { $0.family == via.family }) {
            value.refuse(
                .contradiction,
                "the cluster has no address of its family on this side, so that nothing finds "
                    + "back: add one to cluster.inside.addresses")
        }
        return SegmentConfiguration.Route(
            prefix: prefix.address, length: prefix.length, gateway: via)
    }

    private static func prefix(_ setting: Setting) -> (address: IPAddress, length: Int)? {
        let range = setting.parsed(.selector) { text throws(TrafficSelectorTextError) in
            try TrafficSelector(parsing: text)
        }
        guard let range else { return nil }
        let length = (0...range.first.bitWidth).first {
            let prefix = range.first.prefixRange(length: $0)
            return prefix.first == range.first && prefix.last == range.last
        }
        guard range.isAddressesOnly, let length else {
            setting.refuse(
                .selector, "a route leads to a prefix: write such as 10.80.0.0/16 or fd00:80::/32")
            return nil
        }
        return (range.first, length)
    }

    private static func check(_ routes: [SegmentConfiguration.Route], _ setting: Setting) {
        if routes.count > routesMaximum {
            setting.refuse(
                .outOfRange,
                "\(routes.count) routes are too many: use at most \(routesMaximum), larger ones")
        }
        var known: Set<[IPAddress]> = []
        for (element, route) in zip(setting.elements(), routes) {
            let ends = route.prefix.prefixRange(length: route.length)
            if !known.insert([ends.first, ends.last]).inserted {
                element.refuse(
                    .clash,
                    "a route to \(route.prefix)/\(route.length) stands there already: remove one")
            }
        }
    }
}

extension Setting {
    /// An address that a station can have, on a network or, where `loopback` says so, without.
    func station(linkLocal: Bool = false, loopback: Bool = false) -> IPAddress? {
        guard let address = address() else { return nil }
        guard let other = address.otherThanStation,
            !(linkLocal && address.isLinkLocal), !(loopback && address.isLoopback)
        else { return address }
        refuse(.address, "\(address) is \(other): use an address that one station can have")
        return nil
    }
}

extension IPAddress {
    /// 127.0.0.0/8 (RFC 1122 §3.2.1.3) and ::1 (RFC 4291 §2.5.3).
    var isLoopback: Bool {
        family == .v4 ? low >> 24 == 127 : high == 0 && low == 1
    }

    /// fe80::/10 (RFC 4291 §2.5.6): it means something together with a device only.
    fileprivate var isLinkLocal: Bool { family == .v6 && high >> 54 == 0x3FA }

    /// What it is, if no station with a place on a network of its own can have it.
    fileprivate var otherThanStation: String? {
        if isLoopback { return "of this host only (loopback)" }
        switch family {
        case .v4:
            switch low >> 24 {
            case 0: return "no address of a host"
            case 224...239: return "a multicast address"
            case 240...255: return "reserved, or the broadcast address"
            default: return nil
            }
        case .v6:
            if high >> 56 == 0xFF { return "a multicast address" }
            if high == 0, low == 0 { return "no address of a host" }
            if high == 0, low >> 32 == 0xFFFF { return "IPv4 in another form (RFC 4291 §2.5.5.2)" }
            return isLinkLocal ? "of one link only" : nil
        }
    }
}
