// Reads `connections`.

internal import Crypto
internal import ESP
internal import IKEStub
internal import Wire

/// A connection with the settings that it came from, for checks between connections.
struct ConfiguredConnection {
    let connection: Connection
    /// Nil: 500, and 4500 behind a NAT.
    let remotePort: UInt16?
    let setting: Settings
}

/// What connections share.
struct ConnectionContext {
    let files: ConfigurationFiles
    let addresses: [IPAddress]
    let presharedKeys: [PresharedKey]?
    let pools: [AddressPool]
    /// Now, for certificates.
    let seconds: Int64
}

enum ConnectionSettings {
    private static let known = [
        "local_address", "remote_address", "remote_addresses", "proposals", "local", "remote",
        "children", "pools", "request_address", "force_encapsulation", "fragmentation",
        "counter_sync", "associations_per_identity", "timers", "remote_port",
    ]

    static func read(_ setting: Setting, _ context: ConnectionContext) -> [ConfiguredConnection] {
        setting.namedSettings()?.named().compactMap { name, value in
            value.settings(known).flatMap { fields in
                connection(name, fields, context).map {
                    ConfiguredConnection(
                        connection: $0, remotePort: remotePort(fields), setting: fields)
                }
            }
        } ?? []
    }

    private static func remotePort(_ fields: Settings) -> UInt16? {
        guard let port = fields["remote_port"]?.number(in: 1...65_535) else { return nil }
        if fields["remote_address"] == nil {
            fields.refuse(
                .contradiction, "remote_port",
                "without remote_address nobody goes there: add it, or remove this")
        }
        if port == UDPPort.ike {
            fields.refuse(
                .contradiction, "remote_port",
                "500 is where IKE has no marker: name the port that it shares with ESP, which is "
                    + "usually 4500, or remove this")
        }
        return UInt16(port)
    }

    private static func connection(
        _ name: String, _ fields: Settings, _ context: ConnectionContext
    ) -> Connection? {
        let proposals = ProposalSettings.read(fields["proposals"], for: .ike)
        let local = fields.required("local").flatMap {
            AuthenticationSettings.local($0, context)
        }
        let remote = fields.required("remote").flatMap {
            AuthenticationSettings.remote($0, context)
        }
        let children = fields["children"].map { ChildSettings.read($0) } ?? []
        let options = Options(fields, context)
        guard let proposals, let local, let remote else { return nil }
        AuthenticationSettings.requireKey(fields, local, remote, context)
        var connection = Connection(
            name: name, proposals: proposals, localIdentity: local.identity,
            remoteIdentity: remote.identity, localAuthentication: local.authentication,
            remoteAuthentication: remote.authentication, children: children)
        options.apply(to: &connection)
        if children.isEmpty, fields["children"] == nil {
            fields.setting.warn(
                .unusual, "it has no children: peers can connect, but no packet of theirs passes")
        }
        check(connection, fields, context)
        return connection
    }

    /// What has defaults.
    private struct Options {
        var localAddress: IPAddress?
        var remoteAddress: IPAddress?
        var remoteAddresses: [TrafficSelector] = []
        var pools: [String] = []
        var timers = IKETimers()
        var asksForAddress = false
        var forcesEncapsulation = false
        var fragments = true
        var synchronizesCounters = true
        var associationsPerIdentity: Int?

        init(_ fields: Settings, _ context: ConnectionContext) {
            if let setting = fields["local_address"], let address = setting.address() {
                localAddress = address
                if !context.addresses.contains(address) {
                    setting.refuse(
                        .contradiction,
                        "\(address) is not one of the node's addresses: add it to node.addresses, "
                            + "or correct it")
                }
            }
            remoteAddress = fields["remote_address"]?.address()
            remoteAddresses = fields["remote_addresses"]?.list(Self.addresses) ?? []
            pools = fields["pools"]?.list { Self.pool($0, context) } ?? []
            asksForAddress = fields["request_address"]?.flag() ?? false
            forcesEncapsulation = fields["force_encapsulation"]?.flag() ?? false
            fragments = fields["fragmentation"]?.flag() ?? true
            synchronizesCounters = fields["counter_sync"]?.flag() ?? true
            associationsPerIdentity = fields["associations_per_identity"]?
                .number(in: 1...1_000_000)
            if let setting = fields["timers"] { timers = TimerSettings.read(setting) }
        }

        func apply(to connection: inout Connection) {
            connection.localAddress = localAddress
            connection.remoteAddress = remoteAddress
            connection.remoteAddresses = remoteAddresses
            if let remoteAddress, remoteAddresses.isEmpty,
                let peer = TrafficSelector(first: remoteAddress, last: remoteAddress)
            {
                connection.remoteAddresses = [peer]
            }
            connection.pools = pools
            connection.timers = timers
            connection.asksForAddress = asksForAddress
            connection.forcesEncapsulation = forcesEncapsulation
            connection.fragments = fragments
            connection.synchronizesCounters = synchronizesCounters
            if let associationsPerIdentity {
                connection.associationsPerIdentity = associationsPerIdentity
            }
        }

        private static func addresses(_ setting: Setting) -> TrafficSelector? {
            let range = setting.parsed(.selector) { text throws(TrafficSelectorTextError) in
                try TrafficSelector(parsing: text)
            }
            guard let range else { return nil }
            guard range.isAddressesOnly else {
                setting.refuse(.selector, "peers have addresses only: remove protocol and ports")
                return nil
            }
            return range
        }

