// Times in the log and in what operators read.

internal import CLinux
internal import Glibc

/// A moment, written in UTC with milliseconds as RFC 3339 has it.
public struct UTCTime: CustomStringConvertible, Sendable {
    private let seconds: Int
    private let milliseconds: Int

    /// A moment by its distance from the beginning of 1970.
    public init(nanosecondsSince1970 nanoseconds: UInt64) {
        seconds = Int(nanoseconds / 1_000_000_000)
        milliseconds = Int(nanoseconds / 1_000_000 % 1000)
    }

    /// Now, by the system's clock.
    public static var now: UTCTime {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return UTCTime(
            nanosecondsSince1970: UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec))
    }

    /// As in `2030-02-01T04:05:06.007Z`.
    public var description: String {
        var whole = time_t(seconds)
        var parts = tm()
        gmtime_r(&whole, &parts)
        func padded(_ value: some BinaryInteger, _ width: Int) -> String {
            let digits = String(value)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        return "\(parts.tm_year + 1900)-\(padded(parts.tm_mon + 1, 2))-\(padded(parts.tm_mday, 2))"
            + "T\(padded(parts.tm_hour, 2)):\(padded(parts.tm_min, 2)):\(padded(parts.tm_sec, 2))"
            + ".\(padded(milliseconds, 3))Z"
    }
}
