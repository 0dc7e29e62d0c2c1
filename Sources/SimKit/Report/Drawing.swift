// The least of SVG that the figures need: shapes and text in one string, numbers without locale,
// scales with round marks. Text is escaped here and nowhere else.

/// Replaces what XML would take for its own, and what it does not allow at all.
package func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "&": result += "&amp;"
        case "<": result += "&lt;"
        case ">": result += "&gt;"
        case "\"": result += "&quot;"
        case "'": result += "&#39;"
        case "\t", "\n", " "..."\u{7E}", "\u{A0}"..."\u{D7FF}", "\u{E000}"..."\u{FFFD}":
            result.unicodeScalars.append(scalar)
        case "\u{10000}"...: result.unicodeScalars.append(scalar)
        default: result += "\u{FFFD}"
        }
    }
    return result
}

/// With up to one digit behind the point, which is enough for a place in a drawing.
package func fixed(_ value: Double) -> String {
    let tenths = Int((value * 10).rounded())
    let sign = tenths < 0 ? "-" : ""
    let rest = tenths.magnitude % 10
    return "\(sign)\(tenths.magnitude / 10)" + (rest == 0 ? "" : ".\(rest)")
}

/// Nanoseconds at an axis.
package func axisTime(_ nanoseconds: Double) -> String {
    if nanoseconds == 0 { return "0" }
    return (nanoseconds < 0 ? "−" : "") + Fault.time(UInt64(nanoseconds.magnitude.rounded()))
}

/// Thousands apart by thin spaces.
package func grouped(_ value: some BinaryInteger) -> String {
    let digits = Array(String(value))
    var result = ""
    for (place, digit) in digits.enumerated() {
        let left = digits.count - place
        if place > 0, left % 3 == 0, digits[place - 1] != "-" { result += "\u{202F}" }
        result.append(digit)
    }
    return result
}

/// A logarithm to the base 10, exact enough to draw with. Precondition: a positive number.
package func log10(_ value: Double) -> Double {
    precondition(value > 0)
    var bits = Double(value.exponent)
    var rest = value.significand
    var weight = 0.5
    for _ in 0..<24 {
        rest *= rest
        if rest >= 2 {
            rest /= 2
            bits += weight
        }
        weight /= 2
    }
    return bits * 0.301_029_995_663_981_2
}

/// From values to places in a drawing.
package struct Scale {
    package let from: Double
    package let to: Double
    package let low: Double
    package let high: Double
    package let isLogarithmic: Bool

    /// Precondition: `from` < `to`, both positive if logarithmic.
    package init(_ from: Double, _ to: Double, on low: Double, _ high: Double, log: Bool = false) {
        precondition(from < to)
        (self.from, self.to, self.low, self.high) = (from, to, low, high)
        isLogarithmic = log
    }

    /// Where a value is drawn; values outside are drawn at the edge.
    package func callAsFunction(_ value: Double) -> Double {
        let value = min(max(value, from), to)
        let part =
            isLogarithmic
            ? (log10(value) - log10(from)) / (log10(to) - log10(from))
            : (value - from) / (to - from)
        return low + part * (high - low)
    }

    /// Round values, about `count` of them; on a logarithmic scale the powers of ten.
    package func marks(_ count: Int) -> [Double] {
        var marks: [Double] = []
        if isLogarithmic {
            var mark = 1.0
            while mark < from * 0.999 { mark *= 10 }
            while mark <= to * 1.001 {
                marks.append(mark)
                mark *= 10
            }
            return marks
        }
        var step = 1.0
        var turn = 0
        // 1, 2, 5, 10, 20, 50 …
        while (to - from) / step > Double(count) {
            step *= [2, 2.5, 2][turn % 3]
            turn += 1
        }
        var mark = (from / step).rounded(.up) * step
        while mark <= to {
            marks.append(mark)
            mark += step
        }
        return marks
    }
}

/// One drawing.
package struct Drawing {
    /// Where a text stands to its place.
    package enum Anchor: String { case start, middle, end }

    package let width: Double
    package let height: Double
    /// What it shows, for those who can't see it.
    package let title: String
    private var body = ""

    package init(width: Double, height: Double, title: String) {
        (self.width, self.height, self.title) = (width, height, title)
    }

    package mutating func rectangle(
        _ x: Double, _ y: Double, _ width: Double, _ height: Double, _ style: String,
        hint: String? = nil
    ) {
        element(
            "rect",
            "x=\"\(fixed(x))\" y=\"\(fixed(y))\" width=\"\(fixed(max(width, 0)))\" "
                + "height=\"\(fixed(max(height, 0)))\" \(style)", hint)
    }

    package mutating func line(
        _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ style: String = "class=\"rule\""
    ) {
        element(
            "line",
            "x1=\"\(fixed(x1))\" y1=\"\(fixed(y1))\" x2=\"\(fixed(x2))\" "
                + "y2=\"\(fixed(y2))\" \(style)")
    }

    package mutating func circle(
        _ x: Double, _ y: Double, _ radius: Double, _ style: String, hint: String? = nil
    ) {
        element(
            "circle", "cx=\"\(fixed(x))\" cy=\"\(fixed(y))\" r=\"\(fixed(radius))\" \(style)", hint)
    }

    /// A path in SVG's own language.
    package mutating func path(_ data: String, _ style: String) {
        element("path", "d=\"\(data)\" \(style)")
    }

    package mutating func text(
        _ x: Double, _ y: Double, _ text: String, _ anchor: Anchor = .start, _ style: String = ""
    ) {
        body +=
            "<text x=\"\(fixed(x))\" y=\"\(fixed(y))\" text-anchor=\"\(anchor.rawValue)\""
            + (style.isEmpty ? "" : " \(style)") + ">\(escaped(text))</text>\n"
    }

    private mutating func element(_ name: String, _ attributes: String, _ hint: String? = nil) {
        body += "<\(name) \(attributes)"
        body += hint.map { "><title>\(escaped($0))</title></\(name)>\n" } ?? "/>\n"
    }

    /// The drawing as an element of a page.
    package var svg: String {
        "<svg viewBox=\"0 0 \(fixed(width)) \(fixed(height))\" role=\"img\" "
            + "aria-label=\"\(escaped(title))\">\n\(body)</svg>\n"
    }
}

/// A colour for each node that its neighbours in number do not have: eight that people with any
/// eyesight can tell apart, then the same ones darker, then lighter.
package func colour(ofNode node: Int) -> String {
    let base: [(Int, Int, Int)] = [
        (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0),
        (117, 86, 160), (122, 122, 122),
    ]
    let (red, green, blue) = base[(node - 1) % base.count]
    let shade = (node - 1) / base.count % 3
    let channels = [red, green, blue].map { channel in
        switch shade {
        case 0: channel
        case 1: channel * 6 / 10
        default: channel + (255 - channel) / 2
        }
    }
    return "rgb(\(channels.map(String.init).joined(separator: ",")))"
}
