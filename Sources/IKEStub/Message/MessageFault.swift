// Why octets are not an IKEv2 message, and what the sender may be told.

/// The first thing found wrong with a message. Places are octets from the start of what was read:
/// the datagram, or the decrypted content of an Encrypted payload.
public enum MessageFault: Error, Hashable, Sendable {
    /// A field that cannot be.
    case malformed(Field, at: Int)
    /// A payload that is unknown and must not be skipped (RFC 7296 §2.5).
    case unsupportedCriticalPayload(UInt8, at: Int)
    /// A major version other than 2 (RFC 7296 §2.5).
    case majorVersion(UInt8)

    /// Which field.
    public enum Field: String, CaseIterable, Sendable {
        /// Fewer than 28 octets.
        case header
        /// The initiator's SPI is 0 (RFC 7296 §3.1).
        case initiatorSPI
        /// The message's length is not the datagram's.
        case messageLength
        /// A payload's length is less than its header, or more than is left.
        case payloadLength
        /// More than ``IKEMessage/payloadMaximum``.
        case payloadCount
        /// Octets behind the last payload.
        case chainEnd
        /// An Encrypted payload that is not the last one, or inside of another.
        case encryptedPayload
        /// Fragment numbers that RFC 7383 §2.6 has discarded.
        case fragmentNumber
        /// Fewer octets than a payload's fixed fields.
        case payloadBody
        /// "Last substructure" contradicts the length (RFC 7296 §3.3.1).
        case lastSubstructure
        case proposalLength
        /// None, or more than 255.
        case proposalCount
        case transformLength
        /// Not as many as the proposal says.
        case transformCount
        case attributeLength
        /// An SPI longer than its payload, or of a length that its protocol does not have.
        case spiSize
        /// An address of another length.
        case identityLength
        /// Not 16 to 256 octets (RFC 7296 §3.9).
        case nonceLength
        /// Not as many SPIs as the payload says.
        case spiCount
        /// None, or not as many as the payload says.
        case selectorCount
        case selectorLength
        /// A range that runs backwards.
        case selectorRange
        /// Not 1 to 4 (RFC 7296 §3.15).
        case configurationType
    }

    /// What the sender may be told of it; nil where the message is dropped in silence. Inside of an
    /// IKE SA only an authentic message is answered (RFC 7296 §2.21): whoever read it knows.
    public var notify: Notify? {
        switch self {
        case .malformed(let field, _):
            switch field {
            // What has no right header is no message, and a bad fragment is discarded (RFC 7383).
            case .header, .initiatorSPI, .messageLength, .fragmentNumber: nil
            default: Notify(.invalidSyntax)
            }
        case .unsupportedCriticalPayload(let type, _):
            Notify(.unsupportedCriticalPayload, data: [type])
        case .majorVersion(let version): version > 2 ? Notify(.invalidMajorVersion) : nil
        }
    }
}

extension MessageFault: CustomStringConvertible {
    /// For example `proposalLength at octet 34`.
    public var description: String {
        switch self {
        case .malformed(let field, let place): "\(field.rawValue) at octet \(place)"
        case .unsupportedCriticalPayload(let type, let place):
            "unsupportedCriticalPayload \(type) at octet \(place)"
        case .majorVersion(let version): "majorVersion \(version)"
        }
    }
}
