// The settings of the node itself, its pools and its limits.

internal import ESP
internal import IKEStub
internal import Wire

/// Reads `node`.
enum NodeSettings {
    private static let known = [
        "addresses", "ike_port", "encapsulation_port", "tunnel", "control_socket", "card_capacity",
        "monitor", "state",
    ]
    /// The longest name of a socket that Linux takes.
    private static let socketBytes = 107
    /// A card's memory is taken at the start: 2^20 sessions are 2^19 pairs.
    private static let cardMaximum = 1 << 19

    /// The node without what it knows about peers; nil when it has no addresses.
    static func read(_ root: Settings, _ files: ConfigurationFiles) -> NodeConfiguration? {
        guard let fields = root.required("node")?.settings(known) else { return nil }
        let addresses = fields.required("addresses")?.list(ownAddress)
        if let addresses, Set(addresses).count < addresses.count {
            fields.refuse(.clash, "addresses", "an address stands there twice: remove one")
        }
        var node = NodeConfiguration(
            addresses: addresses ?? [], ike: IKEConfiguration(connections: []))
        if let port = fields["ike_port"]?.number(in: 1...65_535) { node.ikePort = UInt16(port) }
        if let port = fields["encapsulation_port"]?.number(in: 1...65_535) {
            node.encapsulationPort = UInt16(port)
        }
        if node.ikePort == node.encapsulationPort {
            fields.refuse(
                .contradiction, "encapsulation_port",
                "both ports are \(node.ikePort): IKE alone and IKE with ESP need one each")
        } else if node.ikePort != 500 || node.encapsulationPort != 4500 {
            fields.setting.warn(
                .unusual, "peers look for IKE at the UDP ports 500 and 4500 (RFC 7296 §2)")
        }
        if let tunnel = fields["tunnel"] { readTunnel(tunnel, &node) }
        if let path = fields["control_socket"]?.name(bytesMaximum: socketBytes) {
            if path.hasPrefix("/") {
                node.controlSocket = path
            } else {
                fields.refuse(
                    .file, "control_socket", "\(quoted(path)) is relative: write the whole path")
            }
        }
        if let path = fields["state"]?.name(bytesMaximum: 4096) {
            node.stateDirectory = files.resolve(path)
        }
        if let monitor = fields["monitor"] { node.monitor = monitor.monitorAddress() }
        if let capacity = fields["card_capacity"]?.number(in: 1...cardMaximum) {
            node.cardCapacity = capacity
        }
        return addresses == nil ? nil : node
    }

    /// An address at which a socket of ours can be, and no other host's.
    private static func ownAddress(_ setting: Setting) -> IPAddress? {
        guard let address = setting.address() else { return nil }
        if address.isUnspecified || address.isMulticast || address == IPAddress(v4: .max) {
            setting.refuse(
                .address, "\(address) is no host's own: write the addresses that peers send to")
            return nil
        }
        // RFC 4291 §2.5.6: one such address means another host on every link.
        if address.family == .v6, address.high >> 54 == 0xFE80 >> 6 {
            setting.refuse(
                .address, "\(address) is link-local, and peers are behind routers: write another")
            return nil
        }
        return address
    }

    private static func readTunnel(_ setting: Setting, _ node: inout NodeConfiguration) {
        guard let fields = setting.settings(["device", "mtu", "routes"]) else { return }
        if let device = fields["device"]?.device() { node.tunnelDevice = device }
        if let mtu = fields["mtu"]?.number(in: 576...65_535) {
            node.tunnelMTU = mtu
            if mtu < 1280 {
                fields["mtu"]?.warn(.unusual, "IPv6 needs 1280 (RFC 8200 §5) and will not pass")
            }
        }
        if let routes = fields["routes"]?.flag() { node.setsRoutes = routes }
    }
}

