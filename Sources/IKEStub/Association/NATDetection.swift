// Is a NAT between the ends? (RFC 7296 §2.23)

internal import Crypto
internal import Wire

enum NATDetection {
    /// SHA-1 of SPIi | SPIr | address | port.
    static func hash(
        initiatorSPI: UInt64, responderSPI: UInt64, _ address: IPAddress, _ port: UInt16
    ) -> [UInt8] {
        let octets = initiatorSPI.octets + responderSPI.octets + address.octets + port.octets
        return octets.withUnsafeBytes { Hash.sha1.digest($0) }
    }

    /// What a message says about where it comes from and goes to. `pretends`: the peer shall
    /// believe in a NAT before us, so that ESP goes in UDP.
    static func payloads(
        initiatorSPI: UInt64, responderSPI: UInt64, _ path: IKEPath, pretends: Bool
    ) -> [Payload] {
        let source =
            pretends
            ? [UInt8](repeating: 0, count: 20)
            : hash(
                initiatorSPI: initiatorSPI, responderSPI: responderSPI, path.local, path.localPort)
        let destination = hash(
            initiatorSPI: initiatorSPI, responderSPI: responderSPI, path.remote, path.remotePort)
        return [
            .notify(.natDetectionSourceIP, source),
            .notify(.natDetectionDestinationIP, destination),
        ]
    }

    /// Where NATs are, from the peer's message; nothing when it did not ask.
    static func traits(
        _ payloads: [Payload], initiatorSPI: UInt64, responderSPI: UInt64, _ path: IKEPath
    ) -> PeerTraits {
        var sources: [[UInt8]] = []
        for case .notify(let notify) in payloads
        where notify.type == NotifyType.natDetectionSourceIP.rawValue {
            sources.append(notify.data)
        }
        guard !sources.isEmpty, let destination = payloads.notify(.natDetectionDestinationIP)
        else { return [] }
        let peer = hash(
            initiatorSPI: initiatorSPI, responderSPI: responderSPI, path.remote, path.remotePort)
        let own = hash(
            initiatorSPI: initiatorSPI, responderSPI: responderSPI, path.local, path.localPort)
        var traits: PeerTraits = []
        // A peer with several addresses sends one hash for each.
        if !sources.contains(peer) { traits.insert(.remoteNAT) }
        if destination.data != own { traits.insert(.localNAT) }
        return traits
    }
}

extension IPAddress {
    /// 4 or 16 octets in network order.
    var octets: [UInt8] {
        family == .v4 ? UInt32(truncatingIfNeeded: low).octets : high.octets + low.octets
    }
}
