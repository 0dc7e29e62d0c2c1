// Reads `local` and `remote` of a connection: who the two ends are and how each proves it.

internal import Crypto
internal import IKEStub

enum AuthenticationSettings {
    private enum Method { case presharedKey, certificate }

    private static let methods: [(word: String, value: Method)] = [
        ("psk", .presharedKey), ("certificate", .certificate),
    ]

    struct Local {
        let identity: Identity
        let authentication: LocalAuthentication
    }

    struct Remote {
        let identity: IdentityPattern
        let authentication: RemoteAuthentication
    }

    // MARK: Our side

    static func local(_ setting: Setting, _ context: ConnectionContext) -> Local? {
        let known = ["identity", "auth", "certificate", "key"]
        guard let fields = setting.settings(known) else { return nil }
        let method = fields.required("auth")?.choice(methods)
        let identity = fields["identity"].map { setting in
            setting.parsed(.identity) { text throws(IdentityTextError) in
                try Identity(parsing: text)
            }
        }
        switch method {
        case nil: return nil
        case .presharedKey:
            refuseFiles(["certificate", "key"], fields)
            guard let identity else {
                fields.refuse(
                    .missingKey, "identity", "missing: add the name that peers know us by")
                return nil
            }
            return identity.map { Local(identity: $0, authentication: .presharedKey) }
        case .certificate:
            guard let signer = signer(fields, context), let leaf = signer.chain.first else {
                return nil
            }
            // Without an identity, we are the certificate's subject.
            guard let name = identity ?? .distinguishedName(leaf.subject.der) else { return nil }
            if !leaf.isFor(name) {
                fields.refuse(
                    .certificate, "identity",
                    "\(name) is not a name of the certificate, so that peers refuse it: use "
                        + names(of: leaf))
            }
            return Local(identity: name, authentication: .signature(signer))
        }
    }

    private static func refuseFiles(_ names: [String], _ fields: Settings) {
        for name in names where fields[name] != nil {
            fields.refuse(.contradiction, name, "not used with auth: psk: remove it")
        }
    }

    private static func signer(
        _ fields: Settings, _ context: ConnectionContext
    ) -> SigningIdentity? {
        let chain = fields.required("certificate").flatMap { certificates($0, context) }
        guard let setting = fields.required("key"), let key = privateKey(setting, context),
            let chain, let leaf = chain.first
        else { return nil }
        // They go into every IKE_AUTH, in at most 16 fragments where the peer is as strict as we.
        guard chain.count <= 8, chain.reduce(0, { $0 + $1.der.count }) <= 16_384 else {
            fields.refuse(
                .outOfRange, "certificate",
                "\(chain.count) certificates are too much to send: use at most 8 of 16384 octets "
                    + "together, our own and the intermediate ones")
            return nil
        }
        if !leaf.allowsSignatures {
            fields.refuse(
                .certificate, "certificate",
                "\(CertificateFault.wrongKeyUsage(subject: leaf.subject.description))")
        }
        if leaf.isAuthority {
            fields["certificate"]?.warn(
                .unusual, "the first certificate of the file is an authority's: put our own first")
        }
        guard let signer = SigningIdentity(key: key, chain: chain) else {
            setting.refuse(
                .key,
                "it is not the key of the certificate \(quoted(leaf.subject.description)), the "
                    + "first one of the other file: name the files that belong together")
            return nil
        }
        return signer
    }

    private static func privateKey(
        _ setting: Setting, _ context: ConnectionContext
    ) -> PrivateKey? {
        guard let pem = context.files.secret(of: setting) else { return nil }
        do throws(KeyFileFault) {
            return try PrivateKey(pem: pem)
        } catch {
            setting.refuse(.key, "\(error)")
            return nil
        }
    }

    /// "gw.lab.example, 192.0.2.1 or \"CN=gw\"".
    private static func names(of certificate: Certificate) -> String {
        var names = [quoted(certificate.subject.description)]
        for name in certificate.alternativeNames {
            switch name {
            case .dns(let text), .email(let text): names.append(quoted(text))
            case .ip(let octets):
                if let identity = Identity(type: octets.count == 4 ? 1 : 5, data: octets) {
                    names.append("\(identity)")
                }
            }
        }
        return names.joined(separator: " or ")
    }

    // MARK: The peer's side

