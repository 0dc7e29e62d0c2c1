/// Columns of text for a terminal: the first to the left, the others to the right.
struct TextTable {
    private var rows: [[String]]
    /// The last column is words, and goes to the left, too.
    var endsWithWords = false

    init(_ header: String...) { rows = [header] }

    mutating func add(_ row: String...) { rows.append(row) }

    /// The rows, the header underlined.
    func lines(indent: String = "  ") -> [String] {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        var lines = rows.map { row in
            let cells = row.enumerated().map { column, cell in
                let space = String(repeating: " ", count: widths[column] - cell.count)
                if column == 0 { return cell + space }
                return endsWithWords && column == row.count - 1 ? cell : space + cell
            }
            return indent + cells.joined(separator: "  ")
        }
        let rule = widths.map { String(repeating: "─", count: $0) }.joined(separator: "  ")
        lines.insert(indent + rule, at: 1)
        return lines
    }
}
