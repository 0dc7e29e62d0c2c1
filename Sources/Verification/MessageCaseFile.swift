// The format spindle-ike-messages-1: IKE messages with what is in them, or the fault they have.

internal import Crypto
internal import ESP
internal import GatewayIO
internal import IKEStub

/// Runs a file of such cases.
struct MessageCaseFile {
    private let cases: [(name: String, view: JSONView)]

    init(_ view: JSONView) throws(FieldError) { cases = try view.namedCases() }

    func run(path: String, library: CryptoLibrary) throws(FieldError) -> FileReport {
        var report = FileReport(path: path, kind: "IKEv2 messages")
        for (name, view) in cases {
            try view.requireKnown(Self.fields)
            report.record(name, try MessageCase(view, library).run())
        }
        return report
    }

    private static let fields = [
        "name", "messages", "encr", "key_bits", "integ", "encr_key", "integ_key", "payloads",
        "content", "iv", "length_maximum", "fault", "check",
    ]
}

/// One message in one datagram or more.
private struct MessageCase {
    private let datagrams: [[UInt8]]
    private let expected: Expectation
    private let content: [UInt8]?
    private let iv: [UInt8]
    private let lengthMaximum: Int?
    private let checks: [String]
    private let keys: Keys?
    private let library: CryptoLibrary

    private enum Expectation: Equatable {
        case payloads([String])
        case fault(String)
    }

    private struct Keys {
        let suite: MessageSuite
        let encryption: [UInt8]
        let integrity: [UInt8]
    }

    /// What a message was read as.
    private enum Opened {
        case message(IKEMessage)
        case incomplete
        case fault(String)
    }

    init(_ view: JSONView, _ library: CryptoLibrary) throws(FieldError) {
        self.library = library
        var datagrams: [[UInt8]] = []
        for text in try view.optionalTexts("messages") ?? [] {
            guard let octets = decodeHexadecimal(text) else {
                throw view.refuse("messages", .notHexadecimal, "not octets: correct it")
            }
            datagrams.append(octets)
        }
        guard !datagrams.isEmpty else { throw view.missing("messages") }
        self.datagrams = datagrams
        switch (try view.optionalTexts("payloads"), try view.optionalText("fault")) {
        case (let payloads?, nil): expected = .payloads(payloads)
        case (nil, let fault?): expected = .fault(fault)
        default: throw view.refuse("fault", .contradiction, "use either payloads or fault")
        }
        content = try view.optionalOctets("content")
        iv = try view.optionalOctets("iv") ?? []
        lengthMaximum = try view.optionalNumber("length_maximum", in: 150...65_535).map(Int.init)
        checks = try view.optionalTexts("check") ?? []
        for check in checks where check != "encode" && check != "seal" {
            throw view.refuse("check", .unknownValue, "\(quoted(check)): use encode, seal")
        }
        keys = try Self.keys(view)
        if keys == nil, checks.contains("seal") || datagrams.count > 1 {
            throw view.missing("encr")
        }
        if let keys, checks.contains("seal"), iv.count != keys.suite.ivBytes {
            throw view.refuse("iv", .outOfRange, "the suite's has \(keys.suite.ivBytes) octets")
        }
    }

    private static func keys(_ view: JSONView) throws(FieldError) -> Keys? {
        guard
            let encryption = try view.optionalChoice(
                "encr", EncryptionAlgorithm.allCases.map { ($0.rawValue, $0) })
        else { return nil }
        let integrity = try view.optionalChoice(
            "integ", IntegrityAlgorithm.allCases.map { ($0.rawValue, $0) })
        let keyBits = Int(try view.number("key_bits", in: 0...4096))
        guard let suite = MessageSuite(encryption, keyBits: keyBits, integrity: integrity) else {
            throw view.refuse("encr", .contradiction, "protects no IKE messages so: correct it")
        }
        let keys = Keys(
            suite: suite, encryption: try view.octets("encr_key"),
            integrity: try view.octets("integ_key"))
        guard keys.encryption.count == suite.keyLengths.encryption,
            keys.integrity.count == suite.keyLengths.integrity
        else { throw view.refuse("encr_key", .outOfRange, "not the suite's lengths: correct it") }
        return keys
    }

