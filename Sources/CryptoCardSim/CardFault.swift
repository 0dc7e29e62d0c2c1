// Faults to inject; none of them happens by itself.

public import ESP

/// What can go wrong with a card.
public enum CardFault: Equatable, Sendable {
    /// One session vanishes without a word, its keys wiped.
    case sessionLost(CardHandle)
    /// All sessions vanish, and a stall ends.
    case reset
    /// No session is opened and no batch is taken before this time on the caller's clock.
    case stalled(untilNanoseconds: UInt64)
    /// The next key schedules that are run come out wrong and are noticed.
    case keyingFails(count: Int)
    /// Only so many more sessions find room, before this time.
    case bounded(more: Int, untilNanoseconds: UInt64)
}
