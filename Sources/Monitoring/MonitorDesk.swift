// Between the two threads: connections ask, the node's loop answers when it comes by.

internal import CLinux
internal import GatewayIO
internal import Glibc
internal import NIOCore
internal import Synchronization

/// The questions that wait. All of them get one answer: a node that is asked by many is asked once.
final class MonitorDesk: Sendable {
    /// A loop that takes longer is not well.
    static let patience = TimeAmount.seconds(1)
    /// A reading is given again for so long: more questions are no more work for the node.
    private static let freshness = TimeAmount.milliseconds(100)

    private struct State {
        var lastNumber = 0
        var waiting: [Int: EventLoopPromise<NodeReading?>] = [:]
        var isAsked = false
        var last: (reading: NodeReading, at: NIODeadline)?
    }

    private let state = Mutex(State())
    /// Has something to read while a reading is wanted (eventfd(2)).
    let file: Int32

    init() throws(MonitorError) {
        file = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
        guard file >= 0 else {
            throw MonitorError(description: "making a file for events: " + lastReason())
        }
    }

    deinit { close(file) }

    /// The node's state; nil: it did not answer in time.
    func reading(on loop: any EventLoop) -> EventLoopFuture<NodeReading?> {
        let promise = loop.makePromise(of: NodeReading?.self)
        let (number, isFirst): (Int?, Bool) = state.withLock { state in
            if let last = state.last, NIODeadline.now() < last.at + Self.freshness {
                promise.succeed(last.reading)
                return (nil, false)
            }
            state.lastNumber += 1
            state.waiting[state.lastNumber] = promise
            defer { state.isAsked = true }
            return (state.lastNumber, !state.isAsked)
        }
        guard let number else { return promise.futureResult }
        loop.scheduleTask(in: Self.patience) { [self] in
            state.withLock { $0.waiting.removeValue(forKey: number) }?.succeed(nil)
        }
        if isFirst {
            var one: UInt64 = 1
            // Only a counter near 2^64 could refuse it.
            _ = write(file, &one, 8)
        }
        return promise.futureResult
    }

    /// True when a reading is wanted.
    func takeQuestion() -> Bool {
        var count: UInt64 = 0
        _ = read(file, &count, 8)
        return state.withLock { $0.isAsked }
    }

    /// Gives it to all who wait.
    func answer(_ reading: NodeReading) {
        let waiting = state.withLock { state in
            state.isAsked = false
            state.last = (reading, .now())
            defer { state.waiting = [:] }
            return state.waiting
        }
        for promise in waiting.values { promise.succeed(reading) }
    }
}

/// Of the last call that failed.
func lastReason() -> String { String(cString: strerror(errno)) }
