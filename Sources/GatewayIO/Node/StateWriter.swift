// Writes to a disk beside the loop: waiting for the disk takes milliseconds, in which thousands of
// packets may come.

internal import CLinux
internal import Glibc
internal import Synchronization

/// A thread that does one job at a time.
final class StateWriter {
    /// What a job leads to.
    struct Outcome: Sendable {
        /// Where the next frame is to be written.
        var file: FileDescriptor
        /// Octets that were written.
        var bytes: Int
        /// Frames that were written.
        var frames: Int
    }

    typealias Job = @Sendable () throws(StateError) -> Outcome

    /// What loop and thread have in common.
    private final class Desk: Sendable {
        struct State {
            var job: Job?
            var outcome: Result<Outcome, StateError>?
            var isOver = false
        }

        let state = Mutex(State())
        let calls: FileDescriptor
        let news: FileDescriptor

        init() throws(StateError) {
            calls = try Self.event(0)
            news = try Self.event(Int32(EFD_NONBLOCK))
        }

        private static func event(_ flags: Int32) throws(StateError) -> FileDescriptor {
            let number = eventfd(0, Int32(EFD_CLOEXEC) | flags)
            guard number >= 0 else { throw .last("making a file for events") }
            return FileDescriptor(number)
        }

        /// Of the thread.
        func work() {
            while true {
                StateWriter.take(calls)
                guard let job = state.withLock({ $0.job.take() }) else {
                    if state.withLock({ $0.isOver }) { return }
                    continue
                }
                let outcome: Result<Outcome, StateError>
                do throws(StateError) {
                    outcome = .success(try job())
                } catch {
                    outcome = .failure(error)
                }
                // One reading takes all calls: the last one may have come with this job's.
                let isOver = state.withLock {
                    $0.outcome = outcome
                    return $0.isOver
                }
                StateWriter.raise(news)
                if isOver { return }
            }
        }
    }

    private let desk: Desk
    private var thread = pthread_t()
    /// A job was begun and its outcome not taken.
    private(set) var isBusy = false

    init() throws(StateError) {
        desk = try Desk()
        let context = Unmanaged.passRetained(desk)
        let cause = pthread_create(
            &thread, nil,
            { context in
                if let context { Unmanaged<Desk>.fromOpaque(context).takeRetainedValue().work() }
                return nil
            }, context.toOpaque())
        guard cause == 0 else {
            context.release()
            errno = cause
            throw .last("making a thread")
        }
    }

    /// Waits for the job under way.
    deinit {
        desk.state.withLock { $0.isOver = true }
        Self.raise(desk.calls)
        pthread_join(thread, nil)
    }

    /// Has something to read when a job is done.
    var news: FileDescriptor { desk.news }

    /// Begins a job. Precondition: none is under way.
    func begin(_ job: @escaping Job) {
        precondition(!isBusy)
        isBusy = true
        desk.state.withLock { $0.job = job }
        Self.raise(desk.calls)
    }

    /// What the job led to; nil while it goes on, unless the caller `waits`.
    func finish(waits: Bool) -> Result<Outcome, StateError>? {
        guard isBusy else { return nil }
        if waits {
            var ready = pollfd(fd: desk.news.number, events: Int16(POLLIN), revents: 0)
            while poll(&ready, 1, -1) < 0, errno == EINTR {}
        }
        guard Self.take(desk.news) else { return nil }
        isBusy = false
        return desk.state.withLock { $0.outcome.take() }
    }

    /// Reads an event; without one it waits, if the file does.
    @discardableResult
    private static func take(_ event: FileDescriptor) -> Bool {
        var count: UInt64 = 0
        return read(event.number, &count, 8) == 8
    }

    private static func raise(_ event: FileDescriptor) {
        var one: UInt64 = 1
        // Only a counter near 2^64 could refuse it.
        _ = write(event.number, &one, 8)
    }
}
