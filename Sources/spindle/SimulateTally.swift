// What `spindle simulate` has found so far: told at its end, or when Ctrl-C ends it before. The
// simulation runs on one thread, and another one waits for the signal.

import Foundation
import SimKit
import Synchronization

/// The seeds that are finished. Whatever is printed about them is printed under its lock, so that
/// no line is torn and the summary comes once.
final class SimulateTally: Sendable {
    private struct State {
        var summary = SimulateSummary()
        var document = SimulateReport()
        var firstFailed: UInt64?
        var isTold = false
    }

    private let state = Mutex(State())

    /// How many there are.
    var seeds: Int { state.withLock { $0.summary.seeds } }

    /// The first one that failed.
    var firstFailed: UInt64? { state.withLock { $0.firstFailed } }

    /// One more seed; `tell` says at once what is to be said about it.
    func add(_ outcome: SimulateOutcome, command: String, tell: (SimulateSummary) -> Void) {
        state.withLock { state in
            state.summary.add(outcome)
            state.document.seeds.append(.init(outcome, command: command))
            state.document.failed = state.summary.failed
            if !outcome.failures.isEmpty, state.firstFailed == nil {
                state.firstFailed = outcome.options.seed
            }
            tell(state.summary)
        }
    }

    /// Prints the table, or the JSON object, unless it has been printed.
    func tell(asJSON: Bool) throws {
        try state.withLock { state in
            guard !state.isTold else { return }
            state.isTold = true
            if asJSON {
                try printJSON(state.document)
            } else if state.summary.seeds > 0 {
                state.summary.lines().forEach { print($0) }
            }
        }
    }
}

/// Lets Ctrl-C (SIGINT) run `body` on a thread of its own, and then end the program with the exit
/// code that shells give to this signal. Where it is ignored, as in the background of a script, it
/// stays so. To be called before there are other threads: each would have to block the signal.
func onInterrupt(_ body: @escaping @Sendable () -> Void) {
    var action = sigaction()
    sigaction(SIGINT, nil, &action)
    let handler = unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
    guard handler != unsafeBitCast(SIG_IGN, to: Int.self) else { return }
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGINT)
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    Thread.detachNewThread { [signals] in
        var signal: Int32 = 0
        withUnsafePointer(to: signals) { _ = sigwait($0, &signal) }
        body()
        fflush(nil)
        // Nothing is torn down: the simulation may still be using it.
        _exit(128 + SIGINT)
    }
}
