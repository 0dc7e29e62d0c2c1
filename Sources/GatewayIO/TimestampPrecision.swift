// The two resolutions that classic pcap has, each with its own magic number.

/// How fine the timestamps of a capture file are.
public enum TimestampPrecision: Hashable, Sendable {
    /// Magic 0xA1B2C3D4, the usual one.
    case microseconds
    /// Magic 0xA1B23C4D.
    case nanoseconds
}
