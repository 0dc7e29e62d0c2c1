// The settings of a member of a cluster.

internal import Cluster
internal import EtcdMessages
internal import Gateway
internal import IKEStub
internal import Wire

/// What the settings of a cluster are compared with.
struct ClusterContext {
    let root: Settings
    let files: ConfigurationFiles
    /// Nil when it can't be read.
    let node: NodeConfiguration?
    let pools: [AddressPool]

    /// The cluster addresses toward the peers; empty when they can't be read.
    var addresses: [IPAddress] { node?.addresses ?? [] }
}

/// Reads `cluster`.
enum ClusterSettings {
    private static let known = [
        "node", "key", "store", "link", "outside", "inside", "shared_mac", "identifiers",
        "heartbeat", "heartbeats_missed", "session", "takeover", "backups", "when_full",
    ]
    private static let nodeMaximum = Int(UInt16.max)
    private static let millisecond: UInt64 = 1_000_000
    private static let second: UInt64 = 1_000_000_000

    /// Nil when something is wrong with what has no default.
    static func read(_ setting: Setting, _ context: ClusterContext) -> ClusterConfiguration? {
        guard let fields = setting.settings(known) else { return nil }
        refuseOthers(context)
        checkAddresses(context)
        let node = fields.required("node")?.number(in: 1...nodeMaximum)
        let key = fields.required("key").flatMap { Self.key($0, context.files) }
        let store = fields.required("store").flatMap { StoreSettings.read($0, context.files) }
        let outside = fields.required("outside").flatMap(SegmentSettings.outside)
        let inside = fields.required("inside").flatMap { SegmentSettings.inside($0, context) }
        let link = fields.required("link").flatMap { Self.link($0, context, inside) }
        if let outside, inside?.device == outside.device {
            fields["inside"]?.namedSettings()?.refuse(
                .contradiction, "device",
                "\(outside.device) is the device of outside, too: what is protected and what is "
                    + "not need a segment each")
        }
        let timing = timing(fields)
        guard let node, let key, let store, let link, let outside, let inside else { return nil }
        var cluster = ClusterConfiguration(
            node: NodeID(UInt16(node)), key: key, store: store, linkAddress: link.address,
            outside: outside, inside: inside)
        cluster.outside.addresses = context.addresses
        cluster.linkPort = link.port
        cluster.timing = timing
        readChoices(fields, &cluster)
        return cluster
    }

    // MARK: With the rest of the file

    /// What a node alone has, and a member can't have.
    private static func refuseOthers(_ context: ClusterContext) {
        let node = nodeFields(context)
        node?["tunnel"]?.refuse(
            .contradiction,
            "a member of a cluster has no TUN device, as cluster.inside takes its place: remove it")
        node?["state"]?.refuse(
            .contradiction,
            "a member of a cluster keeps its state in cluster.store: remove it")
        context.root["associations"]?.refuse(
            .contradiction,
            "manually keyed associations are not supported in a cluster yet: remove them, or run a "
                + "node alone")
    }

    private static func checkAddresses(_ context: ClusterContext) {
        guard let setting = nodeFields(context)?["addresses"], !context.addresses.isEmpty else {
            return
        }
        SegmentSettings.check(context.addresses, setting, linkLocal: false)
    }

    /// Whatever is wrong with `node` itself is said where it is read.
    private static func nodeFields(_ context: ClusterContext) -> Settings? {
        guard let node = context.root["node"], case .fields = node.node.content else {
            return nil
        }
        return node.namedSettings()
    }

    // MARK: What has no default

    private static func key(_ setting: Setting, _ files: ConfigurationFiles) -> ClusterKey? {
        guard case (let path, var octets)? = files.octets(of: setting, secret: true) else {
            return nil
        }
        defer { octets.withUnsafeMutableBytes(TextFile.wipe) }
        do throws(ClusterKeyFileError) {
            return try ClusterKeyFile.key(in: octets)
        } catch {
            setting.refuse(.secret, "\(printable(path: path)): \(error)")
            return nil
        }
    }

    private static func link(
        _ setting: Setting, _ context: ClusterContext, _ inside: SegmentConfiguration?
    ) -> (address: IPAddress, port: UInt16)? {
        guard let fields = setting.settings(["address", "port"]) else { return nil }
        var port = ClusterConfiguration.defaultLinkPort
        if let number = fields["port"]?.number(in: 1...65_535) { port = UInt16(number) }
        guard let value = fields.required("address"),
            let address = value.station(loopback: true)
        else { return nil }
        let shared = context.addresses + (inside?.addresses ?? [])
        if shared.contains(address) {
            value.refuse(
                .contradiction,
                "\(address) is an address of the whole cluster: use one that only this node has")
        }
        SegmentSettings.refusePooled(address, value, context)
        if address.isLoopback {
            value.warn(.unusual, "\(address) is reached by nodes of the same host only")
        }
        return (address, port)
    }

