// Collects the fragments of one message (RFC 7383 §2.6).

/// Why a fragment was discarded. None of it is told to the peer.
public enum ReassemblyFault: Error, Equatable, Sendable {
    /// Of a set with fewer fragments than the one being collected: the peer has split the message
    /// anew since.
    case outdated
    /// Already there.
    case duplicate
    /// More fragments, or more octets, than are collected.
    case tooLong
    /// SPIs, exchange, flags or message ID differ from those of the fragments before.
    case otherMessage
    /// It could not be opened; or the message that it completed has no right payloads.
    case protection(ProtectionFault)
}

/// The fragments of one message so far. Only authentic ones are kept, within fixed bounds.
public struct Reassembly: Sendable {
    /// What one message may take.
    public struct Limits: Hashable, Sendable {
        /// Fragments.
        public var fragments: Int
        /// Octets of decrypted content.
        public var octets: Int

        /// 16 fragments of 576 octets hold a chain of certificates.
        public init(fragments: Int = 16, octets: Int = IKEMessage.lengthMaximum) {
            self.fragments = fragments
            self.octets = octets
        }
    }

    private let limits: Limits
    private var header: IKEHeader?
    /// By number; empty before the first one.
    private var pieces: [[UInt8]?] = []
    private var octets = 0
    private var firstType: UInt8 = 0

    /// Nothing yet.
    public init(limits: Limits = Limits()) { self.limits = limits }

    /// True when nothing was kept.
    public var isEmpty: Bool { header == nil }

    /// Octets of content that are kept.
    public var byteCount: Int { octets }

    /// Takes a datagram that holds a fragment. The payloads of the whole message when it was the
    /// last one missing, and then the collector is empty again; else nil.
    ///
    /// What can be refused without the key is; an authentic fragment of a larger set begins anew.
    public mutating func take(
        _ datagram: UnsafeRawBufferPointer, _ parsed: ParsedMessage,
        _ protection: borrowing MessageProtection
    ) throws(ReassemblyFault) -> [Payload]? {
        guard let position = parsed.protected?.fragment else { throw .protection(.otherKind) }
        try check(position, parsed.header)
        let fragment: MessageFragment
        do throws(ProtectionFault) {
            fragment = try protection.openFragment(datagram, parsed)
        } catch {
            throw .protection(error)
        }
        if Int(position.total) > pieces.count {
            self = Reassembly(limits: limits)
            header = fragment.header
            pieces = Array(repeating: nil, count: Int(position.total))
        }
        guard octets + fragment.content.count <= limits.octets else {
            self = Reassembly(limits: limits)
            throw .tooLong
        }
        octets += fragment.content.count
        pieces[Int(position.number) - 1] = fragment.content
        if position.number == 1 { firstType = fragment.firstType }
        guard pieces.allSatisfy({ $0 != nil }) else { return nil }
        let content = pieces.flatMap { $0 ?? [] }
        let first = firstType
        self = Reassembly(limits: limits)
        do throws(ProtectionFault) {
            return try content.readChain(first: first)
        } catch {
            throw .protection(error)
        }
    }

    private func check(
        _ position: FragmentPosition, _ header: IKEHeader
    ) throws(ReassemblyFault) {
        guard Int(position.total) <= limits.fragments else { throw .tooLong }
        guard let known = self.header else { return }
        guard known.isOfOneMessage(with: header) else { throw .otherMessage }
        guard Int(position.total) >= pieces.count else { throw .outdated }
        guard Int(position.total) > pieces.count || pieces[Int(position.number) - 1] == nil else {
            throw .duplicate
        }
    }
}

extension IKEHeader {
    /// RFC 7383 §2.5: fragments have the message's header, but for length and next payload.
    fileprivate func isOfOneMessage(with other: IKEHeader) -> Bool {
        initiatorSPI == other.initiatorSPI && responderSPI == other.responderSPI
            && exchange == other.exchange && flags == other.flags && messageID == other.messageID
    }
}
