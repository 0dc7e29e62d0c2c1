// Where etcd is, and how it is spoken to.

/// One member of an etcd cluster, as a client reaches it.
public struct EtcdEndpoint: Hashable, Sendable {
    /// The port that etcd listens on for clients, unless it is told otherwise.
    public static let defaultPort: UInt16 = 2379

    /// A name, or an IPv4 or IPv6 address without brackets.
    public var host: String
    /// The TCP port for clients.
    public var port: UInt16

    /// An endpoint of these parts.
    public init(host: String, port: UInt16 = defaultPort) {
        self.host = host
        self.port = port
    }

    /// Reads `host`, `host:port`, `[address]` or `[address]:port`.
    public init(parsing text: String) throws(EtcdError) {
        let octets = Array(text.utf8)
        let isAddress = octets.first == UInt8(ascii: "[")
        let mark = isAddress ? UInt8(ascii: "]") : UInt8(ascii: ":")
        let hostEnd = octets.firstIndex(of: mark) ?? octets.count
        let host = octets[(isAddress ? 1 : 0)..<hostEnd]
        var rest = octets[hostEnd...]
        if isAddress {
            guard rest.popFirst() != nil else { throw .endpoint(text) }
        }
        let isNamed = host.allSatisfy { byte in
            (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
                || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-")
                || (isAddress && (byte == UInt8(ascii: ":") || byte == UInt8(ascii: "%")))
        }
        guard !host.isEmpty, isNamed else { throw .endpoint(text) }
        self.init(host: String(decoding: host, as: UTF8.self))
        if rest.popFirst() != nil {
            let digits = String(decoding: rest, as: UTF8.self)
            guard octets[octets.count - rest.count - 1] == UInt8(ascii: ":"),
                digits.utf8.first != UInt8(ascii: "+"),
                let number = UInt16(digits), number > 0
            else { throw .endpoint(text) }
            port = number
        }
    }
}

extension EtcdEndpoint: CustomStringConvertible {
    /// `host:port`, with brackets around an IPv6 address.
    public var description: String {
        host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}

/// How the members of the etcd cluster and this node prove who they are.
public struct EtcdTLS: Hashable, Sendable {
    /// Path of a PEM file with the authorities that the members' certificates must come from.
    public var authority: String
    /// Path of a PEM file with this node's certificate, and those above it; nil: it shows none.
    public var certificate: String?
    /// Path of a PEM file with the certificate's private key, which nobody else may read.
    public var key: String?
    /// The name or address that the members' certificates must have; nil: the endpoint's host.
    public var serverName: String?

    /// Settings of these parts.
    public init(
        authority: String, certificate: String? = nil, key: String? = nil,
        serverName: String? = nil
    ) {
        self.authority = authority
        self.certificate = certificate
        self.key = key
        self.serverName = serverName
    }
}

/// An etcd cluster and how patient a node is with it.
public struct EtcdConfiguration: Hashable, Sendable {
    /// Members of one cluster. Not all have to be named; any that is may fail.
    public var endpoints: [EtcdEndpoint]
    /// nil: without TLS, for a laboratory. Whoever is between node and etcd can then change and
    /// withhold what it says.
    public var tls: EtcdTLS?
    /// Stands before every key in etcd, so that several clusters can share one; may be empty.
    public var keyPrefix: String
    /// After so many nanoseconds a request is answered, one way or the other; each page of a
    /// large read has as many again. Below the two seconds after which a node gives up by itself.
    public var requestNanoseconds: UInt64 = 1_500_000_000
    /// A member that has been silent for so many nanoseconds is asked whether it is still there,
    /// and has as many to answer.
    public var probeNanoseconds: UInt64 = 500_000_000
    /// A watch that has told nothing for so many nanoseconds, while the store went on, is begun
    /// anew.
    public var stallNanoseconds: UInt64 = 2_000_000_000

    /// A configuration with the usual times.
    public init(endpoints: [EtcdEndpoint], tls: EtcdTLS? = nil, keyPrefix: String = "") {
        self.endpoints = endpoints
        self.tls = tls
        self.keyPrefix = keyPrefix
    }
}
