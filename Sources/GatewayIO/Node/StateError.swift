// Why a state directory can't be used. Nothing is ever begun anew in silence: under keys that were
// in use, sequence numbers and nonces would begin anew as well.

internal import Glibc

/// A fault of a node's state directory.
public enum StateError: Error, Equatable, CustomStringConvertible {
    /// Making, opening, reading or writing failed, in the kernel's words.
    case system(doing: String, reason: String)
    /// Something else has the name.
    case notDirectory(String)
    /// Others can use what only the node may: the mode that it has, and should have.
    case exposed(String, mode: String, wanted: String)
    /// It belongs to another user.
    case foreign(String, user: UInt32)
    /// Another process has it.
    case inUse(String)
    /// One of its two files is missing.
    case missing(String, directory: String)
    /// A file is not what it was, from this octet on.
    case damaged(String, offset: Int, directory: String)
    /// Written by another version.
    case version(String)
    /// The secret is not the one that the store was written with.
    case otherSecret(directory: String)
    /// What is stored does not let the node serve; what the node said about it.
    case unusable(directory: String, reason: String)
    /// A manually keyed association that was served before with the same keys and is not known any
    /// more, or is another one now.
    case keysUsed(file: String, spi: String, change: KeyUse)

    /// How keys came to be used.
    public enum KeyUse: Sendable {
        /// The association was taken out of the file, or got other keys, and its numbers are gone.
        case before
        /// Something beside the keys was changed.
        case otherwise
    }

    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .system(let doing, let reason): "\(doing): \(reason)"
        case .notDirectory(let path):
            "\(path) is no directory: remove it, or name another directory as state"
        case .exposed(let path, let mode, let wanted):
            "\(path) has mode \(mode), so that others may use it: type `chmod \(wanted) \(path)`"
        case .foreign(let path, let user):
            "\(path) belongs to user \(user): give it to the user who runs the node"
        case .inUse(let path):
            "another node has the state in \(path): stop it, or name another directory as state"
        case .missing(let path, let directory):
            "\(path) is missing, but was there: \(Self.advice(directory))"
        case .damaged(let path, let offset, let directory):
            "\(path) is damaged at octet \(offset): \(Self.advice(directory))"
        case .version(let path):
            "\(path) was written by another version: run that one"
        case .otherSecret(let directory):
            "\(directory)/secret is not the secret of \(directory)/store: "
                + Self.advice(directory)
        case .unusable(let directory, let reason):
            "the state in \(directory) can't be gone on with (\(reason)): "
                + Self.advice(directory)
        case .keysUsed(let file, let spi, .before):
            "\(file): the keys of \(spi) were in use before, and how far their sequence numbers "
                + "came is not known any more: make new keys for it"
        case .keysUsed(let file, let spi, .otherwise):
            "\(file): \(spi) was served before with the same keys and other settings: "
                + "restore these, or make new keys for it"
        }
    }

    /// From `errno`, at once after a failed call.
    static func last(_ doing: String) -> StateError {
        .system(doing: doing, reason: String(cString: strerror(errno)))
    }

    /// A copy of earlier days would repeat generations, and with them nonces.
    private static func advice(_ directory: String) -> String {
        "put no older copy there; move \(directory) away, make new keys for all manually keyed "
            + "associations, and start again: IKE makes its own anew"
    }
}
