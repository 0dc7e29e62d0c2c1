// The numbers of the payloads (RFC 7296 §3.2, RFC 7383 §2.5).

/// A kind of payload that this implementation understands.
public enum PayloadType: UInt8, CaseIterable, Sendable {
    case securityAssociation = 33
    case keyExchange
    case initiatorIdentity
    case responderIdentity
    case certificate
    case certificateRequest
    case authentication
    case nonce
    case notify
    case delete
    case vendorID
    case initiatorSelectors
    case responderSelectors
    /// SK (RFC 7296 §3.14).
    case encrypted
    case configuration
    case extensibleAuthentication
    /// SKF (RFC 7383 §2.5).
    case encryptedFragment = 53

    /// As RFC 7296 §1.2 writes it down. Ni and Nr are one type: both are "No".
    public var notation: String {
        switch self {
        case .securityAssociation: "SA"
        case .keyExchange: "KE"
        case .initiatorIdentity: "IDi"
        case .responderIdentity: "IDr"
        case .certificate: "CERT"
        case .certificateRequest: "CERTREQ"
        case .authentication: "AUTH"
        case .nonce: "No"
        case .notify: "N"
        case .delete: "D"
        case .vendorID: "V"
        case .initiatorSelectors: "TSi"
        case .responderSelectors: "TSr"
        case .encrypted: "SK"
        case .configuration: "CP"
        case .extensibleAuthentication: "EAP"
        case .encryptedFragment: "SKF"
        }
    }
}