    /// nil when all is as the case says.
    func run() -> String? {
        guard let keys else {
            return compare(open(datagrams[0])) { $0.encoded() == datagrams[0] }
        }
        let protection = MessageProtection(
            keys.suite, encryptionKey: secret(keys.encryption),
            integrityKey: secret(keys.integrity), library: library)
        var reassembly = Reassembly()
        var opened = Opened.incomplete
        for (index, datagram) in datagrams.enumerated() {
            opened = open(datagram, protection, &reassembly)
            if case .incomplete = opened { continue }
            guard index == datagrams.count - 1 else { return "complete after \(index + 1)" }
        }
        return compare(opened) { message in
            guard Payload.chain(message.payloads) == content else { return false }
            return checks.contains("seal") ? seals(message, protection) : true
        }
    }

    private func compare(_ opened: Opened, _ encodes: (IKEMessage) -> Bool) -> String? {
        let message: IKEMessage
        switch opened {
        case .incomplete: return "not complete"
        case .fault(let name):
            return expected == .fault(name) ? nil : "expected \(expected), got \(name)"
        case .message(let read): message = read
        }
        let names = message.payloads.map(\.notation)
        guard expected == .payloads(names) else { return "expected \(expected), got \(names)" }
        if checks.contains("encode"), !encodes(message) { return "other octets when written" }
        return nil
    }

    // MARK: The code under test

    private func open(_ datagram: [UInt8]) -> Opened {
        datagram.withUnsafeBytes { bytes in
            do throws(MessageFault) {
                return .message(try IKEMessage.read(bytes).message)
            } catch {
                return .fault(Self.name(of: error))
            }
        }
    }

    private func open(
        _ datagram: [UInt8], _ protection: borrowing MessageProtection,
        _ reassembly: inout Reassembly
    ) -> Opened {
        datagram.withUnsafeBytes { bytes in
            guard let parsed = try? IKEMessage.read(bytes), let content = parsed.protected else {
                return open(datagram)
            }
            do {
                if content.fragment == nil {
                    let payloads = try protection.open(bytes, parsed)
                    return .message(IKEMessage(parsed.header, payloads: payloads))
                }
                let payloads = try reassembly.take(bytes, parsed, protection)
                return payloads.map { .message(IKEMessage(parsed.header, payloads: $0)) }
                    ?? .incomplete
            } catch let error as ProtectionFault {
                return .fault(Self.name(of: error))
            } catch ReassemblyFault.protection(let error) {
                return .fault(Self.name(of: error))
            } catch {
                return .fault("\(error)")
            }
        }
    }

    /// Sealing gives the same datagrams; the IVs of fragments count up.
    private func seals(_ message: IKEMessage, _ protection: borrowing MessageProtection) -> Bool {
        let isCounter = protection.suite.ivBytes == 8
        let sealed = try? protection.seal(
            message, lengthMaximum: lengthMaximum ?? IKEMessage.lengthMaximum
        ) { index in
            var iv = iv
            iv[iv.count - 1] &+= UInt8(truncatingIfNeeded: index)
            return isCounter ? .counter(iv.reduce(0) { $0 << 8 | UInt64($1) }) : .random(iv)
        }
        return sealed == datagrams
    }

    private static func name(of fault: MessageFault) -> String {
        switch fault {
        case .malformed(let field, _): field.rawValue
        case .unsupportedCriticalPayload: "unsupportedCriticalPayload"
        case .majorVersion: "majorVersion"
        }
    }

    private static func name(of fault: ProtectionFault) -> String {
        if case .payloads(let fault) = fault { name(of: fault) } else { "\(fault)" }
    }
}

private func secret(_ octets: [UInt8]) -> SecretBytes {
    var secret = SecretBytes(count: octets.count)
    secret.withUnsafeMutableBytes { $0.copyBytes(from: octets) }
    return secret
}