extension Setting {
    /// An IP address and a TCP port. Whoever reaches it learns where tunnels are.
    fileprivate func monitorAddress() -> MonitorAddress? {
        guard let text = text() else { return nil }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        var host = parts.dropLast().joined(separator: ":")
        let isV6 = host.hasPrefix("[") && host.hasSuffix("]")
        if isV6 { host = String(host.dropFirst().dropLast()) }
        guard let digits = parts.last, !digits.hasPrefix("+"), let port = UInt16(digits), port > 0,
            let address = IPAddress(host), (address.family == .v6) == isV6
        else {
            refuse(
                .address,
                "\(quoted(text)) is no address with a port: write such as 127.0.0.1:9700 or "
                    + "[::1]:9700, in quotes")
            return nil
        }
        let isLocal =
            isV6 ? address.high == 0 && address.low == 1 : address.low >> 24 == 127
        if !isLocal {
            warn(
                .unusual,
                "whoever reaches \(text) can read which node has how many tunnels: no password is "
                    + "asked for")
        }
        return MonitorAddress(address: address, port: port)
    }

    /// The name of a network device, as Linux takes them: at most 15 octets, no slash or colon.
    func device() -> String? {
        guard let device = name(bytesMaximum: 15) else { return nil }
        let isName = device.utf8.allSatisfy {
            (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":")
        }
        guard isName, device != ".", device != ".." else {
            refuse(
                .outOfRange,
                "\(quoted(device)) can't be a device: use letters, digits, '-' and '_'")
            return nil
        }
        return device
    }
}

/// Reads `limits`.
enum LimitSettings {
    private typealias Field = WritableKeyPath<IKELimits, Int> & Sendable

    private static let fields: [(String, any Field, ClosedRange<Int>)] = [
        ("cookies_above", \.cookiesAbove, 0...1_000_000),
        ("half_open_per_address", \.halfOpenPerAddress, 1...1_000_000),
        ("half_open", \.halfOpen, 1...1_000_000),
        ("associations", \.associations, 1...10_000_000),
        ("children_per_association", \.childrenPerAssociation, 1...1000),
        ("fragment_bytes", \.fragmentBytes, 576...9000),
    ]

    static func read(_ setting: Setting) -> IKELimits {
        var limits = IKELimits()
        guard let settings = setting.settings(fields.map(\.0)) else { return limits }
        for (name, path, range) in fields {
            if let value = settings[name]?.number(in: range) { limits[keyPath: path] = value }
        }
        return limits
    }
}

/// Reads `pools`.
enum PoolSettings {
    static func read(_ setting: Setting) -> [(pool: AddressPool, setting: Setting)] {
        guard let pools = setting.namedSettings() else { return [] }
        return pools.named().compactMap { name, setting in
            guard let fields = setting.settings(["range", "dns"]) else { return nil }
            let servers = fields["dns"]?.list { $0.address() } ?? []
            guard let value = fields.required("range"), let range = range(value) else {
                return nil
            }
            if let server = servers.first(where: { $0.family != range.first.family }) {
                fields.refuse(
                    .contradiction, "dns",
                    "\(server) is of another family than the range: put it into a pool of its own")
            }
            return (AddressPool(name: name, range: range, nameServers: servers), setting)
        }
    }

    private static func range(_ setting: Setting) -> TrafficSelector? {
        let range = setting.parsed(.selector) { text throws(TrafficSelectorTextError) in
            try TrafficSelector(parsing: text)
        }
        guard let range else { return nil }
        guard range.isAddressesOnly else {
            setting.refuse(.selector, "a pool has addresses only: remove protocol and ports")
            return nil
        }
        return setting.text()?.contains("/") == true ? hosts(of: range) : range
    }

    /// A prefix without what no host has: the network and its broadcast address (RFC 1122
    /// §3.2.1.3), unless it has two addresses at most (RFC 3021), and the anycast address of the
    /// routers (RFC 4291 §2.6.1), unless it has two (RFC 6164).
    private static func hosts(of prefix: TrafficSelector) -> TrafficSelector {
        guard prefix.first.high != prefix.last.high || prefix.last.low &- prefix.first.low > 1,
            let first = prefix.first.successor,
            let last = prefix.first.family == .v4
                ? Optional(IPAddress(v4: UInt32(prefix.last.low - 1))) : prefix.last,
            let hosts = TrafficSelector(first: first, last: last)
        else { return prefix }
        return hosts
    }
}

extension TrafficSelector {
    /// True for any protocol and any port.
    var isAddressesOnly: Bool { ipProtocol == 0 && firstPort == 0 && lastPort == .max }
}
