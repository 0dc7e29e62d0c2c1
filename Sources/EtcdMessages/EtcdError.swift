// What can be wrong between a node and etcd, in words for who has to mend it.

/// Why etcd can't be used, at the start or just now.
public enum EtcdError: Error, Hashable, Sendable {
    /// No endpoint is configured.
    case noEndpoint
    /// Not a host and port.
    case endpoint(String)
    /// A file can't be read.
    case file(path: String, reason: String)
    /// The file with the private key can be used by others.
    case exposedKey(path: String, reason: String)
    /// A file holds no usable certificate.
    case certificate(path: String, reason: String)
    /// A file holds no usable private key, or one of another certificate.
    case key(path: String, reason: String)
    /// Only one of certificate and key is named.
    case halfIdentity
    /// The system refuses what the client needs to begin.
    case system(String)
    /// No connection to this endpoint.
    case unreachable(EtcdEndpoint, reason: String)
    /// The two ends don't trust each other.
    case untrusted(EtcdEndpoint, reason: String)
    /// No answer within the time limit.
    case silent(EtcdEndpoint)
    /// The endpoint knows no leader.
    case noLeader(EtcdEndpoint)
    /// etcd refuses a request.
    case refused(EtcdEndpoint, reason: String)
    /// What comes is not what etcd says.
    case malformed(EtcdEndpoint, reason: String)
    /// The endpoint belongs to another etcd cluster than the one used so far.
    case otherCluster(EtcdEndpoint)
    /// The endpoint's store lacks what was already acknowledged.
    case wentBack(EtcdEndpoint, revision: UInt64, known: UInt64)
}

extension EtcdError: CustomStringConvertible {
    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .noEndpoint: "no etcd endpoint: name at least one"
        case .endpoint(let text):
            "\(text.prefix(60).debugDescription) is no etcd endpoint: write host:port, with "
                + "brackets around an IPv6 address"
        case .file(let path, let reason): "\(path): \(reason): check the path and permissions"
        case .exposedKey(let path, let reason): "\(path): holds a private key, but \(reason)"
        case .certificate(let path, let reason):
            "\(path): no usable certificate (\(reason)): it must be PEM, beginning with "
                + "-----BEGIN CERTIFICATE-----"
        case .key(let path, let reason):
            "\(path): no usable private key (\(reason)): it must be PEM, not encrypted, and of "
                + "the configured certificate"
        case .halfIdentity:
            "a certificate for etcd needs its key, and a key its certificate: name both or none"
        case .system(let reason): "no client of etcd can be started: \(reason)"
        case .unreachable(let endpoint, let reason):
            "etcd at \(endpoint) can't be reached (\(reason)): check that it runs, and the "
                + "network"
        case .untrusted(let endpoint, let reason):
            "etcd at \(endpoint) and this node don't trust each other (\(reason)): check that the "
                + "authority signed etcd's certificate, that this names the host, and that etcd "
                + "takes this node's certificate"
        case .silent(let endpoint):
            "etcd at \(endpoint) does not answer in time: look at its load, disk and log"
        case .noLeader(let endpoint):
            "etcd at \(endpoint) has no leader: check that a majority of its members run and "
                + "reach each other"
        case .refused(let endpoint, let reason): "etcd at \(endpoint) refuses: \(reason)"
        case .malformed(let endpoint, let reason):
            "what answers at \(endpoint) is no etcd (\(reason)): check the address, TLS, and that "
                + "--enable-grpc-gateway is not off"
        case .otherCluster(let endpoint):
            "etcd at \(endpoint) belongs to another cluster: name members of one cluster only"
        case .wentBack(let endpoint, let revision, let known):
            "etcd at \(endpoint) is at revision \(revision) after \(known): it lost what it had "
                + "acknowledged, as by an old backup: stop all nodes, and start them anew with it"
        }
    }
}
