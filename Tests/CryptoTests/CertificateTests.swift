// Certificates that the openssl command made: what is read from them, which paths are believed.

import Crypto
import Foundation
import TestSupport
import Testing

private let day: Int64 = 86_400
/// Within the validity of all that the tests make.
private let now = Int64(Date().timeIntervalSince1970) + day

private struct Unexpected: Error { let fault: CertificateFault? }

@Suite(.enabled(if: OpenSSLTool.path != nil, "openssl is not installed: no certificates"))
struct CertificateTests {
    private let tool: OpenSSLTool

    init() throws { tool = try OpenSSLTool() }

    @Test func partsAreAsOpenSSLPrintsThem() throws {
        try tool.makeCertificate("root", extensions: OpenSSLTool.authority)
        let certificate = try tool.makeCertificate(
            "gw", "rsa:2048", issuer: "root",
            subject: "/C=CH/O=Läb, Inc./OU=a\\+b/CN=gw/emailAddress=a@b.example",
            extensions: [
                "subjectAltName=DNS:gw.example,email:u@x.example,IP:192.0.2.1,IP:2001:db8::1,"
                    + "URI:https://x.example,DNS:*.example"
            ])
        let printed = try tool.run(
            "x509 -in gw.pem -noout -serial -nameopt RFC2253,-esc_msb,utf8,-dn_rev,sname -subject"
                + " -startdate -enddate -dateopt iso_8601")
        let lines = printed.split(separator: "\n")
        #expect(lines[0] == "serial=\(certificate.serial)")
        // Commas alone there, and a space behind them here.
        #expect(
            lines[1] == "subject=C=CH,O=Läb\\, Inc.,OU=a\\+b,CN=gw,emailAddress=a@b.example")
        #expect(
            certificate.subject.description
                == "C=CH, O=Läb\\, Inc., OU=a\\+b, CN=gw, emailAddress=a@b.example")
        #expect(certificate.issuer.description == "C=CH, O=Lab, CN=root")
        #expect(
            certificate.alternativeNames == [
                .dns("gw.example"), .email("u@x.example"), .ip([192, 0, 2, 1]),
                .ip(hex("20010db8 00000000 00000000 00000001")), .dns("*.example"),
            ])
        let formatter = ISO8601DateFormatter()
        let dates = lines[2...3].map { line in
            formatter.date(
                from: String(line.split(separator: "=")[1].replacing(" ", with: "T")))
        }
        #expect(dates[0].map { Int64($0.timeIntervalSince1970) } == certificate.notBefore)
        #expect(dates[1].map { Int64($0.timeIntervalSince1970) } == certificate.notAfter)
        #expect(!certificate.isAuthority)
        #expect(try tool.certificate("root").isAuthority)
        try tool.run("x509 -in gw.pem -outform der -out gw.der")
        #expect(certificate.der == (try tool.read("gw.der")))
    }

    // RFC 7296 §3.7 hashes the SubjectPublicKeyInfo, not the key inside it (as the key identifier).
    @Test func keyHashIsOverTheWholeInfo() throws {
        for kind in ["rsa:2048", "P-384", "ed25519"] {
            let certificate = try tool.makeCertificate("gw", kind)
            try tool.run("pkey -in gw.key -pubout -outform der -out info")
            let printed = try tool.run("dgst -sha1 -r info")
            #expect(
                printed.hasPrefix(
                    certificate.publicKeyHash.map {
                        String(format: "%02x", $0)
                    }.joined()))
        }
    }

    @Test func datesBehind2050() throws {
        let certificate = try tool.makeCertificate("gw", days: 40_000)
        #expect(certificate.notAfter - certificate.notBefore == 40_000 * day)
    }

    @Test func chainsAreReadInTheirOrder() throws {
        var pem: [UInt8] = []
        for name in ["one", "two", "three"] {
            try tool.makeCertificate(name)
            pem += octets("some text\n") + (try tool.read("\(name).pem"))
        }
        let read = try Certificate.readPEM(pem)
        #expect(read.map { $0.subject.description.suffix(5) } == ["N=one", "N=two", "three"])
        // A damaged block in the middle is not skipped.
        let text = String(decoding: pem, as: UTF8.self)
        let places = text.ranges(of: "BEGIN CERTIFICATE-----\n")
        var damaged = Array(text.utf8)
        damaged[text.utf8.distance(from: text.startIndex, to: places[1].upperBound) + 5] = 0x21
        #expect(throws: CertificateFault.self) { try Certificate.readPEM(damaged) }
        for file in [[], [0], octets("text"), try tool.read("one.key")] {
            #expect(throws: CertificateFault.self) { try Certificate.readPEM(file) }
        }
        #expect(hasNoPendingErrors())
    }

    @Test func everyTruncationIsRefused() throws {
        let der = try tool.makeCertificate("gw").der
        for count in 0..<der.count {
            #expect(throws: CertificateFault.self) { try Certificate(der: Array(der[..<count])) }
        }
        #expect(throws: CertificateFault.self) { try Certificate(der: der + [0]) }
        #expect(hasNoPendingErrors())
    }

    // What would fool us: "good.example\0.evil.example" read as "good.example".
    @Test func namesWithZerosAreLeftOut() throws {
        var der = try tool.makeCertificate(
            "gw", extensions: ["subjectAltName=DNS:good.example.evil,DNS:fine.example"]
        ).der
        let place = try #require(
            (0..<der.count - 17).first { der[$0...].starts(with: octets("good.example.evil")) })
        der[place + 12] = 0
        #expect(try Certificate(der: der).alternativeNames == [.dns("fine.example")])
    }

    @Test func flippedBitsNeverTrap() throws {
        let anchor = try tool.makeCertificate("root", extensions: OpenSSLTool.authority)
        let anchors = TrustAnchors([anchor])
        let der = try tool.makeCertificate(
            "gw", issuer: "root", extensions: ["subjectAltName=DNS:a.example"]
        ).der
        #expect(anchors.verify(try Certificate(der: der), intermediates: [], at: now) == nil)
        var random = SeededGenerator()
        var read = 0
        for _ in 0..<2000 {
            var other = der
            other[Int(random.next() % UInt64(der.count))] ^= 1 << UInt8(random.next() % 8)
            guard let certificate = try? Certificate(der: other) else { continue }
            read += 1
            #expect(anchors.verify(certificate, intermediates: [], at: now) != nil)
        }
        #expect(read > 500)
        #expect(hasNoPendingErrors())
    }
}

