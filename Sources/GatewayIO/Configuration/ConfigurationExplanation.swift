// Says in words what a node with a configuration would do. No secret is in it.

internal import Crypto
internal import ESP
internal import Foundation
internal import IKEStub
internal import Wire

extension NodeConfiguration {
    /// Lines for a terminal; the node first, then its pools and connections in order.
    public func explanation() -> [String] {
        var lines = [
            "Node",
            "  answers IKE at \(joined(addresses)), UDP \(ikePort) and \(encapsulationPort)",
            "  takes commands at \(printable(path: controlSocket))",
            "  holds \(cardCapacity) pairs of CHILD SAs at most, and \(ike.limits.associations) "
                + "IKE SAs, each with \(ike.limits.childrenPerAssociation) pairs at most",
            "  asks for cookies above \(ike.limits.cookiesAbove) half-open set-ups; takes "
                + "\(ike.limits.halfOpen) of them, \(ike.limits.halfOpenPerAddress) of one address",
        ]
        if let monitor { lines.append("  serves metrics and health at http://\(monitor)/") }
        if cluster == nil {
            lines += [
                "  passes inner packets through the TUN device \(tunnelDevice), MTU "
                    + "\(tunnelMTU), "
                    + (setsRoutes ? "and routes peers' networks there" : "without setting routes"),
                "  keeps what must outlive it in "
                    + (stateDirectory.map { printable(path: whole($0)) }
                        ?? "memory only: a stop ends all"),
            ]
        }
        if let associations {
            lines.append(
                "  has \(count(associations.entries.count, "manual SA")) of "
                    + printable(path: associations.name))
        }
        lines.append("  knows \(count(ike.presharedKeys.count, "pre-shared key"))")
        if let cluster { lines += cluster.explanation(addresses: addresses) }
        for pool in ike.pools {
            let servers =
                pool.nameServers.isEmpty
                ? "" : ", with the name servers \(joined(pool.nameServers))"
            lines += ["", "Pool \(pool.name)", "  gives \(pool.range.text) to peers\(servers)"]
        }
        for (index, connection) in ike.connections.enumerated() {
            lines += [
                "", "Connection \(connection.name) (\(index + 1) of \(ike.connections.count))",
            ]
            let port = remotePorts[connection.name]
            lines += connection.explanation(remotePort: port).map { "  \($0)" }
        }
        return lines
    }
}

extension Connection {
    fileprivate func explanation(remotePort: UInt16?) -> [String] {
        var lines = [
            "we are \(localIdentity), proven by \(localProof)",
            "the peer is \(remoteText) \(origin), proven by \(remoteProof)",
        ]
        if let remoteAddress {
            let place = remotePort.map { "\(remoteAddress) port \($0)" } ?? "\(remoteAddress)"
            lines.append("we can begin it with \(place); the peer can, too")
        } else {
            lines.append("peers begin it")
        }
        if asksForAddress { lines.append("we ask for an address") }
        lines.append("one identity has \(associationsPerIdentity) IKE SAs at most")
        if !pools.isEmpty { lines.append("peers that ask get an address of \(joined(pools))") }
        lines.append("IKE: \(joined(proposals))")
        lines.append(
            "new IKE keys after \(DurationText.text(timers.rekeyIKE)), new CHILD keys after "
                + "\(DurationText.text(timers.rekeyChild)), both up to "
                + "\(DurationText.text(timers.rekeyJitter)) earlier; given up "
                + "\(DurationText.text(timers.overtime)) after that")
        let liveness =
            timers.liveness == 0
            ? "silent peers are never asked"
            : "peers silent for \(DurationText.text(timers.liveness)) are asked"
        lines.append(
            "\(liveness); who does not answer for \(DurationText.text(timers.patience)) is dead")
        lines.append(
            "long messages go \(fragments ? "in fragments (RFC 7383)" : "in one piece"); ESP goes "
                + "in UDP \(forcesEncapsulation ? "always" : "where there is a NAT")")
        for child in children { lines += child.explanation }
        return lines
    }

    private var remoteText: String {
        switch remoteIdentity {
        case .any: "anybody"
        case .exactly: "\(remoteIdentity)"
        default: "everybody of \(remoteIdentity)"
        }
    }

    private var origin: String {
        let target = localAddress.map { " to \($0)" } ?? ""
        guard !remoteAddresses.isEmpty else { return "from any address\(target)" }
        return "from \(joined(remoteAddresses.map(\.text)))\(target)"
    }

    private var localProof: String {
        switch localAuthentication {
        case .presharedKey: "a pre-shared key"
        case .signature(let signer):
            signer.chain.first.map {
                "the certificate of \"\($0.subject)\", valid until \($0.notAfterText)"
            } ?? "a certificate"
        }
    }

    private var remoteProof: String {
        switch remoteAuthentication {
        case .presharedKey: "a pre-shared key"
        case .certificate(let anchors):
            "a certificate of "
                + anchors.authorities.map { "\"\($0.subject)\"" }.joined(separator: " or ")
        }
    }
}

extension ChildPolicy {
    fileprivate var explanation: [String] {
        let window = replayWindow == 0 ? "no replay check" : "replay window \(replayWindow)"
        return [
            "child \(name): \(mode == .tunnel ? "tunnel" : "transport, if the peer asks for it"), "
                + "\(local.text(ours: true)) here and \(remote.text(ours: false)) there, \(window)",
            "  ESP: \(joined(proposals))",
        ]
    }
}

extension ChildPolicy.Selectors {
    fileprivate func text(ours: Bool) -> String {
        switch self {
        case .fixed(let selectors): joined(selectors.map(\.text))
        case .dynamic: ours ? "our address" : "the peer's address"
        }
    }
}

extension TrafficSelector {
    /// The text that ``init(parsing:)`` reads.
    var text: String {
        let ports = firstPort == lastPort ? "\(firstPort)" : "\(firstPort)-\(lastPort)"
        let suffix: String =
            switch (ipProtocol, firstPort == 0 && lastPort == .max) {
            case (0, true): ""
            case (let number, true): "[\(Self.name(number))]"
            case (let number, false): "[\(Self.name(number))/\(ports)]"
            }
        return addressText + suffix
    }

    private var addressText: String {
        if first == last { return "\(first)" }
        for length in 0..<first.bitWidth {
            let range = first.prefixRange(length: length)
            if range.first == first, range.last == last { return "\(first)/\(length)" }
        }
        return "\(first)-\(last)"
    }

    private static func name(_ number: UInt8) -> String {
        switch number {
        case IPProtocol.tcp: "tcp"
        case IPProtocol.udp: "udp"
        case IPProtocol.icmp: "icmp"
        case IPProtocol.icmpV6: "icmpv6"
        default: "\(number)"
        }
    }
}

/// Relative paths are so to the folder in which the program was started.
private func whole(_ path: String) -> String {
    guard !path.hasPrefix("/") else { return path }
    let relative = path.hasPrefix("./") ? String(path.dropFirst(2)) : path
    return FileManager.default.currentDirectoryPath + "/" + relative
}

func joined(_ values: [some CustomStringConvertible]) -> String {
    values.map(\.description).joined(separator: ", ")
}

func count(_ number: Int, _ noun: String) -> String {
    "\(number) \(noun)\(number == 1 ? "" : "s")"
}
