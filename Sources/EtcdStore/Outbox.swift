// What the client's thread has to tell, for whoever waits in another one.

internal import CLinux
internal import Cluster
internal import EtcdMessages
internal import Glibc
internal import Synchronization

/// A queue with an event file (eventfd(2)).
final class Outbox: Sendable {
    /// More octets of changes than this are not taken from etcd before some are taken from here.
    private static let octetsMaximum = 64 << 20

    private struct State {
        var events: [CoordinationEvent] = []
        var octets = 0
        var statistics = EtcdStatistics()
        var trouble: EtcdError?
    }

    private let state = Mutex(State())
    /// Has something to read when there are events.
    let file: Int32

    init() throws(EtcdError) {
        file = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
        guard file >= 0 else {
            throw .system("making a file for events: \(String(cString: strerror(errno)))")
        }
    }

    deinit { close(file) }

    /// Adds an event. The first one that waits raises the file.
    func post(_ event: CoordinationEvent) {
        let octets = event.octets
        let isFirst = state.withLock {
            $0.events.append(event)
            $0.octets += octets
            return $0.events.count == 1
        }
        guard isFirst else { return }
        var one: UInt64 = 1
        // Only a counter near 2^64 could refuse it.
        _ = write(file, &one, 8)
    }

    /// Takes all events.
    func take() -> [CoordinationEvent] {
        var count: UInt64 = 0
        // Before the queue: what comes in between raises the file again.
        _ = read(file, &count, 8)
        return state.withLock {
            $0.octets = 0
            return exchange(&$0.events, with: [])
        }
    }

    /// True while nobody takes what is there.
    var isFull: Bool { state.withLock { $0.octets > Self.octetsMaximum } }

    /// Counts something.
    func count(_ change: (inout EtcdStatistics) -> Void) {
        state.withLock { change(&$0.statistics) }
    }

    /// What was counted.
    var statistics: EtcdStatistics { state.withLock(\.statistics) }

    /// What is wrong; nil: nothing.
    var trouble: EtcdError? {
        get { state.withLock(\.trouble) }
        set { state.withLock { $0.trouble = newValue } }
    }
}

extension CoordinationEvent {
    /// About how much memory it takes.
    fileprivate var octets: Int {
        guard case .changes(let changes, _) = self else { return 0 }
        return changes.reduce(0) { sum, change in
            guard case .put(let pair) = change.kind else { return sum + 128 }
            return sum + 128 + pair.key.utf8.count + pair.value.count
        }
    }
}
