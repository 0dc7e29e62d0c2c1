// Why a lab can't go on.

/// A failure in words: what failed, and what to do about it.
public struct LabError: Error, Hashable, Sendable, CustomStringConvertible {
    /// One line, perhaps with the end of a log behind it.
    public let description: String

    init(_ description: String) { self.description = description }
}
