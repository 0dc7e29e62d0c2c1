// One metric, and how Prometheus reads it (text exposition format 0.0.4).

/// What is measured, with all its values.
public struct Metric: Sendable {
    /// What a value does from one reading to the next.
    public enum Kind: String, Sendable {
        /// It only rises, until the process begins anew.
        case counter
        /// It is what it is.
        case gauge
    }

    /// One value.
    struct Sample: Sendable {
        let labels: [(name: String, value: String)]
        let value: String
    }

    let name: String
    let help: String
    let kind: Kind
    private(set) var samples: [Sample] = []

    /// A metric without values. Preconditions: the name is `spindle_` or `process_` and lower-case
    /// words joined by underscores; that of a counter ends with `_total`, and no other's does.
    public init(_ name: String, _ kind: Kind, _ help: String) {
        precondition(name.hasPrefix("spindle_") || name.hasPrefix("process_"))
        precondition(name.utf8.allSatisfy { (0x61...0x7A).contains($0) || $0 == 0x5F })
        precondition((kind == .counter) == name.hasSuffix("_total"))
        self.name = name
        self.help = help
        self.kind = kind
    }

    /// The only value of a metric.
    public static func one(
        _ name: String, _ kind: Kind, _ help: String, _ value: some BinaryInteger
    ) -> Metric {
        var metric = Metric(name, kind, help)
        metric.add(value)
        return metric
    }

    /// A gauge that is 1 or 0.
    static func flag(_ name: String, _ help: String, _ isSet: Bool) -> Metric {
        one(name, .gauge, help, isSet ? 1 : 0)
    }

    /// A gauge in seconds.
    static func seconds(_ name: String, _ help: String, nanoseconds: UInt64) -> Metric {
        var metric = Metric(name, .gauge, help)
        metric.add(nanoseconds: nanoseconds)
        return metric
    }

    /// Adds a value. Precondition: no other one has the same labels.
    public mutating func add(
        _ value: some BinaryInteger, _ labels: (name: String, value: String)...
    ) {
        samples.append(Sample(labels: labels, value: String(value)))
    }

    /// Adds a time, which is told in seconds.
    mutating func add(nanoseconds: UInt64, _ labels: (name: String, value: String)...) {
        samples.append(
            Sample(labels: labels, value: String(Double(nanoseconds) / 1_000_000_000)))
    }

    /// The lines; none without values.
    func write(to text: inout String) {
        guard !samples.isEmpty else { return }
        text += "# HELP \(name) \(Self.escaped(help, quotes: false))\n# TYPE \(name) \(kind)\n"
        for sample in samples {
            text += name
            if !sample.labels.isEmpty {
                text += "{"
                for (place, label) in sample.labels.enumerated() {
                    if place > 0 { text += "," }
                    text += "\(label.name)=\"\(Self.escaped(label.value, quotes: true))\""
                }
                text += "}"
            }
            text += " \(sample.value)\n"
        }
    }

    private static func escaped(_ text: String, quotes: Bool) -> String {
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": escaped += "\\\\"
            case "\n": escaped += "\\n"
            case "\"" where quotes: escaped += "\\\""
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }
}
