// One line per address, kind and minute about strangers, not one per packet; and one that says how
// many more there were.

internal import Wire

/// Lets a report of a kind about an address pass, counts those of the next minute, and says their
/// number when it is over. Bounded: when it has no room for an address, its reports are counted
/// with those of all others that it has no room for.
struct ReportGate {
    static let pauseNanoseconds: UInt64 = 60 * 1_000_000_000
    static let addressesMaximum = 256
    /// Characters of the first report that its successor repeats.
    private static let textMaximum = 120

    private struct Subject: Hashable {
        let address: IPAddress
        let kind: IKEReport.Kind
    }

    /// The minute after a report, or after the first one that found no room.
    private struct Pause {
        let until: UInt64
        let kind: IKEReport.Kind
        let path: IKEPath
        /// What was told; nil: nothing was.
        let told: IKEReport?
        var more: UInt64
    }

    private var pauses: [Subject: Pause] = [:]
    /// Those that end first stand first.
    private var order: [Subject] = []
    private var others: Pause?
    /// Pauses that have something to tell at their end.
    private var countedPauses = 0

    /// When there is something to tell; nil: never. It may be told later.
    var deadline: UInt64? {
        let first = countedPauses > 0 ? order.first.flatMap { pauses[$0]?.until } : nil
        guard let others else { return first }
        return min(first ?? .max, others.until)
    }

    /// The report, if it is to be told; otherwise it is counted, and not even made.
    mutating func pass(
        _ kind: IKEReport.Kind, _ path: IKEPath, now: UInt64, _ report: () -> IKEReport
    ) -> IKEReport? {
        let subject = Subject(address: path.remote, kind: kind)
        if let pause = pauses[subject] {
            if pause.more == 0 { countedPauses += 1 }
            pauses[subject]?.more += 1
            return nil
        }
        let until = now &+ Self.pauseNanoseconds
        guard order.count < Self.addressesMaximum else {
            others = others ?? Pause(until: until, kind: kind, path: path, told: nil, more: 0)
            others?.more += 1
            return nil
        }
        let report = report()
        pauses[subject] = Pause(
            until: until, kind: kind, path: path, told: Self.shortened(report), more: 0)
        order.append(subject)
        return report
    }

    /// What is to be told of the pauses that are over.
    mutating func takeEnded(now: UInt64) -> [IKEReport] {
        var reports: [IKEReport] = []
        let ended = order.prefix { subject in pauses[subject].map { $0.until <= now } ?? true }
        for subject in ended {
            guard let pause = pauses.removeValue(forKey: subject), pause.more > 0 else { continue }
            countedPauses -= 1
            reports.append(Self.summary(of: pause))
        }
        order.removeFirst(ended.count)
        if let pause = others, pause.until <= now {
            others = nil
            reports.append(Self.summary(of: pause))
        }
        return reports
    }

    private static func summary(of pause: Pause) -> IKEReport {
        let text =
            pause.told.map {
                "and \(pause.more) more from \(pause.path.remote) within a minute: \($0.text)"
            }
            ?? "and \(pause.more) more from other addresses within a minute: more than "
            + "\(addressesMaximum) were refused"
        return IKEReport(
            kind: pause.kind, level: .warning, connection: pause.told?.connection ?? "",
            path: pause.path, text: text)
    }

    /// Peers choose how long a text is: what is kept of it is short.
    private static func shortened(_ report: IKEReport) -> IKEReport {
        guard report.text.count > textMaximum else { return report }
        return IKEReport(
            kind: report.kind, level: report.level, connection: report.connection,
            path: report.path, text: report.text.prefix(textMaximum) + "…")
    }
}