@Suite(.enabled(if: OpenSSLTool.path != nil, "openssl is not installed: no certificates"))
struct TrustAnchorsTests {
    private let tool: OpenSSLTool
    private let root: Certificate

    init() throws {
        tool = try OpenSSLTool()
        root = try tool.makeCertificate("root", days: 50, extensions: OpenSSLTool.authority)
    }

    private func verify(
        _ leaf: Certificate, _ intermediates: [Certificate] = [], at time: Int64 = now
    ) -> CertificateFault? {
        defer { #expect(hasNoPendingErrors()) }
        return TrustAnchors([root]).verify(leaf, intermediates: intermediates, at: time)
    }

    @Test(arguments: ["rsa:2048", "rsa:4096", "P-256", "P-384", "P-521", "ed25519"])
    func keysOfAllKindsAreBelieved(kind: String) throws {
        #expect(verify(try tool.makeCertificate("gw", kind, issuer: "root")) == nil)
        let authority = try tool.makeCertificate(
            "other", kind, extensions: OpenSSLTool.authority)
        let leaf = try tool.makeCertificate("gw", issuer: "other")
        #expect(TrustAnchors([root, authority]).verify(leaf, intermediates: [], at: now) == nil)
    }

    private func inWords(_ time: Int64) -> String {
        let date = Date(timeIntervalSince1970: TimeInterval(time))
        return date.formatted(.iso8601.dateTimeSeparator(.space))
    }

    @Test func datesAreThoseOfTheTimeGiven() throws {
        let long = try tool.makeCertificate("long", issuer: "root", days: 100)
        let short = try tool.makeCertificate("short", issuer: "root", days: 10)
        #expect(verify(short, at: short.notBefore) == nil)
        #expect(verify(short, at: short.notAfter - 1) == nil)
        guard
            case .notYetValid("C=CH, O=Lab, CN=root", let date, let asked)? =
                verify(short, at: short.notBefore - 40 * day)
        else { throw Unexpected(fault: nil) }
        #expect(date.count == 20 && asked.count == 20 && date > asked && date.hasSuffix("Z"))
        guard
            case .expired("C=CH, O=Lab, CN=short", let end, let then)? =
                verify(short, at: short.notAfter + 1)
        else { throw Unexpected(fault: nil) }
        #expect(end == inWords(short.notAfter) && then == inWords(short.notAfter + 1))
        // The authority expires first: the fault names it.
        guard case .expired("C=CH, O=Lab, CN=root", _, _)? = verify(long, at: now + 60 * day)
        else { throw Unexpected(fault: nil) }
        #expect(verify(long, at: -1) != nil)
        #expect(verify(long, at: .max) != nil)
        #expect(verify(long, at: .min) != nil)
    }

    @Test func foreignAuthoritiesAreNotBelieved() throws {
        let foreign = try tool.makeCertificate("foreign", extensions: OpenSSLTool.authority)
        let leaf = try tool.makeCertificate("gw", issuer: "foreign")
        let expected = CertificateFault.unknownAuthority(
            subject: "C=CH, O=Lab, CN=gw", issuer: "C=CH, O=Lab, CN=foreign")
        #expect(verify(leaf) == expected)
        // What the peer sends is not believed.
        let withRoot = verify(leaf, [foreign])
        guard case .unknownAuthority? = withRoot else {
            throw Unexpected(fault: withRoot)
        }
        let alone = try tool.makeCertificate("alone")
        #expect(
            verify(alone)
                == .unknownAuthority(
                    subject: "C=CH, O=Lab, CN=alone", issuer: "C=CH, O=Lab, CN=alone"))
        #expect(TrustAnchors([]).verify(leaf, intermediates: [foreign], at: now) != nil)
    }

