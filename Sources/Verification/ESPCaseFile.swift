// The format spindle-esp-1: ESP packets with what a receiver must make of them, and a sender (its
// description is in docs/formats.md).

internal import Crypto
internal import ESP
internal import GatewayIO
internal import Wire

/// One case, decoded.
struct ESPCase {
    enum Packet {
        case outer([UInt8])
        /// From the SPI to the ICV.
        case esp([UInt8])
    }

    enum Plaintext {
        /// Inner packet (tunnel) or the original packet (transport).
        case inner([UInt8])
        case payload([UInt8], nextHeader: UInt8)
    }

    let entry: AssociationEntry
    let sequence: UInt64
    /// The highest number accepted before; 0: none.
    let highest: UInt64
    let packet: Packet
    /// nil where nothing is delivered.
    let plaintext: Plaintext?
    let iv: [UInt8]
    let opens: Bool
    let seals: Bool
    let tfcBytes: Int
    /// "accepted", or names of drop reasons.
    let results: [String]

    static let accepted = "accepted"

    static let fields = [
        "name", "association", "sequence", "highest", "replay_window", "outer", "esp", "inner",
        "payload", "next_header", "iv", "check", "tfc_bytes", "ts_src", "ts_dst",
        "encryption_only", "result",
    ]

    init(_ view: JSONView) throws(FieldError) {
        sequence = try view.number("sequence")
        highest = try view.optionalNumber("highest") ?? (sequence > 0 ? sequence - 1 : 0)
        packet = try Self.packet(view)
        plaintext = try Self.plaintext(view)
        iv = try view.octets("iv")
        (opens, seals) = try Self.checks(view)
        tfcBytes = Int(try view.optionalNumber("tfc_bytes", in: 0...65_535) ?? 0)
        results = try Self.results(view)
        var entry = try AssociationEntry(view.view("association"), allowsReservedSPI: true)
        if let window = try view.optionalNumber("replay_window", in: 0...4096) {
            entry.parameters.replayWindow = Int(window)
        }
        entry.parameters.selectors = AssociationSelectors(
            source: try Self.selectors(view, "ts_src"),
            destination: try Self.selectors(view, "ts_dst"))
        self.entry = entry
        let isAccepted = results == [Self.accepted]
        guard isAccepted == (plaintext != nil), isAccepted || !seals else {
            throw view.refuse(
                "result", .contradiction,
                "an accepted packet needs \"inner\" or \"payload\" to compare with, and a refused "
                    + "one must not have them, nor be sealed: correct the case")
        }
    }

    static func packet(_ view: JSONView) throws(FieldError) -> Packet {
        switch (try view.optionalOctets("outer"), try view.optionalOctets("esp")) {
        case (let outer?, nil): return .outer(outer)
        case (nil, let esp?): return .esp(esp)
        default:
            throw view.refuse(
                "outer", .contradiction, "one of \"outer\" and \"esp\" is needed, not both")
        }
    }

    static func plaintext(_ view: JSONView) throws(FieldError) -> Plaintext? {
        let inner = try view.optionalOctets("inner")
        guard let payload = try view.optionalOctets("payload") else {
            return inner.map(Plaintext.inner)
        }
        guard inner == nil else {
            throw view.refuse("payload", .contradiction, "stands beside \"inner\": remove one")
        }
        return .payload(payload, nextHeader: UInt8(try view.number("next_header", in: 0...255)))
    }

    static func checks(_ view: JSONView) throws(FieldError) -> (opens: Bool, seals: Bool) {
        let words = try view.optionalTexts("check") ?? []
        let others = words.filter { $0 != "open" && $0 != "seal" }
        guard !words.isEmpty, others.isEmpty else {
            throw view.refuse(
                "check", .unknownValue,
                "not what can be checked: use [\"open\"] or "
                    + "[\"open\", \"seal\"]")
        }
        return (words.contains("open"), words.contains("seal"))
    }

    private static func results(_ view: JSONView) throws(FieldError) -> [String] {
        let words: [String]
        if case .array = view["result"] {
            words = try view.optionalTexts("result") ?? []
        } else {
            words = [try view.text("result")]
        }
        for word in words where word != accepted && DropReason(name: word) == nil {
            throw view.refuse(
                "result", .unknownValue,
                "\(quoted(word)) is not a result: use \(accepted) or a drop reason")
        }
        guard !words.isEmpty, words == [accepted] || !words.contains(accepted) else {
            throw view.refuse(
                "result", .contradiction,
                "neither \(accepted) alone nor a list of drop reasons: correct it")
        }
        return words
    }

    private static func selectors(
        _ view: JSONView, _ name: String
    ) throws(FieldError) -> [TrafficSelector] {
        var selectors: [TrafficSelector] = []
        for (index, text) in (try view.optionalTexts(name) ?? []).enumerated() {
            do throws(TrafficSelectorTextError) {
                selectors.append(try TrafficSelector(parsing: text))
            } catch {
                throw view.refuse("\(name)[\(index)]", .unknownValue, "\(error)")
            }
        }
        return selectors
    }
}

/// Runs a file of such cases.
struct ESPCaseFile {
    private let cases: [(name: String, view: JSONView)]

    init(_ view: JSONView) throws(FieldError) { cases = try view.namedCases() }

    func run(path: String, library: CryptoLibrary) throws(FieldError) -> FileReport {
        var report = FileReport(path: path, kind: "ESP packets")
        let runner = ESPCaseRunner(library: library)
        for (name, view) in cases {
            try view.requireKnown(ESPCase.fields)
            if try view.optionalFlag("encryption_only") == true {
                let encryption = try EncryptionOnlyCase(view)
                report.record(name, encryption.run(library: library))
            } else {
                report.record(name, try runner.run(try ESPCase(view)))
            }
        }
        return report
    }
}