    static func remote(_ setting: Setting, _ context: ConnectionContext) -> Remote? {
        let known = ["identity", "auth", "authorities", "revocations"]
        guard let fields = setting.settings(known) else { return nil }
        let method = fields.required("auth")?.choice(methods)
        let identity = fields.required("identity")?.parsed(.identity) {
            text throws(IdentityTextError) in try IdentityPattern(parsing: text)
        }
        let authentication: RemoteAuthentication?
        switch method {
        case nil: return nil
        case .presharedKey:
            refuseFiles(["authorities", "revocations"], fields)
            authentication = .presharedKey
        case .certificate:
            authentication = anchors(fields, context).map { .certificate($0) }
            if case .exactly(.keyID) = identity {
                fields.refuse(
                    .contradiction, "identity",
                    "no certificate has a key ID as a name: use a domain name, a mailbox, an "
                        + "address or a distinguished name")
            }
        }
        guard let identity, let authentication else { return nil }
        return Remote(identity: identity, authentication: authentication)
    }

    private static func anchors(
        _ fields: Settings, _ context: ConnectionContext
    ) -> TrustAnchors? {
        let authorities = fields.required("authorities")?.list { element -> [Certificate]? in
            guard let certificates = certificates(element, context) else { return nil }
            for certificate in certificates where !certificate.isAuthority {
                element.refuse(
                    .certificate,
                    "\(quoted(certificate.subject.description)) is no authority: basic constraints "
                        + "and key usage do not let it sign certificates")
            }
            return certificates
        }
        let revocations = fields["revocations"].map { setting in
            setting.list { element -> [RevocationList]? in
                guard let (path, octets) = context.files.octets(of: element) else { return nil }
                do throws(CertificateFault) {
                    return try RevocationList.readPEM(octets)
                } catch {
                    element.refuse(.certificate, "\(printable(path: path)): \(error)")
                    return nil
                }
            }
        }
        guard let authorities, let revocations = revocations ?? [] else { return nil }
        return TrustAnchors(
            authorities.flatMap { $0 }, revocations: revocations.flatMap { $0 })
    }

    private static func certificates(
        _ setting: Setting, _ context: ConnectionContext
    ) -> [Certificate]? {
        guard let (path, octets) = context.files.octets(of: setting) else { return nil }
        do throws(CertificateFault) {
            let certificates = try Certificate.readPEM(octets)
            for certificate in certificates {
                if let fault = certificate.validityFault(at: context.seconds) {
                    setting.warn(.expired, "\(printable(path: path)): \(fault)")
                }
            }
            return certificates
        } catch {
            setting.refuse(.certificate, "\(printable(path: path)): \(error)")
            return nil
        }
    }

    // MARK: Keys

    /// Says where a connection with a pre-shared key has none.
    static func requireKey(
        _ fields: Settings, _ local: Local, _ remote: Remote, _ context: ConnectionContext
    ) {
        var sides: [Settings] = []
        if case .presharedKey = local.authentication, let side = fields["local"]?.namedSettings() {
            sides.append(side)
        }
        if case .presharedKey = remote.authentication, let side = fields["remote"]?.namedSettings()
        {
            sides.append(side)
        }
        guard let side = sides.first else { return }
        guard let keys = context.presharedKeys else { return }
        guard !keys.isEmpty else {
            return side.refuse(
                .missingKey, "auth",
                "a pre-shared key is needed, but there is no file of them: add \"secrets: FILE\"")
        }
        let serves = keys.contains { key in
            key.identities.contains { $0.matches(local.identity) }
                && key.identities.contains { $0.meets(remote.identity) }
        }
        guard serves else {
            return side.refuse(
                .unknownName, "auth",
                "no pre-shared key is for \(local.identity) with \(remote.identity): add both to "
                    + "the identities of one key")
        }
    }
}

extension IdentityPattern {
    /// False only where no identity can be in both; patterns of distinguished names may meet.
    fileprivate func meets(_ other: IdentityPattern) -> Bool {
        switch (self, other) {
        case (.any, _), (_, .any): true
        case (_, .exactly(let identity)): matches(identity)
        case (.exactly(let identity), _): other.matches(identity)
        case (.fqdnBelow(let left), .fqdnBelow(let right)):
            left.lowercased() == right.lowercased()
                || left.lowercased().hasSuffix("." + right.lowercased())
                || right.lowercased().hasSuffix("." + left.lowercased())
        case (.emailAt(let left), .emailAt(let right)): left.lowercased() == right.lowercased()
        case (.distinguishedNames, .distinguishedNames): true
        default: false
        }
    }
}
