// Control and packets of a member are on two threads, so that heartbeats, the store and takeovers
// don't wait for packets:
//
//     control   link, store, timers, filters     raised priority, does little
//     node      packets, IKE, operators          the priority of the process
//
// Both work on the same gateway, one at a time, for a batch or a message each. The lock inherits
// priorities: while control waits for it, whoever holds it runs as soon as control would, so that a
// busy host does not come between.

internal import CLinux
internal import Glibc
internal import Synchronization

/// A lock whose holder inherits the priority of who waits, and which goes to who waits when it is
/// let go.
final class InheritingLock: @unchecked Sendable {
    private let place: UnsafeMutablePointer<pthread_mutex_t>

    init() throws(NodeError) {
        place = .allocate(capacity: 1)
        place.initialize(to: pthread_mutex_t())
        var attributes = pthread_mutexattr_t()
        pthread_mutexattr_init(&attributes)
        defer { pthread_mutexattr_destroy(&attributes) }
        pthread_mutexattr_setprotocol(&attributes, Int32(PTHREAD_PRIO_INHERIT))
        let cause = pthread_mutex_init(place, &attributes)
        guard cause == 0 else {
            errno = cause
            throw .last("making a lock that inherits priorities")
        }
    }

    deinit {
        pthread_mutex_destroy(place)
        place.deallocate()
    }

    func lock() { pthread_mutex_lock(place) }
    func unlock() { pthread_mutex_unlock(place) }
}

/// Lines of the log that wait until their writer holds no lock: the log may be slow.
final class LogQueue {
    private var lines: [(LiveNode.LogLevel, String)] = []

    func append(_ level: LiveNode.LogLevel, _ text: String) { lines.append((level, text)) }

    var isEmpty: Bool { lines.isEmpty }

    func take() -> [(LiveNode.LogLevel, String)] { exchange(&lines, with: []) }
}

/// A thread that wakes when a file has something to read, or a time has come.
final class ControlThread {
    /// What it does; returns the milliseconds until it is called again though nothing came.
    typealias Work = () -> Int32

    /// What both threads have.
    private final class Desk: @unchecked Sendable {
        let files: [Int32]
        let work: Work
        let isOver = Atomic(false)
        let isRaised = Atomic(false)

        init(files: [Int32], work: @escaping Work) {
            self.files = files
            self.work = work
        }

        func run() {
            isRaised.store(Self.raisePriority(), ordering: .relaxed)
            var ready = files.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            while !isOver.load(ordering: .acquiring) {
                let patience = work()
                _ = poll(&ready, nfds_t(ready.count), patience)
            }
        }

        /// Before everything that is not as urgent; else, where that is not allowed, before most.
        private static func raisePriority() -> Bool {
            var parameters = sched_param(sched_priority: 1)
            if pthread_setschedparam(pthread_self(), SCHED_RR, &parameters) == 0 { return true }
            return setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, -15) == 0
        }
    }

    private let desk: Desk
    private var thread = pthread_t()

    /// Begins at once. `work` must take whatever lock it needs.
    init(files: [Int32], work: @escaping Work) throws(NodeError) {
        desk = Desk(files: files, work: work)
        let context = Unmanaged.passRetained(desk)
        let cause = pthread_create(
            &thread, nil,
            { context in
                if let context { Unmanaged<Desk>.fromOpaque(context).takeRetainedValue().run() }
                return nil
            }, context.toOpaque())
        guard cause == 0 else {
            context.release()
            errno = cause
            throw .last("making a thread")
        }
    }

    /// False where the host does not let the thread go before others; known soon after the start.
    var isRaised: Bool { desk.isRaised.load(ordering: .relaxed) }

    /// Waits for its end; the caller must hold no lock.
    func stop() {
        desk.isOver.store(true, ordering: .releasing)
        pthread_join(thread, nil)
    }
}
