// The last words of IKE SAs that are gone.

internal import Crypto

/// The answers to requests that ended an IKE SA: a DELETE, or an IKE_AUTH that was refused. When
/// such an answer is lost, the request comes again (RFC 7296 §2.1), and without the answer the
/// peer would wait until it takes us for dead.
///
/// A request is known again by its octets, which do not change; the keys to open it are gone. The
/// book is bounded: when it is full, the oldest answer goes.
struct FarewellBook {
    /// As long as a peer may repeat itself with common timers.
    static let nanoseconds: UInt64 = 180 * 1_000_000_000
    static let countMaximum = 256

    private struct Entry {
        let localSPI: UInt64
        let requestDigest: [UInt8]
        let answer: [[UInt8]]
        let until: UInt64
    }

    /// The oldest first.
    private var entries: [Entry] = []

    mutating func remember(
        _ answer: [[UInt8]], to request: UnsafeRawBufferPointer, localSPI: UInt64, now: UInt64
    ) {
        entries.removeAll { $0.until <= now }
        if entries.count == Self.countMaximum { entries.removeFirst() }
        entries.append(
            Entry(
                localSPI: localSPI, requestDigest: Hash.sha256.digest(request), answer: answer,
                until: now &+ Self.nanoseconds))
    }

    func answer(
        to request: UnsafeRawBufferPointer, localSPI: UInt64, now: UInt64
    ) -> [[UInt8]]? {
        guard let entry = entries.last(where: { $0.localSPI == localSPI && now < $0.until })
        else { return nil }
        return entry.requestDigest == Hash.sha256.digest(request) ? entry.answer : nil
    }
}
