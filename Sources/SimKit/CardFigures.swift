// What the cards of a run held, and what moving tunnels to them cost: the figures by which the
// patent's two structures and its prior art are compared.

import CryptoCardSim
import Gateway

/// Figures of all cards of a run, summed over all lives of all nodes if nothing else is said.
public struct CardFigures: Equatable, Sendable {
    /// The most sessions that one card ever held; a tunnel takes two.
    public internal(set) var peak = 0
    /// Sessions that were opened.
    public internal(set) var opened: UInt64 = 0
    /// The most sessions on one card in the end.
    public internal(set) var sessionsMaximum = 0
    /// Sessions on all cards in the end.
    public internal(set) var sessions = 0
    /// Sessions in host memory in the end.
    public internal(set) var hostSessions = 0
    /// Tunnels that were never set up, for want of room.
    public internal(set) var tunnelsRefused = 0
    /// Tunnels copied to a card by reallocations.
    public internal(set) var loaded = 0
    /// Tunnels that were on the card of their new owner already, and were updated there.
    public internal(set) var updated = 0
    /// Tunnels copied to the host memory of their new owner.
    public internal(set) var hosted = 0
    /// Tunnels that found no room at their new owner.
    public internal(set) var refused = 0
    /// Tunnels cleared from the cards of former owners.
    public internal(set) var cleared = 0

    /// No run yet.
    public init() {}

    /// Adds another run's; of the largest cards, the larger one counts.
    public mutating func add(_ other: CardFigures) {
        peak = max(peak, other.peak)
        opened += other.opened
        sessionsMaximum = max(sessionsMaximum, other.sessionsMaximum)
        sessions += other.sessions
        hostSessions += other.hostSessions
        tunnelsRefused += other.tunnelsRefused
        loaded += other.loaded
        updated += other.updated
        hosted += other.hosted
        refused += other.refused
        cleared += other.cleared
    }

    mutating func add(_ report: ReallocationReport) {
        loaded += report.loaded
        updated += report.updated
        hosted += report.hosted
        refused += report.refused
        cleared += report.cleared
    }

    /// A node's life is over, or the run is.
    mutating func add(_ gateway: borrowing Gateway) {
        let counters = gateway.cardCounters
        peak = max(peak, counters.peak)
        opened += counters.opened
    }
}
