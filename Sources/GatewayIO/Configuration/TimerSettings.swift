// Reads `timers` of a connection.

internal import IKEStub

enum TimerSettings {
    private static let second: UInt64 = 1_000_000_000
    private static let day = 86_400 * second

    private typealias Field = WritableKeyPath<IKETimers, UInt64> & Sendable

    private static let durations: [(String, any Field, ClosedRange<UInt64>)] = [
        ("rekey_ike", \.rekeyIKE, 10 * second...7 * day),
        ("rekey_child", \.rekeyChild, 10 * second...7 * day),
        ("rekey_jitter", \.rekeyJitter, 0...day),
        ("overtime", \.overtime, 1 * second...day),
        ("keepalive", \.keepalive, 1 * second...3600 * second),
        ("retransmission", \.retransmission, second / 10...60 * second),
        ("half_open", \.halfOpen, 1 * second...600 * second),
    ]

    /// The defaults, changed by what stands there.
    static func read(_ setting: Setting) -> IKETimers {
        var timers = IKETimers()
        let others = ["liveness", "retransmission_base", "retransmission_tries"]
        guard let fields = setting.settings(durations.map(\.0) + others) else { return timers }
        for (name, path, range) in durations {
            if let value = fields[name]?.duration(in: range) { timers[keyPath: path] = value }
        }
        if let liveness = fields["liveness"] { readLiveness(liveness, &timers) }
        if let base = fields["retransmission_base"].flatMap(base) {
            timers.retransmissionBase = base
        }
        if let tries = fields["retransmission_tries"]?.number(in: 1...20) {
            timers.retransmissionTries = tries
        }
        check(fields, timers)
        return timers
    }

    private static func readLiveness(_ setting: Setting, _ timers: inout IKETimers) {
        if case .text("off", _) = setting.node.content {
            timers.liveness = 0
            setting.warn(.unusual, "a peer that vanishes keeps its SAs until they are rekeyed")
        } else if let value = setting.duration(in: second...day) {
            timers.liveness = value
        }
    }

    /// "1.8" as 180.
    private static func base(_ setting: Setting) -> UInt64? {
        guard let text = setting.text() else { return nil }
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        let isDecimal = parts.allSatisfy { part in
            (1...2).contains(part.utf8.count)
                && part.utf8.allSatisfy { (0x30...0x39).contains($0) }
        }
        guard isDecimal, (1...2).contains(parts.count), let whole = UInt64(parts[0]),
            let fraction = parts.count == 2 ? hundredths(parts[1]) : 0,
            (100...1000).contains(whole * 100 + fraction)
        else {
            setting.refuse(
                .outOfRange,
                "\(setting.source.quote(text)) is not possible: use a number from 1 to 10 with at "
                    + "most two decimals, such as 1.8")
            return nil
        }
        return whole * 100 + fraction
    }

    private static func hundredths(_ digits: Substring) -> UInt64? {
        UInt64(digits).map { digits.utf8.count == 1 ? $0 * 10 : $0 }
    }

    private static func check(_ fields: Settings, _ timers: IKETimers) {
        let shortest = min(timers.rekeyIKE, timers.rekeyChild)
        guard timers.rekeyJitter >= shortest else { return }
        let name =
            fields["rekey_jitter"] == nil
            ? (timers.rekeyIKE < timers.rekeyChild ? "rekey_ike" : "rekey_child") : "rekey_jitter"
        fields.refuse(
            .contradiction, name,
            "rekey_jitter (\(DurationText.text(timers.rekeyJitter))) is taken off the time until "
                + "rekeying (\(DurationText.text(shortest))): make it shorter than that")
    }
}