        private static func pool(_ setting: Setting, _ context: ConnectionContext) -> String? {
            guard let name = setting.text() else { return nil }
            let names = context.pools.map(\.name)
            guard names.contains(name) else {
                let known =
                    names.isEmpty
                    ? "add it to pools"
                    : "use \(JSONView.hint(name, names))" + names.joined(separator: ", ")
                setting.refuse(.unknownName, "there is no pool \(quoted(name)): \(known)")
                return nil
            }
            return name
        }
    }

    private static func check(
        _ connection: Connection, _ fields: Settings, _ context: ConnectionContext
    ) {
        if let remote = connection.remoteAddress {
            let reachable = connection.localAddress.map { [$0] } ?? context.addresses
            if !reachable.isEmpty, !reachable.contains(where: { $0.family == remote.family }) {
                fields.refuse(
                    .contradiction, "remote_address",
                    "\(remote) can't be reached from an address of the other family: add one to "
                        + "node.addresses")
            }
            if context.addresses.contains(remote) {
                fields.refuse(
                    .contradiction, "remote_address",
                    "\(remote) is our own address: name the peer's")
            }
            let inside = connection.remoteAddresses.contains {
                $0.first.family == remote.family && IPAddress.isOrdered($0.first, remote)
                    && IPAddress.isOrdered(remote, $0.last)
            }
            if !inside {
                fields.refuse(
                    .contradiction, "remote_addresses",
                    "\(remote), the remote_address, is not among them: add it")
            }
        }
        if connection.asksForAddress, !connection.pools.isEmpty {
            fields.refuse(
                .contradiction, "request_address",
                "who gives addresses (pools) does not ask for one: remove one of both")
        }
        if connection.asksForAddress, connection.remoteAddress == nil {
            fields.refuse(
                .contradiction, "request_address",
                "only who begins can ask for an address: add remote_address")
        }
        if !connection.fragments, case .signature = connection.localAuthentication {
            fields["fragmentation"]?.warn(
                .unusual, "messages with certificates are long, and many networks drop IP fragments"
            )
        }
    }
}

/// Reads `children`.
enum ChildSettings {
    private static let known = ["proposals", "local", "remote", "mode", "replay_window"]

    static func read(_ setting: Setting) -> [ChildPolicy] {
        setting.namedSettings()?.named().compactMap { name, value in
            value.settings(known).flatMap { child(name, $0) }
        } ?? []
    }

    private static func child(_ name: String, _ fields: Settings) -> ChildPolicy? {
        let proposals = ProposalSettings.read(fields["proposals"], for: .child)
        let local = selectors(fields["local"])
        let remote = selectors(fields["remote"])
        let modes: [(word: String, value: Mode)] = [("tunnel", .tunnel), ("transport", .transport)]
        let mode = fields["mode"].map { $0.choice(modes) } ?? .tunnel
        let replayWindow = fields["replay_window"].map(Self.window) ?? 64
        guard let proposals, let local, let remote, let mode, let replayWindow else { return nil }
        if replayWindow == 0,
            proposals.contains(where: { $0.extendedSequenceNumbers.contains(true) })
        {
            fields.refuse(
                .contradiction, "replay_window",
                "extended sequence numbers (esn) need a replay window (RFC 4303 §3.3.3): use 32 to "
                    + "4096")
        }
        if case (.fixed(let left), .fixed(let right)) = (local, remote) {
            check(left, right, fields)
        }
        if mode == .transport {
            for (name, side) in [("local", local), ("remote", remote)] {
                guard case .fixed = side else { continue }
                fields[name]?.warn(
                    .unusual,
                    "transport mode is for the packets of the two ends themselves: \"dynamic\" "
                        + "stands for their addresses")
            }
        }
        return ChildPolicy(
            name: name, proposals: proposals, local: local, remote: remote, mode: mode,
            replayWindow: replayWindow)
    }

    private static func check(
        _ local: [TrafficSelector], _ remote: [TrafficSelector], _ fields: Settings
    ) {
        let families = Set(local.map(\.first.family))
        if families.isDisjoint(with: remote.map(\.first.family)) {
            fields.refuse(
                .contradiction, "remote",
                "local and remote have no family of addresses in common: no packet fits both")
        }
    }

    /// `dynamic`, which is the default, or a list of selectors.
    private static func selectors(_ setting: Setting?) -> ChildPolicy.Selectors? {
        guard let setting else { return .dynamic }
        if case .text("dynamic", _) = setting.node.content { return .dynamic }
        let list = setting.list { element in
            element.parsed(.selector) { text throws(TrafficSelectorTextError) in
                try TrafficSelector(parsing: text)
            }
        }
        guard let list else { return nil }
        guard list.count <= AssociationSelectors.listMaximum else {
            setting.refuse(
                .outOfRange,
                "\(list.count) selectors are too many: use at most "
                    + "\(AssociationSelectors.listMaximum), or wider ones")
            return nil
        }
        return .fixed(list)
    }

    private static func window(_ setting: Setting) -> Int? {
        guard let window = setting.number(in: 0...4096) else { return nil }
        guard window == 0 || window >= 32 else {
            setting.refuse(.outOfRange, "\(window) is not possible: use 0 (off) or 32 to 4096")
            return nil
        }
        if window == 0 {
            setting.warn(.weak, "packets that are sent a second time are taken a second time")
        }
        return window
    }
}
