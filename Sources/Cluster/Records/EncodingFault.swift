// What can be wrong with octets from the network or the store. Both are read as strictly as they
// are written: one value has one encoding.

/// Why octets are not an encoding.
public enum EncodingFault: String, Error, CaseIterable, Hashable, Sendable {
    /// The last field is cut off.
    case truncated = "it ends too early"
    /// More octets than the fields.
    case trailing = "octets follow its end"
    /// A varint that is not minimal, or has more than 64 bits.
    case number = "a number is not in its shortest form or exceeds 64 bits"
    /// A value that its field may not have.
    case range = "a number is out of range"
    /// A list that must ascend does not.
    case order = "a list is not in ascending order"
    /// A kind, code or flag that this version does not know.
    case unknown = "it has a kind, code or flag that this version does not know"
}
