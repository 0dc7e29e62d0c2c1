// The Encrypted payload: seals and opens messages under one key (RFC 7296 §3.14; AEADs RFC 5282,
// RFC 7634; fragments RFC 7383).

public import Crypto
internal import ESP
internal import Wire

/// The Initialization Vector of one message.
public enum MessageIV: Sendable {
    /// For AEADs: must never repeat under the key (RFC 5282 §3.1).
    case counter(UInt64)
    /// For AES_CBC: 16 octets that nobody can predict (RFC 7296 §3.14).
    case random([UInt8])

    fileprivate var octets: [UInt8] {
        switch self {
        case .counter(let value): (0..<8).map { UInt8(truncatingIfNeeded: value >> (56 - 8 * $0)) }
        case .random(let octets): octets
        }
    }
}

/// Why a protected message was not opened.
public enum ProtectionFault: Error, Equatable, Sendable {
    /// It has no Encrypted payload, or a fragment where a whole one is wanted, or the reverse.
    case otherKind
    /// Too short for IV, a pad length and ICV, or not of whole cipher blocks.
    case length
    /// The Integrity Checksum Data is wrong: not from the peer, or damaged. Nothing is known of it.
    case integrity
    /// Authentic, but with more padding than content.
    case padding
    /// Authentic, but its content is not a chain of payloads. The peer may be told.
    case payloads(MessageFault)
    /// OpenSSL has no memory.
    case library(CryptoError)
}

/// A part of a message, decrypted; only an authentic one becomes such a value.
public struct MessageFragment: Sendable {
    /// The header of its datagram.
    public let header: IKEHeader
    /// Which part.
    public let position: FragmentPosition
    /// The type of the message's first payload; counts in the first fragment only.
    public let firstType: UInt8
    /// The content without padding.
    public let content: [UInt8]
}

/// The keys of one direction: SK_ei with SK_ai, or SK_er with SK_ar.
///
/// It holds the octets of the keys and no key schedule, so that it may be kept in every IKE SA, or
/// made for one message. Each message is keyed anew, which costs less than writing it.
public struct MessageProtection: ~Copyable {
    /// The algorithms.
    public let suite: MessageSuite
    private let encryptionKey: SecretBytes
    private let integrityKey: SecretBytes
    private let library: CryptoLibrary

    /// Copies the keys; an AEAD's has its salt behind it, and its integrity key is empty.
    /// Precondition: the lengths are the suite's.
    public init(
        _ suite: MessageSuite, encryptionKey: borrowing SecretBytes,
        integrityKey: borrowing SecretBytes, library: CryptoLibrary
    ) {
        let lengths = suite.keyLengths
        precondition(encryptionKey.count == lengths.encryption)
        precondition(integrityKey.count == lengths.integrity)
        self.suite = suite
        self.encryptionKey = encryptionKey.slice(0..<encryptionKey.count)
        self.integrityKey = integrityKey.slice(0..<integrityKey.count)
        self.library = library
    }

    // MARK: Sealing

    /// The message with all its payloads inside of an Encrypted payload. Throws when OpenSSL has no
    /// memory.
    ///
    /// Precondition: the IV is of the kind that the cipher takes; limits as in
    /// ``IKEMessage/encoded()``.
    public borrowing func seal(
        _ message: IKEMessage, iv: MessageIV
    ) throws(CryptoError) -> [UInt8] {
        let content = Payload.chain(message.payloads)
        return try seal(
            message, content[...], first: message.payloads.first?.type ?? 0, fragment: nil, iv: iv)
    }

    /// The same for a part of the content.
    borrowing func seal(
        _ message: IKEMessage, _ content: ArraySlice<UInt8>, first: UInt8,
        fragment: FragmentPosition?, iv: MessageIV
    ) throws(CryptoError) -> [UInt8] {
        let iv = iv.octets
        precondition(iv.count == suite.ivBytes, "AEADs take a counter, AES_CBC 16 octets")
        let type: PayloadType = fragment == nil ? .encrypted : .encryptedFragment
        let paddingBytes = suite.paddingBytes(content.count)
        var start = 0
        var writer = MessageWriter(capacity: content.count + 128)
        message.writeHeader(&writer, nextPayload: type.rawValue)
        writer.putMeasured([first, 0]) { writer in
            if let fragment {
                writer.put16(fragment.number)
                writer.put16(fragment.total)
            }
            start = writer.octets.count
            writer.put(iv)
            writer.put(content)
            writer.putZeros(paddingBytes)
            writer.put8(UInt8(paddingBytes))
            writer.putZeros(suite.icvBytes)
        }
        IKEMessage.finish(&writer)
        var octets = writer.octets
        let layout = Layout(suite, start: start, end: octets.count)
        guard try run(&octets, layout, encrypts: true) else {
            throw .operationFailed(suite.encryption.rawValue)
        }
        return octets
    }

    // MARK: Opening

    /// The payloads inside of a datagram that ``IKEMessage/read(_:)`` parsed. Those beside the
    /// Encrypted payload are left out: RFC 7296 gives them no meaning.
    public borrowing func open(
        _ datagram: UnsafeRawBufferPointer, _ parsed: ParsedMessage
    ) throws(ProtectionFault) -> [Payload] {
        guard let protected = parsed.protected, protected.fragment == nil else {
            throw .otherKind
        }
        let content = try content(datagram, protected)
        return try content.readChain(first: protected.firstType)
    }

