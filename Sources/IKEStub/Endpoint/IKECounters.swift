// Why messages were not acted upon, as numbers.

/// A datagram that led to nothing, by reason.
public enum IKEDropReason: String, CaseIterable, Sendable {
    /// No IKEv2 message.
    case malformed
    /// A major version other than 2.
    case version
    /// No IKE SA has that SPI here.
    case unknownSPI
    /// The Integrity Checksum Data is wrong.
    case notAuthentic
    /// A response to nothing, or a request from before the last one.
    case outOfWindow
    /// A message that its IKE SA can't take at this point.
    case unexpected
    /// A fragment that does not fit, or of a message that is too long.
    case fragment
    /// Too many set-ups of that address are half-open, or there are too many IKE SAs.
    case halfOpenLimit
    /// A half-open set-up gave its place to a new one.
    case halfOpenDisplaced
    /// The peer was asked to come back with a cookie.
    case cookieAsked
    /// A cookie that we did not give, or long ago.
    case cookieWrong
    /// A set-up for which no connection or no proposal is configured.
    case refused
    /// A set-up, or the rekeying of an IKE SA, of a peer that has as many as its identity may have.
    case identityLimit
    /// OpenSSL had no memory, or lacks an algorithm.
    case library
}

/// Counts per reason.
public struct IKECounters: Sendable {
    private var counts = [UInt64](repeating: 0, count: IKEDropReason.allCases.count)

    /// Nothing was dropped.
    public init() {}

    /// How many datagrams were dropped for that reason.
    public subscript(reason: IKEDropReason) -> UInt64 { counts[Self.index(reason)] }

    mutating func count(_ reason: IKEDropReason) { counts[Self.index(reason)] += 1 }

    private static func index(_ reason: IKEDropReason) -> Int {
        guard let index = IKEDropReason.allCases.firstIndex(of: reason) else {
            preconditionFailure("every reason is a case")
        }
        return index
    }
}
