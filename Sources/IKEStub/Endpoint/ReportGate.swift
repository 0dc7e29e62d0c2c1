// One line per address and minute about strangers, not one per packet.

internal import Wire

/// Lets a report about an address pass, and then not again for a while. Bounded: when it is full
/// of recent addresses, others wait.
struct ReportGate {
    private static let pauseNanoseconds: UInt64 = 60 * 1_000_000_000
    private static let addressesMaximum = 256

    private var until: [IPAddress: UInt64] = [:]

    mutating func admits(_ address: IPAddress, now: UInt64) -> Bool {
        if let end = until[address], now < end { return false }
        if until.count >= Self.addressesMaximum {
            until = until.filter { now < $0.value }
            guard until.count < Self.addressesMaximum else { return false }
        }
        until[address] = now &+ Self.pauseNanoseconds
        return true
    }
}
