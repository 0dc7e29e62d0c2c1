// Why a node can't start or go on, in sentences that say what to do.

public import EtcdMessages
internal import Glibc

/// A failure of a live node.
public enum NodeError: Error, Equatable, CustomStringConvertible {
    /// The kernel refused something for want of privileges.
    case notPermitted(doing: String, needs: String)
    /// A port that another program has.
    case portInUse(String)
    /// There is no TUN driver.
    case noTunnelDriver(String)
    /// A device of the name is in use.
    case deviceBusy(String)
    /// Another node has routes and the rule for them in this network namespace.
    case routesInUse
    /// Another node listens at the control socket.
    case controlInUse(String)
    /// A path that is too long for a socket.
    case controlPath(String)
    /// Something else than a socket stands where the control socket is to be.
    case controlTaken(String)
    /// Something else that the kernel refused, in its words.
    case system(doing: String, reason: String)
    /// OpenSSL can't serve.
    case library(String)
    /// There is no way to the store that all members have in common.
    case store(EtcdError)
    /// The state directory can't be used.
    case state(StateError)
    /// Manually keyed associations, or a handover, without a state directory.
    case needsState(String)

    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .notPermitted(let doing, let needs):
            "\(doing): not permitted: run as root, or with \(needs)"
        case .portInUse(let address):
            "\(address) is in use: stop the other IKE daemon, or configure other ports"
        case .noTunnelDriver(let path):
            "\(path) is missing: load the driver (modprobe tun), or pass the device into the "
                + "container"
        case .deviceBusy(let name):
            "the device \(name) is in use: stop the other node, or configure another name"
        case .routesInUse:
            "another node has the routes of this network namespace: stop it, or start this one in "
                + "a namespace of its own"
        case .controlInUse(let path):
            "another node listens at \(path): stop it, or configure another control socket"
        case .controlPath(let path):
            "\(path) is too long for a control socket: choose a path of at most 107 octets"
        case .controlTaken(let path):
            "\(path) is there, and is no socket: move it away, or configure another control socket"
        case .system(let doing, let reason): "\(doing): \(reason)"
        case .library(let reason): reason
        case .store(let error): error.description
        case .state(let error): error.description
        case .needsState(let what):
            "\(what): name a directory in the configuration, such as "
                + "`node: {state: /var/lib/spindle}`"
        }
    }

    /// From `errno`, at once after a failed call.
    static func last(_ doing: String, needs: String = "CAP_NET_ADMIN and CAP_NET_RAW") -> NodeError
    {
        let cause = errno
        if cause == EPERM || cause == EACCES { return .notPermitted(doing: doing, needs: needs) }
        return .system(doing: doing, reason: String(cString: strerror(cause)))
    }
}
