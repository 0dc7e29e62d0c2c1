// Finding payloads in a message; their order is free (RFC 7296 §2.5, §3.1).

internal import Crypto
internal import ESP
internal import Wire

extension [Payload] {
    /// The notification of that type, the first one.
    func notify(_ type: NotifyType) -> Notify? {
        for case .notify(let notify) in self where notify.type == type.rawValue { return notify }
        return nil
    }

    /// The first notification that means failure (RFC 7296 §3.10.1).
    var errorNotify: Notify? {
        for case .notify(let notify) in self where notify.isError { return notify }
        return nil
    }

    var proposals: [Proposal]? {
        for case .securityAssociation(let proposals) in self { return proposals }
        return nil
    }

    var nonce: [UInt8]? {
        for case .nonce(let nonce) in self { return nonce }
        return nil
    }

    var keyExchange: (group: UInt16, data: [UInt8])? {
        for case .keyExchange(let group, let data) in self { return (group, data) }
        return nil
    }

    var initiatorSelectors: [TrafficSelector]? {
        for case .initiatorSelectors(let list) in self { return list.selectors }
        return nil
    }

    var responderSelectors: [TrafficSelector]? {
        for case .responderSelectors(let list) in self { return list.selectors }
        return nil
    }

    /// IDi, with the octets that AUTH signs.
    var initiatorIdentity: (identity: Identity, body: [UInt8])? {
        for case .initiatorIdentity(let identity, let reserved) in self {
            return (identity, identity.body(reserved: reserved))
        }
        return nil
    }

    /// IDr, with the octets that AUTH signs.
    var responderIdentity: (identity: Identity, body: [UInt8])? {
        for case .responderIdentity(let identity, let reserved) in self {
            return (identity, identity.body(reserved: reserved))
        }
        return nil
    }

    var authentication: (method: UInt8, data: [UInt8])? {
        for case .authentication(let method, let data) in self { return (method, data) }
        return nil
    }

    var configuration: Configuration? {
        for case .configuration(let configuration) in self { return configuration }
        return nil
    }

    var deletes: [Delete] {
        compactMap { if case .delete(let delete) = $0 { delete } else { nil } }
    }

    /// X.509 certificates, the peer's own first (RFC 7296 §3.6).
    var certificates: [[UInt8]] {
        compactMap { payload in
            guard case .certificate(CertificateEncoding.x509Signature, let data) = payload else {
                return nil
            }
            return data
        }
    }

    /// True when a payload that may stand once stands twice.
    var hasDuplicates: Bool {
        var seen: Set<UInt8> = []
        return contains { payload in
            switch payload {
            case .certificate, .certificateRequest, .notify, .delete, .vendorID, .unknown: false
            default: !seen.insert(payload.type).inserted
            }
        }
    }

}

extension Notify {
    /// Its RFC name, or its number.
    var name: String { notifyType?.name ?? "notification \(type)" }
}

/// Certificate encodings (RFC 7296 §3.6).
enum CertificateEncoding {
    static let x509Signature: UInt8 = 4
}

extension Payload {
    /// Authorities named in one message: some kilobytes of hashes would help nobody, and a peer
    /// whose authority is not among them still learns that it is asked (RFC 7296 §3.7).
    private static let authoritiesMaximum = 64

    /// CERTREQ for what these vouch for.
    static func certificateRequest(_ anchors: [TrustAnchors]) -> Payload {
        var hashes: [[UInt8]] = []
        for authority in anchors.flatMap(\.authorities)
        where hashes.count < authoritiesMaximum && !hashes.contains(authority.publicKeyHash) {
            hashes.append(authority.publicKeyHash)
        }
        return .certificateRequest(
            encoding: CertificateEncoding.x509Signature, data: hashes.flatMap { $0 })
    }

    /// A notification about the IKE SA itself, or about the message it stands in.
    static func notify(_ type: NotifyType, _ data: [UInt8] = []) -> Payload {
        .notify(Notify(type, data: data))
    }
}

extension SPI {
    /// Four octets in network order.
    var octets: [UInt8] { value.octets }

    init?(octets: [UInt8]) {
        guard octets.count == 4 else { return nil }
        self.init(octets.reduce(0) { $0 << 8 | UInt32($1) })
    }
}

extension FixedWidthInteger {
    /// In network order.
    var octets: [UInt8] { withUnsafeBytes(of: bigEndian, Array.init) }
}

extension UInt64 {
    /// An IKE SPI of eight octets.
    init?(octets: [UInt8]) {
        guard octets.count == 8 else { return nil }
        self = octets.reduce(0) { $0 << 8 | UInt64($1) }
    }
}
