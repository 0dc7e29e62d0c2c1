// What nobody must ever do with an IKE SA, recorded exactly: protect two messages with one nonce,
// or answer one request in two ways.

import IKEStub
import Wire

/// What the ledger knows of a message that was just sent.
enum IKEVerdict: Hashable {
    /// Not protected, and so under no rule: IKE_SA_INIT, or something else that anybody can send.
    case unprotected
    /// Never seen before.
    case new
    /// The same octets as before: a repetition (RFC 7296 §2.1).
    case again
    /// Other octets were protected with this IV under this key before (RFC 5282 §3.1).
    case nonceTwice
    /// The request of this number had other octets.
    case otherRequest
    /// The same request was answered with other octets.
    case otherAnswer
}

/// All protected IKE messages that were sent, of the cluster and of its peers.
///
/// The two SPIs and the original initiator's flag name the key, the first eight octets of the
/// Encrypted payload are the IV: every peer here uses ciphers that authenticate by themselves.
struct IKELedger {
    private struct Key: Hashable {
        let initiatorSPI: UInt64
        let responderSPI: UInt64
        let byInitiator: Bool
    }

    private struct Nonce: Hashable {
        let key: Key
        let iv: UInt64
    }

    private struct Place: Hashable {
        let key: Key
        let exchange: UInt8
        let isResponse: Bool
        let messageID: UInt32
        let fragment: UInt16

        /// Message IDs are synchronized by exchanges that all have the number 0 (RFC 6311 §5.1).
        var mayBeSynchronization: Bool {
            messageID == 0 && exchange == ExchangeType.informational.rawValue
        }
    }

    /// Asked for single members only.
    private var nonces: [Nonce: [UInt8]] = [:]
    private var first: [Place: [UInt8]] = [:]
    /// Requests without content: liveness checks.
    private var empty: Set<Place> = []

    /// Octets of a message without payloads: header, Encrypted payload's header, IV, pad length and
    /// a checksum of 16.
    private static let emptyBytes = 57

    /// Records one message, without a marker.
    mutating func note(_ message: UnsafeRawBufferPointer) -> IKEVerdict {
        guard let base = message.baseAddress, message.count >= Self.emptyBytes,
            let header = try? IKEHeader(reading: message),
            let type = PayloadType(rawValue: header.nextPayload),
            type == .encrypted || type == .encryptedFragment
        else { return .unprotected }
        let isFragment = type == .encryptedFragment
        let iv = IKEHeader.byteCount + (isFragment ? 8 : 4)
        let byInitiator = header.flags.contains(.initiator)
        let key = Key(
            initiatorSPI: header.initiatorSPI, responderSPI: header.responderSPI,
            byInitiator: byInitiator)
        let octets = Array(message)
        let nonce = Nonce(key: key, iv: load64(base, iv))
        let known = nonces.updateValue(octets, forKey: nonce)
        if let known, known != octets { return .nonceTwice }
        let place = Place(
            key: key, exchange: header.exchange, isResponse: header.flags.contains(.response),
            messageID: header.messageID,
            fragment: isFragment ? load16(base, IKEHeader.byteCount + 4) : 0)
        if !place.isResponse, octets.count == Self.emptyBytes { empty.insert(place) }
        guard let before = first[place] else {
            first[place] = octets
            return known == nil ? .new : .again
        }
        if before == octets { return .again }
        if place.mayBeSynchronization { return .new }
        guard place.isResponse else { return .otherRequest }
        // A check is answered without a write: the next owner answers it anew
        // (docs/decisions/0017).
        return empty.contains(request(of: place)) ? .new : .otherAnswer
    }

    private func request(of response: Place) -> Place {
        let key = Key(
            initiatorSPI: response.key.initiatorSPI, responderSPI: response.key.responderSPI,
            byInitiator: !response.key.byInitiator)
        return Place(
            key: key, exchange: response.exchange, isResponse: false,
            messageID: response.messageID, fragment: 0)
    }
}