    /// The part of a message inside of such a datagram (RFC 7383).
    public borrowing func openFragment(
        _ datagram: UnsafeRawBufferPointer, _ parsed: ParsedMessage
    ) throws(ProtectionFault) -> MessageFragment {
        guard let protected = parsed.protected, let position = protected.fragment else {
            throw .otherKind
        }
        let content = try content(datagram, protected)
        return MessageFragment(
            header: parsed.header, position: position, firstType: protected.firstType,
            content: content)
    }

    private borrowing func content(
        _ datagram: UnsafeRawBufferPointer, _ protected: ProtectedContent
    ) throws(ProtectionFault) -> [UInt8] {
        precondition(protected.body.upperBound == datagram.count, "parsed from another datagram")
        let layout = Layout(suite, start: protected.body.lowerBound, end: datagram.count)
        guard layout.textBytes > 0, layout.textBytes.isMultiple(of: suite.alignment) else {
            throw .length
        }
        var octets = Array(datagram)
        let isAuthentic: Bool
        do throws(CryptoError) {
            isAuthentic = try run(&octets, layout, encrypts: false)
        } catch {
            throw .library(error)
        }
        guard isAuthentic else { throw .integrity }
        // RFC 7296 §3.14: the padding may hold anything.
        let padding = Int(octets[layout.icv - 1])
        guard padding < layout.textBytes else { throw .padding }
        return Array(octets[layout.text..<layout.icv - 1 - padding])
    }

    // MARK: The cipher

    /// Where the parts of a protected message stand.
    private struct Layout {
        /// Before it: what is authenticated only.
        let iv: Int
        let text: Int
        let icv: Int

        /// Octets of content, padding and pad length; negative when there is no room for any.
        var textBytes: Int { icv - text }

        init(_ suite: MessageSuite, start: Int, end: Int) {
            iv = start
            text = start + suite.ivBytes
            icv = end - suite.icvBytes
        }
    }

    /// Works in place; false when the ICV is wrong, and then no plaintext was made, or is left.
    private borrowing func run(
        _ octets: inout [UInt8], _ layout: Layout, encrypts: Bool
    ) throws(CryptoError) -> Bool {
        var context = KeyedContext()
        let recipe = suite.transform.recipe(encrypts: encrypts)
        try encryptionKey.withUnsafeBytes { key throws(CryptoError) in
            try integrityKey.withUnsafeBytes { hashKey throws(CryptoError) in
                // SecretBytes has an address even when it is empty.
                try context.key(
                    recipe, library: library, key: key.baseAddress.unsafelyUnwrapped,
                    hashKey: hashKey.baseAddress.unsafelyUnwrapped)
            }
        }
        return suite.integrity == nil
            ? runCombined(&context, &octets, layout, encrypts: encrypts)
            : runSeparate(context, &octets, layout, encrypts: encrypts)
    }

    /// RFC 5282 §4, §5: the nonce is salt | IV; all that stands before the IV is associated data.
    private borrowing func runCombined(
        _ context: inout KeyedContext, _ octets: inout [UInt8], _ layout: Layout, encrypts: Bool
    ) -> Bool {
        let saltBytes = suite.transform.saltBytes
        let keyBytes = suite.transform.keyBytes
        var nonce = SecretBytes(count: saltBytes + suite.ivBytes)
        nonce.copy(encryptionKey.slice(keyBytes..<keyBytes + saltBytes), at: 0)
        nonce.withUnsafeMutableBytes { nonce in
            for index in 0..<suite.ivBytes { nonce[saltBytes + index] = octets[layout.iv + index] }
        }
        return octets.withUnsafeMutableBytes { bytes in
            nonce.withUnsafeBytes { nonce in
                guard let base = bytes.baseAddress, let iv = nonce.baseAddress else { return false }
                let message = MessageLayout(
                    aad: base, aadBytes: layout.iv, iv: iv, ivBytes: nonce.count,
                    data: base + layout.text, dataBytes: layout.textBytes, tag: base + layout.icv)
                if encrypts { return context.seal(message) }
                let isAuthentic = context.open(message)
                if !isAuthentic { wipe(message.data, count: message.dataBytes) }
                return isAuthentic
            }
        }
    }

    /// RFC 7296 §3.14: the checksum is over the encrypted message, from its first octet on.
    private borrowing func runSeparate(
        _ context: borrowing KeyedContext, _ octets: inout [UInt8], _ layout: Layout,
        encrypts: Bool
    ) -> Bool {
        var mac = [UInt8](repeating: 0, count: maximumHashBytes)
        return octets.withUnsafeMutableBytes { bytes in
            mac.withUnsafeMutableBytes { mac in
                guard let base = bytes.baseAddress, let mac = mac.baseAddress else { return false }
                func cipher() -> Bool {
                    context.run(
                        encrypts: encrypts, iv: base + layout.iv, data: base + layout.text,
                        count: layout.textBytes)
                }
                if encrypts, !cipher() { return false }
                guard
                    context.authenticate(
                        base, count: layout.icv, tail: base, tailBytes: 0, output: mac)
                else { return false }
                if encrypts {
                    (base + layout.icv).copyMemory(from: mac, byteCount: suite.icvBytes)
                    return true
                }
                return constantTimeEquals(mac, base + layout.icv, count: suite.icvBytes) && cipher()
            }
        }
    }
}

extension [UInt8] {
    /// The payloads of a decrypted content.
    func readChain(first: UInt8) throws(ProtectionFault) -> [Payload] {
        let chain = withUnsafeBytes { content in
            Result { () throws(MessageFault) in try Payload.readChain(content, first: first) }
        }
        return try chain.mapError(ProtectionFault.payloads).get()
    }
}