    // The same name, another key; no key identifiers that would tell them apart.
    @Test func namesakesAreNotBelieved() throws {
        try tool.makeCertificate(
            "namesake", subject: "/C=CH/O=Lab/CN=root",
            extensions: Array(OpenSSLTool.authority.prefix(2))
                + ["subjectKeyIdentifier=none", "authorityKeyIdentifier=none"])
        let leaf = try tool.makeCertificate(
            "gw", issuer: "namesake",
            extensions: ["subjectKeyIdentifier=none", "authorityKeyIdentifier=none"])
        #expect(verify(leaf) == .badSignature(subject: "C=CH, O=Lab, CN=gw"))
    }

    @Test func chainsOfThree() throws {
        let one = try tool.makeCertificate(
            "one", issuer: "root", extensions: OpenSSLTool.authority)
        let two = try tool.makeCertificate(
            "two", "rsa:2048", issuer: "one", extensions: OpenSSLTool.authority)
        let leaf = try tool.makeCertificate("gw", "ed25519", issuer: "two")
        let stranger = try tool.makeCertificate("stranger")
        #expect(verify(leaf, [one, two]) == nil)
        #expect(verify(leaf, [stranger, two, root, leaf, one, one]) == nil)
        #expect(
            verify(leaf, [two])
                == .unknownAuthority(
                    subject: "C=CH, O=Lab, CN=two", issuer: "C=CH, O=Lab, CN=one"))
        #expect(
            verify(leaf, [])
                == .unknownAuthority(
                    subject: "C=CH, O=Lab, CN=gw", issuer: "C=CH, O=Lab, CN=two"))
        // An intermediate may be configured instead of its root.
        #expect(TrustAnchors([one]).verify(leaf, intermediates: [two], at: now) == nil)
        #expect(TrustAnchors([two]).verify(leaf, intermediates: [], at: now) == nil)
    }

    @Test func pathsMayBeLimited() throws {
        try tool.makeCertificate(
            "one", issuer: "root",
            extensions: ["basicConstraints=critical,CA:TRUE,pathlen:0", "keyUsage=keyCertSign"])
        try tool.makeCertificate("two", issuer: "one", extensions: OpenSSLTool.authority)
        let leaf = try tool.makeCertificate("gw", issuer: "two")
        let others = try ["one", "two"].map { try tool.certificate($0) }
        guard case .notAnAuthority? = verify(leaf, others) else {
            throw Unexpected(fault: verify(leaf, others))
        }
        #expect(verify(try tool.makeCertificate("gw2", issuer: "one"), others) == nil)
    }

    // What would fool us: any holder of a certificate issuing certificates for others. The last has
    // no basic constraints, and a key usage that OpenSSL alone would take for an authority's.
    @Test(arguments: [
        ["basicConstraints=CA:FALSE"],
        ["basicConstraints=critical,CA:FALSE", "keyUsage=keyCertSign"],
        ["basicConstraints=CA:TRUE", "keyUsage=digitalSignature"], [], ["keyUsage=keyCertSign"],
    ])
    func intermediatesMustBeAuthorities(extensions: [String]) throws {
        let middle = try tool.makeCertificate("middle", issuer: "root", extensions: extensions)
        let leaf = try tool.makeCertificate("gw", issuer: "middle")
        #expect(!middle.isAuthority)
        let fault = verify(leaf, [middle])
        switch fault {
        case .notAnAuthority(subject: "C=CH, O=Lab, CN=middle")?: break
        // With this key usage OpenSSL does not take it for the issuer at all.
        case .unknownAuthority(subject: "C=CH, O=Lab, CN=gw", _)?: #expect(extensions.count == 2)
        default: Issue.record("\(String(describing: fault))")
        }
        #expect(
            TrustAnchors([middle]).verify(leaf, intermediates: [], at: now) != nil
                || extensions == ["keyUsage=keyCertSign"])
    }

    @Test func keyUsageMustAllowSignatures() throws {
        let usages = [
            ("digitalSignature", true), ("nonRepudiation", true),
            ("digitalSignature,keyEncipherment", true), ("keyEncipherment", false),
            ("keyAgreement", false), ("keyCertSign,cRLSign", false),
        ]
        for (usage, isGood) in usages {
            let leaf = try tool.makeCertificate(
                "gw", issuer: "root", extensions: ["keyUsage=critical,\(usage)"])
            let expected = CertificateFault.wrongKeyUsage(subject: "C=CH, O=Lab, CN=gw")
            #expect(verify(leaf) == (isGood ? nil : expected), "\(usage)")
        }
    }

    @Test func weakKeysAndHashesAreRefused() throws {
        func isWeak(_ fault: CertificateFault?) -> Bool {
            if case .tooWeak? = fault { true } else { false }
        }
        #expect(isWeak(verify(try tool.makeCertificate("gw", "rsa:1024", issuer: "root"))))
        #expect(
            isWeak(
                verify(
                    try tool.makeCertificate("gw", "P-256", issuer: "root", options: ["-sha1"]))))
        let weak = try tool.makeCertificate(
            "weak", "rsa:1024", extensions: OpenSSLTool.authority)
        let leaf = try tool.makeCertificate("gw", issuer: "weak")
        #expect(isWeak(TrustAnchors([weak]).verify(leaf, intermediates: [], at: now)))
    }

    @Test func unknownCriticalExtensionsAreRefused() throws {
        let leaf = try tool.makeCertificate(
            "gw", issuer: "root", extensions: ["1.2.3.4=critical,DER:0500"])
        guard case .refused? = verify(leaf) else { throw Unexpected(fault: verify(leaf)) }
    }

    @Test func hashesAreThoseOfTheKeys() throws {
        let other = try tool.makeCertificate("other", extensions: OpenSSLTool.authority)
        let anchors = TrustAnchors([root, other])
        #expect(
            anchors.authorities.map(\.publicKeyHash) == [root.publicKeyHash, other.publicKeyHash])
        #expect(anchors.authorities.allSatisfy { $0.publicKeyHash.count == 20 })
        #expect(TrustAnchors([]).authorities.isEmpty)
    }

    @Test func revokedCertificatesAreRefused() throws {
        let good = try tool.makeCertificate("good", issuer: "root")
        let bad = try tool.makeCertificate("bad", issuer: "root")
        let second = try tool.makeCertificate("second", extensions: OpenSSLTool.authority)
        let elsewhere = try tool.makeCertificate("elsewhere", issuer: "second")
        try tool.write([], to: "index.txt")
        try tool.write(
            octets(
                "[ca]\ndefault_ca=x\n[x]\ndatabase=index.txt\ndefault_md=sha256\n"
                    + "default_crl_days=20\n"), to: "ca.cnf")
        let authority = "ca -config ca.cnf -cert root.pem -keyfile root.key"
        try tool.run("\(authority) -revoke bad.pem")
        try tool.run("\(authority) -gencrl -out list.pem")
        let lists = try RevocationList.readPEM(tool.read("list.pem"))
        let anchors = TrustAnchors([root, second], revocations: lists)
        let revoked = CertificateFault.revoked(subject: "C=CH, O=Lab, CN=bad")
        #expect(verify(bad) == nil)
        #expect(anchors.verify(good, intermediates: [], at: now) == nil)
        #expect(anchors.verify(bad, intermediates: [], at: now) == revoked)
        // The list is out of date; the other authority has none.
        #expect(anchors.verify(good, intermediates: [], at: now + 30 * day) == nil)
        #expect(anchors.verify(bad, intermediates: [], at: now + 30 * day) == revoked)
        #expect(anchors.verify(elsewhere, intermediates: [], at: now) == nil)
        #expect(throws: CertificateFault.self) {
            try RevocationList.readPEM(tool.read("root.pem"))
        }
        #expect(hasNoPendingErrors())
    }
}
