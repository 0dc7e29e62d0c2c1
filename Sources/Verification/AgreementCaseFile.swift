// The format spindle-key-agreement-1: shared secrets, and public values to be refused.

internal import Crypto
internal import GatewayIO

/// Runs a file of such cases.
struct AgreementCaseFile {
    private let cases: [(name: String, view: JSONView)]

    init(_ view: JSONView) throws(FieldError) { cases = try view.namedCases() }

    func run(path: String) throws(FieldError) -> FileReport {
        var report = FileReport(path: path, kind: "key agreement")
        for (name, view) in cases {
            try view.requireKnown(["name", "group", "private", "public", "peer", "shared"])
            report.record(name, try Self.run(view))
        }
        return report
    }

    /// nil when the secret is right, or the peer's value refused.
    private static func run(_ view: JSONView) throws(FieldError) -> String? {
        let number = UInt16(try view.number("group", in: 0...65535))
        guard let group = KeyAgreementGroup(rawValue: number) else {
            let known = KeyAgreementGroup.allCases.map { "\($0.rawValue)" }
            throw view.refuse(
                "group", .unknownValue,
                "\(number) is not known: use \(known.joined(separator: ", "))")
        }
        let peer = try view.octets("peer")
        guard view.has("shared") else { return try refusal(group, peer, view) }
        let expected = try view.octets("shared")
        let publicValue = try view.octets("public")
        guard let key = SecretBytes.decoding(hexadecimal: try view.text("private")) else {
            throw view.refuse("private", .notHexadecimal, "not octets: use the digits 0-9 and a-f")
        }
        do throws(KeyAgreementFault) {
            let values = try Self.values(group, key, peer)
            return difference("public", expected: publicValue, got: values.publicValue)
                ?? difference("shared", expected: expected, got: values.shared)
        } catch {
            return "refused: \(error)"
        }
    }

    private static func refusal(
        _ group: KeyAgreementGroup, _ peer: [UInt8], _ view: JSONView
    ) throws(FieldError) -> String? {
        // 0, 1, 2 … is a key of every group.
        var key = SecretBytes(count: group.privateBytes)
        key.withUnsafeMutableBytes { bytes in
            for index in bytes.indices { bytes[index] = UInt8(index) }
        }
        do throws(KeyAgreementFault) {
            _ = try values(group, key, peer)
            return "the peer's value was taken"
        } catch .failed(let error) {
            throw FieldError(.unreadable, view.place, "\(error)")
        } catch {
            return nil
        }
    }

    /// Our public value, and g^ir.
    private static func values(
        _ group: KeyAgreementGroup, _ key: borrowing SecretBytes, _ peer: [UInt8]
    ) throws(KeyAgreementFault) -> (publicValue: [UInt8], shared: [UInt8]) {
        let agreement = try made(group, key)
        let shared = try agreement.sharedSecret(peer)
        return (agreement.publicValue, shared.withUnsafeBytes { Array($0) })
    }

    private static func made(
        _ group: KeyAgreementGroup, _ key: borrowing SecretBytes
    ) throws(KeyAgreementFault) -> KeyAgreement {
        do throws(CryptoError) {
            return try KeyAgreement(group, privateKey: key)
        } catch {
            throw .failed(error)
        }
    }
}
