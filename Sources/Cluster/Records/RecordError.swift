// Why a value of the store is not a record.

/// A refused value, with the text that an operator reads.
public enum RecordError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The format version is another one.
    case version(UInt8)
    /// The octets are not an encoding.
    case malformed(EncodingFault)
    /// The allocation contradicts itself.
    case allocation(ClusterError)
    /// An association does not decode; the text says why.
    case association(String)
    /// An association has the other one's direction.
    case direction
    /// The record is of another tunnel, or of another identifier, than its key.
    case misplaced
    /// The seal is not of this cluster key and this store key.
    case forged

    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .version(let number):
            "the record has format version \(number): run one version on all nodes"
        case .malformed(let fault):
            "the record is damaged (\(fault.rawValue)): delete it, or restore the store"
        case .allocation(let error): error.description
        case .association(let text): text
        case .direction:
            "the record is damaged (an association has the wrong direction): delete it"
        case .misplaced:
            "the record does not belong to its key: delete it, and run one configuration on all "
                + "nodes"
        case .forged:
            "the record does not open: it is damaged, was moved from another key, or was sealed "
                + "with another cluster key"
        }
    }
}
