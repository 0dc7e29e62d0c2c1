// The text of durations: "30s", "4h", "1h30m", "500ms".

/// Why a text is not a duration: one sentence that says what to do.
struct DurationTextError: Error, Equatable, CustomStringConvertible {
    let description: String
}

/// Nanoseconds from and to texts.
enum DurationText {
    private static let units: [(word: String, nanoseconds: UInt64)] = [
        ("d", 86_400_000_000_000), ("h", 3_600_000_000_000), ("m", 60_000_000_000),
        ("s", 1_000_000_000), ("ms", 1_000_000),
    ]

    /// Reads whole numbers with units, the largest unit first.
    static func parse(_ text: String) throws(DurationTextError) -> UInt64 {
        var rest = text[...]
        var sum: UInt64 = 0
        var smallest = UInt64.max
        repeat {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            rest = rest.dropFirst(digits.count)
            let word = rest.prefix { $0.isASCII && $0.isLetter }
            rest = rest.dropFirst(word.count)
            guard let count = UInt64(digits), count <= 1_000_000_000,
                let unit = units.first(where: { $0.word == word }), unit.nanoseconds < smallest
            else { throw notADuration(text) }
            smallest = unit.nanoseconds
            let (product, overflows) = count.multipliedReportingOverflow(by: unit.nanoseconds)
            let (next, overflowsToo) = sum.addingReportingOverflow(product)
            guard !overflows, !overflowsToo else { throw notADuration(text) }
            sum = next
        } while !rest.isEmpty
        return sum
    }

    private static func notADuration(_ text: String) -> DurationTextError {
        DurationTextError(
            description: "\(quoted(text)) is not a duration: write a number with its unit, such as "
                + "500ms, 30s, 10m, 4h, 1d or 1h30m")
    }

    /// The text that ``parse(_:)`` reads; what is less than a millisecond is left out.
    static func text(_ nanoseconds: UInt64) -> String {
        var rest = nanoseconds
        var text = ""
        for (word, size) in units where rest >= size {
            text += "\(rest / size)\(word)"
            rest %= size
        }
        return text.isEmpty ? "0s" : text
    }
}

extension Setting {
    /// A duration in nanoseconds. `range` is in nanoseconds too.
    func duration(in range: ClosedRange<UInt64>) -> UInt64? {
        guard let value = parsed(.outOfRange, DurationText.parse) else { return nil }
        guard range.contains(value) else {
            refuse(
                .outOfRange,
                "\(DurationText.text(value)) is not possible: use "
                    + "\(DurationText.text(range.lowerBound)) to "
                    + DurationText.text(range.upperBound))
            return nil
        }
        return value
    }
}
