// The format spindle-replay-1: runs of sequence numbers through a replay window.

internal import ESP
internal import GatewayIO

/// Runs a file of such cases.
struct ReplayCaseFile {
    private let cases: [(name: String, view: JSONView)]

    init(_ view: JSONView) throws(FieldError) { cases = try view.namedCases() }

    func run(path: String) throws(FieldError) -> FileReport {
        var report = FileReport(path: path, kind: "replay windows")
        for (name, view) in cases { report.record(name, try Self.run(view)) }
        return report
    }

    private static func run(_ view: JSONView) throws(FieldError) -> String? {
        try view.requireKnown(["name", "window", "esn", "highest", "steps", "highest_after"])
        let bits = Int(try view.number("window", in: 0...4096))
        guard bits == 0 || ReplayWindow.allowedBits.contains(bits) else {
            throw view.refuse("window", .outOfRange, "\(bits) is not possible: use 0 or 32 to 4096")
        }
        guard let usesESN = try view.optionalFlag("esn") else { throw view.missing("esn") }
        var window = ReplayWindow(
            bits: bits, usesESN: usesESN, highest: try view.number("highest"))
        for (index, step) in try view.views("steps").enumerated() {
            try step.requireKnown(["seq", "full", "verdict", "authentic"])
            let low = UInt32(try step.number("seq", in: 0...UInt64(UInt32.max)))
            let full = try step.optionalNumber("full")
            let expected = try step.text("verdict")
            let isAuthentic = try step.optionalFlag("authentic") ?? true
            let verdict = window.check(low)
            guard name(of: verdict) == expected else {
                return "step \(index), number \(low): expected \(expected), got "
                    + name(of: verdict)
            }
            guard case .accept(let number) = verdict else { continue }
            guard number == full else {
                return "step \(index), number \(low): expected the full number "
                    + "\(full.map(String.init) ?? "null"), got \(number)"
            }
            if isAuthentic { window.mark(number) }
        }
        guard let after = try view.optionalNumber("highest_after") else {
            return bits == 0 ? nil : "expected no highest number, got \(window.highest)"
        }
        return after == window.highest
            ? nil : "expected highest number \(after), got \(window.highest)"
    }

    private static func name(of verdict: ReplayVerdict) -> String {
        switch verdict {
        case .accept: "accept"
        case .replayed: "replayed"
        case .tooOld: "tooOld"
        case .sequenceZero: "sequenceZero"
        }
    }
}
