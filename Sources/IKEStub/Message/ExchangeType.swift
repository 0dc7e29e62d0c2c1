// The exchanges of IKEv2 (RFC 7296 §3.1).

/// What a message is part of. Other numbers stand in a header as they are: extensions define them.
public enum ExchangeType: UInt8, CaseIterable, Sendable {
    /// IKE_SA_INIT: the only exchange without protection (RFC 7296 §1.2).
    case ikeSAInit = 34
    /// IKE_AUTH.
    case ikeAuth
    /// CREATE_CHILD_SA: new and replaced SAs (RFC 7296 §1.3).
    case createChildSA
    /// INFORMATIONAL (RFC 7296 §1.4).
    case informational
}
