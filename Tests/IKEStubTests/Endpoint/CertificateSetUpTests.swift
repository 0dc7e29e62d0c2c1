// Ends that prove themselves with certificates which the openssl command made.

import Crypto
import Foundation
import Testing
import Wire

@testable import IKEStub

@Suite(.enabled(if: CertificateAuthority.path != nil, "openssl is not installed"))
struct CertificateSetUp {
    private static let day: Int64 = 86_400
    private let authority: CertificateAuthority
    /// Held so that OpenSSL's provider is not unloaded by another test, with the last library there
    /// is, while a certificate is read: OpenSSL 3.0 does not survive that.
    private let library: CryptoLibrary

    init() throws {
        library = try CryptoLibrary()
        authority = try CertificateAuthority()
    }

    /// Both ends with a certificate, a day after these were made.
    private func ends(
        left: SigningIdentity?, right: SigningIdentity?, leftTrusts: CertificateAuthority? = nil,
        rightTrusts: CertificateAuthority? = nil,
        adjust: @escaping (inout Connection, Bool) -> Void = { _, _ in }
    ) throws -> IKEPair {
        let left = try #require(left)
        let right = try #require(right)
        let leftAnchors = try (leftTrusts ?? authority).anchors()
        let rightAnchors = try (rightTrusts ?? authority).anchors()
        var configuration = PairConfiguration()
        configuration.timers.retransmissionBase = 100
        configuration.timers.retransmissionTries = 20
        configuration.adjust = { connection, isLeft in
            connection.localAuthentication = .signature(isLeft ? left : right)
            connection.remoteAuthentication = .certificate(isLeft ? leftAnchors : rightAnchors)
            adjust(&connection, isLeft)
        }
        let pair = try configuration.pair()
        pair.epoch = Int64(Date().timeIntervalSince1970) + Self.day
        return pair
    }

    @Test(arguments: ["RSA:2048", "RSA:3072", "EC:P-256", "EC:P-384", "EC:P-521", "ED25519"])
    func eachKindOfKey(kind: String) throws {
        let pair = try ends(
            left: authority.identity("left.test", kind),
            right: authority.identity("right.test", "EC:P-256"))
        // Fragments don't move: with certificates of that length, nothing would be completed.
        if !kind.hasPrefix("RSA") { pair.revival = .move }
        try pair.connect()
        #expect(pair.left.children.count == 1)
        pair.expectAgreement()
    }

    /// Without SIGNATURE_HASH_ALGORITHMS the older methods serve (RFC 7427 §4); Ed25519 has none.
    @Test(arguments: ["RSA:2048", "EC:P-256", "EC:P-384", "ED25519"])
    func peersWithoutDigitalSignatures(kind: String) throws {
        let right = try authority.identity("right.test", kind)
        let pair = try ends(
            left: authority.identity("left.test", "EC:P-256"), right: right)
        try pair.initiate()
        // The responder answers as if it had seen none, and signs accordingly.
        try pair.deliver(pair.wire.removeFirst())
        let half = try #require(pair.right.endpoint.associations.values.first?.handshake)
        half.peerHashes = []
        try pair.deliver()
        #expect(pair.left.established.count == (kind == "ED25519" ? 0 : 1), "\(pair.reports)")
    }

    @Test func largeCertificatesGoInFragmentsThatAreLost() throws {
        let pair = try ends(
            left: authority.identity("left.test", "RSA:4096", padding: 3000),
            right: authority.identity("right.test", "RSA:4096", padding: 2500))
        var sizes: [Int] = []
        var source = SeededSource(3)
        pair.passes = { flight in
            sizes.append(flight.octets.count)
            return source.uint64() % 4 != 0
        }
        try pair.initiate()
        try pair.deliver()
        try pair.advance(seconds: 60)
        pair.expectAgreement("\(sizes.count) datagrams")
        #expect(pair.left.children.count == 1)
        #expect(sizes.count > 10 && sizes.allSatisfy { $0 <= 1280 - 28 })
    }

    @Test func withoutFragmentsTheMessageIsWhole() throws {
        let pair = try ends(
            left: authority.identity("left.test", "RSA:2048", padding: 3000),
            right: authority.identity("right.test", "RSA:2048")
        ) { connection, isLeft in if isLeft { connection.fragments = false } }
        var longest = 0
        pair.passes = { flight in
            longest = max(longest, flight.octets.count)
            return true
        }
        try pair.connect()
        #expect(longest > 3000)
        pair.expectAgreement()
        #expect(pair.left.children.count == 1)
    }

    @Test func foreignExpiredAndMisnamedCertificates() throws {
        let other = try CertificateAuthority()
        let right = try authority.identity("right.test", "EC:P-256")
        var pair = try ends(
            left: other.identity("left.test", "EC:P-256"), right: right, leftTrusts: authority)
        try pair.connect()
        #expect(pair.right.count(.authenticationFailed) == 1 && pair.left.endpoint.count == 0)
        pair.expectAgreement()

        let short = try authority.identity("left.test", "EC:P-256", days: 3)
        for (days, isGood) in [(1, true), (4, false)] {
            pair = try ends(left: short, right: right)
            pair.epoch += Int64(days) * Self.day
            try pair.connect()
            #expect(pair.left.established.count == (isGood ? 1 : 0), "\(days) days")
            #expect(pair.right.has(.authenticationFailed) == !isGood)
        }

        pair = try ends(left: authority.identity("mallory.test", "EC:P-256"), right: right)
        try pair.connect()
        #expect(pair.right.endpoint.count == 0)
        #expect(pair.right.reports.contains { $0.text.contains("not for left.test") })
    }

    /// The responder's certificate is the wrong one: the initiator ends what the other believes in.
    @Test func theInitiatorRefuses() throws {
        let other = try CertificateAuthority()
        let pair = try ends(
            left: authority.identity("left.test", "EC:P-256"),
            right: other.identity("right.test", "EC:P-256"), leftTrusts: authority,
            rightTrusts: authority)
        try pair.connect()
        #expect(pair.left.count(.authenticationFailed) == 1)
        #expect(pair.right.count(.authenticationFailed) == 1)
        try pair.advance(seconds: 10)
        #expect(pair.right.endpoint.count == 0 && pair.right.children.isEmpty)
        pair.expectAgreement()
    }

    /// Proof of another kind than the connection asks for.
    @Test func aKeyIsNoCertificate() throws {
        let pair = try ends(
            left: authority.identity("left.test", "EC:P-256"),
            right: authority.identity("right.test", "EC:P-256")
        ) { connection, isLeft in
            if isLeft { connection.localAuthentication = .presharedKey }
        }
        try pair.connect()
        #expect(pair.left.established.isEmpty && pair.right.established.isEmpty)
    }
}
