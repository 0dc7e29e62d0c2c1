// Where the members of a cluster agree.

internal import EtcdMessages
internal import Wire

/// Reads `cluster.store`.
enum StoreSettings {
    private static let endpointsMaximum = 16
    private static let prefixBytes = 200

    /// Nil when something is wrong.
    static func read(_ setting: Setting, _ files: ConfigurationFiles) -> EtcdConfiguration? {
        guard let fields = setting.settings(["endpoints", "prefix", "tls"]) else { return nil }
        let endpoints = fields.required("endpoints")?.list(endpoint)
        let prefix = fields["prefix"].map(Self.prefix) ?? ""
        // Nil: absent; nil in it: wrong.
        let tls = fields["tls"].map { Self.tls($0, files) }
        if let endpoints { check(endpoints, fields) }
        guard let endpoints, let prefix else { return nil }
        if let tls, tls == nil { return nil }
        return EtcdConfiguration(endpoints: endpoints, tls: tls ?? nil, keyPrefix: prefix)
    }

    private static func endpoint(_ setting: Setting) -> EtcdEndpoint? {
        let endpoint = setting.parsed(.address) { text throws(EtcdError) in
            try EtcdEndpoint(parsing: text)
        }
        guard let endpoint else { return nil }
        // The last label of a name is never a number (RFC 1123 §2.1).
        let isNumeric = endpoint.host.utf8.allSatisfy {
            (0x30...0x39).contains($0) || $0 == UInt8(ascii: ".")
        }
        let address = endpoint.host.prefix { $0 != "%" }
        let isWritten = endpoint.host.utf8.contains(UInt8(ascii: ":")) || isNumeric
        guard !isWritten || IPAddress(String(address)) != nil else {
            setting.refuse(
                .address, "\(setting.source.quote(endpoint.host)) is not an IP address: correct it")
            return nil
        }
        return endpoint
    }

    private static func check(_ endpoints: [EtcdEndpoint], _ fields: Settings) {
        if endpoints.count > endpointsMaximum {
            fields.refuse(
                .outOfRange, "endpoints",
                "\(endpoints.count) endpoints are too many: use at most \(endpointsMaximum)")
        }
        if Set(endpoints).count < endpoints.count {
            fields.refuse(.clash, "endpoints", "an endpoint stands there twice: remove one")
        }
        if fields["tls"] == nil, !endpoints.allSatisfy(\.isLoopback) {
            fields["endpoints"]?.warn(
                .weak,
                "without tls, whoever is between node and etcd can change and withhold what it "
                    + "says: add tls, unless this is a laboratory")
        }
    }

    private static func prefix(_ setting: Setting) -> String? {
        if case .text("", _) = setting.node.content { return "" }
        guard let prefix = setting.name(bytesMaximum: prefixBytes) else { return nil }
        if !prefix.hasSuffix("/") {
            setting.warn(
                .unusual,
                "the keys of this cluster begin with \(quoted(prefix + "spindle/")): put a slash "
                    + "at its end")
        }
        return prefix
    }

    private static func tls(_ setting: Setting, _ files: ConfigurationFiles) -> EtcdTLS? {
        let known = ["authority", "certificate", "key", "server_name"]
        guard let fields = setting.settings(known) else { return nil }
        let authority = fields.required("authority").flatMap { path($0, files) }
        let certificate = fields["certificate"].map { path($0, files) }
        let key = fields["key"].map { path($0, files, secret: true) }
        let name = fields["server_name"].map(serverName)
        if (certificate == nil) != (key == nil) {
            fields.refuse(
                .contradiction, certificate == nil ? "key" : "certificate",
                "a certificate needs its key, and a key its certificate: add the other, or remove "
                    + "this one")
            return nil
        }
        guard let authority else { return nil }
        let others = [certificate, key, name].compactMap { $0 }
        guard others.allSatisfy({ $0 != nil }) else { return nil }
        return EtcdTLS(
            authority: authority, certificate: certificate ?? nil, key: key ?? nil,
            serverName: name ?? nil)
    }

    /// Where a file is that can be read. What is in it is looked at by who speaks to etcd.
    private static func path(
        _ setting: Setting, _ files: ConfigurationFiles, secret: Bool = false
    ) -> String? {
        guard case (let path, var octets)? = files.octets(of: setting, secret: secret) else {
            return nil
        }
        octets.withUnsafeMutableBytes(TextFile.wipe)
        return path
    }

    private static func serverName(_ setting: Setting) -> String? {
        guard let name = setting.name(bytesMaximum: 253) else { return nil }
        let isName = name.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x41...0x5A).contains($0)
                || (0x61...0x7A).contains($0) || "-_.".utf8.contains($0)
        }
        guard isName || IPAddress(name) != nil else {
            setting.refuse(
                .outOfRange,
                "\(setting.source.quote(name)) is no name of a host: write the name or address "
                    + "that stands in etcd's certificate")
            return nil
        }
        return name
    }
}

extension EtcdEndpoint {
    /// True when nobody on a network is between us and it.
    fileprivate var isLoopback: Bool {
        host.lowercased() == "localhost" || IPAddress(host)?.isLoopback == true
    }
}
