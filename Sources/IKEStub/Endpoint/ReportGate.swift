// One line per address, kind and minute about strangers, not one per packet.

internal import Wire

/// Lets a report of a kind about an address pass, and then not again for a while. Bounded: when it
/// is full of recent ones, others wait.
struct ReportGate {
    private static let pauseNanoseconds: UInt64 = 60 * 1_000_000_000
    private static let addressesMaximum = 256

    private struct Subject: Hashable {
        let address: IPAddress
        let kind: IKEReport.Kind
    }

    private var until: [Subject: UInt64] = [:]

    mutating func admits(_ report: IKEReport, now: UInt64) -> Bool {
        let subject = Subject(address: report.path.remote, kind: report.kind)
        if let end = until[subject], now < end { return false }
        if until.count >= Self.addressesMaximum {
            until = until.filter { now < $0.value }
            guard until.count < Self.addressesMaximum else { return false }
        }
        until[subject] = now &+ Self.pauseNanoseconds
        return true
    }
}