    // MARK: What has a default

    private static func timing(_ fields: Settings) -> ClusterTiming {
        var timing = ClusterTiming()
        if let beat = fields["heartbeat"]?.duration(in: millisecond...second) {
            timing.heartbeatNanoseconds = beat
        }
        if let missed = fields["heartbeats_missed"]?.number(in: 2...100) {
            timing.heartbeatsMissed = UInt64(missed)
        }
        if let session = fields["session"]?.duration(in: second...60 * second) {
            if session % second == 0 {
                timing.sessionSeconds = Int(session / second)
            } else {
                fields.refuse(
                    .outOfRange, "session",
                    "\(DurationText.text(session)) is not possible: etcd takes whole seconds")
            }
        }
        check(timing, fields)
        return timing
    }

    private static func check(_ timing: ClusterTiming, _ fields: Settings) {
        let detection = timing.detectionNanoseconds
        let session = UInt64(timing.sessionSeconds) * second
        guard session > detection else {
            let name = ["session", "heartbeats_missed", "heartbeat"].first { fields[$0] != nil }
            fields.refuse(
                .contradiction, name ?? "session",
                "session (\(DurationText.text(session))) has to be longer than heartbeat times "
                    + "heartbeats_missed (\(DurationText.text(detection))): the store is to notice "
                    + "what the nodes did not")
            return
        }
        let beat = fields["heartbeat"] ?? fields["heartbeats_missed"]
        if detection < 15 * millisecond {
            beat?.warn(
                .unusual,
                "a node that the system lets wait for \(DurationText.text(detection)) loses its "
                    + "tunnels to the others, as if it were dead: 30ms is usual")
        } else if detection > second {
            beat?.warn(
                .unusual,
                "tunnels of a dead node stand still for \(DurationText.text(detection)) and more: "
                    + "30ms is usual")
        }
        if timing.sessionSeconds == 1 {
            fields["session"]?.warn(
                .unusual, "with its usual times, etcd lets no session end before 2s")
        } else if timing.sessionSeconds > 10 {
            fields["session"]?.warn(
                .unusual,
                "where too few nodes are left to vote, tunnels of the dead stand still for "
                    + "\(DurationText.text(session)): 2s is usual")
        }
    }

    private static func readChoices(_ fields: Settings, _ cluster: inout ClusterConfiguration) {
        let forms = SharedAddressForm.allCases.map { ($0.rawValue, $0) }
        if let form = fields["shared_mac"]?.choice(forms) { cluster.sharedAddressForm = form }
        if let count = fields["identifiers"].flatMap(identifiers) {
            cluster.identifierCount = count
        }
        let policies = TakeoverPolicy.allCases.map { ($0.rawValue, $0) }
        if let policy = fields["takeover"]?.choice(policies) {
            cluster.takeoverPolicy = policy
            if policy == .strict {
                fields["takeover"]?.warn(
                    .unusual,
                    "after each takeover, packets of peers without RFC 6311 are refused until "
                        + "their numbers are above all that may have been accepted")
            }
        }
        cluster.backups = fields["backups"].flatMap(backups)
        let fulls = GatewayConfiguration.FullCardPolicy.allCases.map { ($0.rawValue, $0) }
        if let full = fields["when_full"]?.choice(fulls) {
            cluster.whenFull = full
            if full == .wait {
                fields["when_full"]?.warn(
                    .unusual,
                    "peers are told that they have a tunnel, and its packets are dropped until "
                        + "there is room: refuse tells them, host serves them")
            }
        }
    }

    private static func identifiers(_ setting: Setting) -> Int? {
        guard let count = setting.number(in: 16...4096) else { return nil }
        guard count.nonzeroBitCount == 1 else {
            let lower = 1 << (Int.bitWidth - 1 - count.leadingZeroBitCount)
            setting.refuse(
                .outOfRange,
                "\(count) is not possible: use a power of two, such as \(lower) or \(2 * lower)")
            return nil
        }
        return count
    }

    private static func backups(_ setting: Setting) -> Int? {
        if case .text(let word, _) = setting.node.content {
            if word == "all" { return nil }
            guard word.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
                setting.refuse(
                    .unknownWord,
                    "\(setting.source.quote(word)) is not known: use all, or a number of nodes")
                return nil
            }
        }
        guard let count = setting.number(in: 1...nodeMaximum - 1) else { return nil }
        if count > 16 {
            setting.warn(.unusual, "in a cluster of \(count + 1) nodes or less, that is all")
        }
        return count
    }
}
