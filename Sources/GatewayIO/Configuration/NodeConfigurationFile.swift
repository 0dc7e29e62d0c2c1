// A node's configuration file: YAML in, a NodeConfiguration or all of its faults out. The settings
// are listed in docs/configuration.md.

internal import Crypto
internal import ESP
internal import Glibc
internal import IKEStub
internal import Wire

/// A configuration that can be run.
public struct NodeConfigurationFile {
    /// What the file says.
    public let configuration: NodeConfiguration
    /// What is allowed but should be known, in the order of the file.
    public let warnings: [ConfigurationFault]
    /// The file, as the caller named it.
    public let name: String

    private static let known = [
        "node", "secrets", "cluster", "pools", "limits", "connections", "associations",
    ]

    /// Reads a file and the files that it names.
    public static func read(path: String) throws(ConfigurationFaults) -> NodeConfiguration {
        try NodeConfigurationFile(path: path).configuration
    }

    /// Reads a file and the files that it names; certificates are judged by the system's clock.
    public init(path: String) throws(ConfigurationFaults) {
        var octets: [UInt8]
        do throws(AssociationFileError) {
            octets = try TextFile.read(path: path)
        } catch {
            throw ConfigurationFaults(
                faults: [ConfigurationFault(.file, file: path, text: error.text)], warnings: [])
        }
        // It holds no secrets, unless somebody wrote them into the wrong file.
        defer { octets.withUnsafeMutableBytes(TextFile.wipe) }
        self = try Self.parse(
            text: octets, name: path, seconds: Int64(time(nil))
        ) { file throws(NamedFileError) in try file.read() }
    }

    /// Reads a configuration from memory. `name` stands for the file in errors, and the paths of
    /// the configuration are relative to its folder; `seconds` since 1970 is when certificates have
    /// to be valid; `files` reads what the configuration names.
    public static func parse(
        text: [UInt8], name: String, seconds: Int64,
        files: (NamedFile) throws(NamedFileError) -> [UInt8]
    ) throws(ConfigurationFaults) -> NodeConfigurationFile {
        let log = FaultLog()
        let configuration = withoutActuallyEscaping(files) { files in
            read(
                text, SettingSource(file: name, hidesTexts: false, log: log),
                ConfigurationFiles(name: name, reading: files), seconds)
        }
        let warnings = FaultLog.ordered(log.warnings, first: name)
        guard let configuration, log.faults.isEmpty else {
            let faults = FaultLog.ordered(log.faults, first: name)
            precondition(!faults.isEmpty, "whatever is not read has a fault")
            throw ConfigurationFaults(faults: faults, warnings: warnings)
        }
        return NodeConfigurationFile(
            configuration: configuration, warnings: warnings, name: name)
    }

    private init(
        configuration: NodeConfiguration, warnings: [ConfigurationFault], name: String
    ) {
        self.configuration = configuration
        self.warnings = warnings
        self.name = name
    }

    private static func read(
        _ octets: [UInt8], _ source: SettingSource, _ files: ConfigurationFiles, _ seconds: Int64
    ) -> NodeConfiguration? {
        guard let root = source.root(octets)?.settings(known) else { return nil }
        let pools = root["pools"].map(PoolSettings.read) ?? []
        let limits = root["limits"].map(LimitSettings.read) ?? IKELimits()
        // Nil when they are there but can't be read: then nobody is told that a key is missing.
        let keys = root["secrets"].map { SecretsFile.read($0, files) } ?? []
        let node = NodeSettings.read(root, files)
        let context = ConnectionContext(
            files: files, addresses: node?.addresses ?? [], presharedKeys: keys,
            pools: pools.map(\.pool), seconds: seconds)
        let connections = root["connections"].map { ConnectionSettings.read($0, context) } ?? []
        let cluster = root["cluster"].flatMap {
            ClusterSettings.read(
                $0, ClusterContext(root: root, files: files, node: node, pools: pools.map(\.pool)))
        }
        let isMember = root["cluster"] != nil
        if root["connections"] == nil, isMember || root["associations"] == nil {
            root.refuse(
                .missingKey, "connections",
                isMember
                    ? "missing: add it"
                    : "missing, as is associations: a node needs one of them at least")
        }
        ConfigurationClashes.check(connections, pools, context)
        guard var node else { return nil }
        node.cluster = cluster
        // In a cluster they are refused as such.
        if !isMember, let setting = root["associations"] {
            ManualAssociations.read(setting, &node, files)
        }
        for one in connections { node.remotePorts[one.connection.name] = one.remotePort }
        node.ike = IKEConfiguration(
            connections: connections.map(\.connection), presharedKeys: keys ?? [],
            pools: pools.map(\.pool), limits: limits)
        return node
    }
}

/// Reads `associations`.
enum ManualAssociations {
    static func read(
        _ setting: Setting, _ node: inout NodeConfiguration, _ files: ConfigurationFiles
    ) {
        if node.stateDirectory == nil {
            setting.refuse(
                .missingKey,
                "sequence numbers of manually keyed associations must go on after a restart: name "
                    + "a directory for that, such as `node: {state: /var/lib/spindle}`")
        }
        guard case (let path, var octets)? = files.octets(of: setting, secret: true) else { return }
        defer { octets.withUnsafeMutableBytes(TextFile.wipe) }
        do throws(AssociationFileError) {
            let file = try AssociationFile(json: octets, name: path)
            if check(file, setting, node) {
                try file.requireUnambiguousSelectors(for: .inbound)
                try file.requireUnambiguousSelectors(for: .outbound)
            }
            node.associations = file
            node.associationsDigest = octets.withUnsafeBytes { Hash.sha256.digest($0) }
        } catch {
            setting.refuse(.associations, "\(error)")
        }
    }

    /// False when something was refused.
    private static func check(
        _ file: AssociationFile, _ setting: Setting, _ node: NodeConfiguration
    ) -> Bool {
        var isRight = true
        func refuse(_ index: Int, _ text: String) {
            isRight = false
            setting.refuse(
                .associations, "\(printable(path: file.name)): esp[\(index)]: \(text)")
        }
        for (index, entry) in file.entries.enumerated() {
            let ends = [entry.parameters.source, entry.parameters.destination]
            guard ends.filter(node.addresses.contains).count == 1 else {
                refuse(index, "of src and dst exactly one must be an address of the node")
                continue
            }
            let isInbound = node.addresses.contains(entry.parameters.destination)
            let port = isInbound ? entry.parameters.udp?.destination : entry.parameters.udp?.source
            if let port, port != node.encapsulationPort {
                refuse(
                    index,
                    "our \(isInbound ? "dport" : "sport") is \(port), but the node has ESP in UDP "
                        + "at \(node.encapsulationPort): correct one of them")
            }
            if !isInbound, entry.parameters.selectors.destination.isEmpty {
                setting.warn(
                    .unusual,
                    "\(printable(path: file.name)): esp[\(index)]: without ts_dst no route leads "
                        + "to it")
            }
        }
        guard isRight else { return false }
        do throws(ManualTunnel.Fault) {
            _ = try ManualTunnel.tunnels(of: file.entries, addresses: node.addresses)
        } catch {
            refuse(error.index, error.text)
        }
        return isRight
    }
}
