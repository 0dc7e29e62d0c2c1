// A page that needs nothing but itself: headings, tables, drawings, and a little CSS. It is written
// as well-formed XML, so that any tool can read it back.

/// A page being written.
package struct ReportPage {
    private let title: String
    private var body = ""

    package init(title: String) {
        self.title = title
        body += "<h1>\(escaped(title))</h1>\n"
    }

    package mutating func heading(_ text: String) { body += "<h2>\(escaped(text))</h2>\n" }

    package mutating func paragraph(_ text: String, class name: String? = nil) {
        let attribute = name.map { " class=\"\($0)\"" } ?? ""
        body += "<p\(attribute)>\(escaped(text))</p>\n"
    }

    /// Something to type.
    package mutating func command(_ label: String, _ text: String) {
        body += "<p>\(escaped(label)) <code>\(escaped(text))</code></p>\n"
    }

    package mutating func figure(_ drawing: Drawing, caption: String) {
        body += "<figure>\n\(drawing.svg)<figcaption>\(escaped(caption))</figcaption>\n</figure>\n"
    }

    /// Boxes of colour with names.
    package mutating func legend(_ entries: [(colour: String, name: String)]) {
        body += "<p class=\"legend\">"
        for entry in entries {
            body += "<span><i style=\"background:\(entry.colour)\"></i>"
            body += "\(escaped(entry.name))</span> "
        }
        body += "</p>\n"
    }

    /// Large numbers with names.
    package mutating func figures(_ entries: [(value: String, name: String)]) {
        body += "<dl class=\"figures\">"
        for entry in entries {
            body += "<div><dt>\(escaped(entry.name))</dt><dd>\(escaped(entry.value))</dd></div>"
        }
        body += "</dl>\n"
    }

    /// The first row is the header; a row of one cell is a heading between the others. `numbers`:
    /// which columns stand to the right.
    package mutating func table(_ rows: [[String]], numbers: Set<Int>) {
        let width = rows.first?.count ?? 0
        body += "<table>\n"
        for (number, row) in rows.enumerated() {
            let cell = number == 0 ? "th" : "td"
            if row.count == 1, width > 1 {
                body += "<tr class=\"part\"><th colspan=\"\(width)\">\(escaped(row[0]))</th></tr>\n"
                continue
            }
            body += "<tr>"
            for (column, text) in row.enumerated() {
                let attribute = numbers.contains(column) ? " class=\"number\"" : ""
                body += "<\(cell)\(attribute)>\(escaped(text))</\(cell)>"
            }
            body += "</tr>\n"
        }
        body += "</table>\n"
    }

    package mutating func list(_ items: [String]) {
        body += "<ol>\n" + items.map { "<li>\(escaped($0))</li>\n" }.joined() + "</ol>\n"
    }

    /// The whole page.
    package var html: String {
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
            + "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
            + "<title>\(escaped(title))</title>\n<style>\n\(Self.style)</style>\n</head>\n<body>\n"
            + body + "</body>\n</html>\n"
    }

    private static let style = """
        :root { color-scheme: light; }
        html { background: #fff; color: #1a1a1a; print-color-adjust: exact;
          -webkit-print-color-adjust: exact; }
        body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; max-width: 62rem;
          margin: 2rem auto 4rem; padding: 0 1.2rem; }
        h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .8rem; }
        h2 { font-size: 1.15rem; margin: 2.6rem 0 .4rem; padding-top: .7rem;
          border-top: 1px solid #ddd; break-after: avoid; }
        p { margin: .4rem 0; max-width: 50rem; }
        code { font: .9em/1.4 ui-monospace, "DejaVu Sans Mono", monospace; background: #f3f3f3;
          padding: .15em .4em; overflow-wrap: anywhere; }
        .verdict { font-weight: 600; padding: .55rem .9rem; max-width: none; margin: .8rem 0; }
        .good { background: #e7f4ec; border-left: 5px solid #1a7f4b; }
        .bad { background: #fbe9e7; border-left: 5px solid #b3261e; }
        .figures { display: flex; flex-wrap: wrap; gap: .4rem 2.4rem; margin: 1.1rem 0; }
        .figures div { display: flex; flex-direction: column-reverse; }
        .figures dt { font-size: .8rem; color: #555; }
        .figures dd { margin: 0; font-size: 1.35rem; line-height: 1.2; }
        figure { margin: 1rem 0 0; break-inside: avoid; }
        figcaption { font-size: .85rem; color: #444; max-width: 50rem; margin-top: .4rem; }
        svg { display: block; width: 100%; height: auto; }
        svg text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: #1a1a1a; }
        svg .small { font-size: 10px; }
        svg .tiny { font-size: 8px; }
        svg .halo { paint-order: stroke; stroke: #fff; stroke-width: 3px;
          stroke-linejoin: round; font-size: 12px; }
        svg .frame { fill: none; stroke: #1a1a1a; stroke-width: .8; }
        svg .rule { stroke: #1a1a1a; stroke-width: .8; }
        svg .grid { stroke: #ddd; stroke-width: .8; }
        svg .wire { stroke: #ccc; stroke-width: .8; }
        svg .guide { stroke: #1a1a1a; stroke-width: .6; stroke-dasharray: 1.5 3; opacity: .55; }
        svg .flag { stroke: #1a1a1a; stroke-width: 1; }
        svg .fault { fill: #1a1a1a; }
        svg .bar { fill: rgb(0,114,178); }
        svg .phase { fill: #f4efe4; }
        svg .next { fill: #e9eef5; }
        .legend span { display: inline-block; margin-right: 1.1rem; white-space: nowrap; }
        .legend i { display: inline-block; width: 1em; height: 1em; margin-right: .4em;
          vertical-align: -.12em; border: 1px solid #1a1a1a; }
        table { border-collapse: collapse; margin: .8rem 0; font-size: .88rem;
          font-variant-numeric: tabular-nums; }
        th, td { text-align: left; padding: .2rem 1.1rem .2rem 0; vertical-align: top; }
        tr { border-bottom: 1px solid #e4e4e4; break-inside: avoid; }
        th { font-weight: 600; }
        .part th { padding-top: .9rem; }
        .number { text-align: right; white-space: nowrap; }
        ol { font-size: .88rem; padding-left: 2.2rem; }
        @media print { body { margin: 0; max-width: none; font-size: 11px; } }

        """
}
