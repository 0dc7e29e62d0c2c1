// A gateway and its way to the store, as the loop of a node uses both.

internal import Gateway

/// A gateway in a place of its own: as a property it would be checked for overlapping accesses, and
/// partly copied, with every packet.
class Member {
    private let place: UnsafeMutablePointer<Gateway>
    /// What the gateway wants done, or told, and nobody has taken yet.
    final var outputs: [GatewayOutput] = []

    init(_ gateway: consuming Gateway) {
        place = .allocate(capacity: 1)
        place.initialize(to: gateway)
    }

    deinit {
        place.deinitialize(count: 1)
        place.deallocate()
    }

    /// All calls but those that carry outputs go to it directly; ``carry(_:)`` follows them.
    final var gateway: Gateway {
        unsafeAddress { UnsafePointer(place) }
        unsafeMutableAddress { place }
    }

    /// Files that have something to read when ``carry(_:)`` has something to do.
    var news: [Int32] { [] }

    /// Carries requests, answers and changes, as far as they can be without waiting.
    func carry(_ now: UInt64) { preconditionFailure("every kind of member has a store") }

    /// Why the store can't be used now, in one line; nil: it can.
    var storeTrouble: String? { nil }

    /// What went wrong with the store since the last call, for the log.
    func takeFaults() -> [String] { [] }

    /// What the gateway wants done, or told, since the last call.
    final func takeOutputs() -> [GatewayOutput] { exchange(&outputs, with: []) }
}
