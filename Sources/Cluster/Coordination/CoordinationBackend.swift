// What a node needs of the process or service that keeps the coordination store, whatever it is.

/// What a store has to say.
public enum CoordinationEvent: Hashable, Sendable {
    /// The answer to a request.
    case reply(CoordinationReply, to: UInt64)
    /// Whole revisions, in ascending order, that the watch has not told yet.
    case changes([CoordinationChange], ofWatch: UInt64)
    /// The watch is over: what came next is no longer known.
    case watchLost(UInt64)
}

/// A way to a coordination store that answers later. All calls may come from any thread.
public protocol CoordinationBackend: AnyObject, Sendable {
    /// The number of a file that has something to read when ``takeEvents()`` has something to
    /// return.
    var file: Int32 { get }

    /// Asks for something. The answer comes as ``CoordinationEvent/reply(_:to:)`` with the same
    /// number, once, within a bounded time. Precondition: the number is not that of a request that
    /// waits or of a watch that goes on; no key is empty.
    func submit(_ request: CoordinationRequest, id: UInt64)

    /// Ends a watch, named by the number of its request. What it has told already may still be
    /// among the events.
    func endWatch(_ id: UInt64)

    /// Takes what came since the last call.
    func takeEvents() -> [CoordinationEvent]

    /// Why the store can't be used just now, in one line for a log; nil while it can.
    var troubleText: String? { get }
}
