// Sealed datagrams between two processes of two nodes. Both incarnations are in the key: a process
// that starts again counts from 1 again, but under another key, so no nonce and no datagram ever
// comes twice.

internal import Crypto
internal import ESP
internal import Wire

/// One end of the HA link: a node, and which life of it.
public struct HALinkEnd: Hashable, Sendable {
    /// The node.
    public var node: NodeID
    /// Drawn at random when its process starts.
    public var incarnation: UInt64

    /// An end; see the properties.
    public init(node: NodeID, incarnation: UInt64) {
        self.node = node
        self.incarnation = incarnation
    }
}

/// The 40 octets before the ciphertext, after magic and version were found right.
struct HALinkHeader {
    static let magic: UInt32 = 0x5350_4841  // "SPHA"
    static let version: UInt8 = 1

    let tag: UInt64
    /// 0 is no node: nobody is known by it.
    let sender: UInt16
    let receiver: UInt16
    let senderIncarnation: UInt64
    let receiverIncarnation: UInt64
    let counter: UInt64

    init(_ datagram: UnsafeRawBufferPointer) throws(HALinkRefusal) {
        guard let base = datagram.baseAddress, datagram.count >= HALink.datagramMinimum else {
            throw .truncated
        }
        guard load32(base, 0) == Self.magic else { throw .magic }
        // The octet after the version has no meaning yet; what sets it is not this version.
        guard load8(base, 4) == Self.version, load8(base, 5) == 0 else { throw .version }
        guard datagram.count <= HALink.datagramMaximum else { throw .malformed }
        tag = UInt64(load16(base, 6)) << 32 | UInt64(load32(base, 8))
        sender = load16(base, 12)
        receiver = load16(base, 14)
        senderIncarnation = load64(base, 16)
        receiverIncarnation = load64(base, 24)
        counter = load64(base, 32)
    }
}

/// The link of one node to one process of another: keys and counters of both directions.
public struct HALinkSession: ~Copyable {
    /// How far behind the highest counter a datagram may come and still be told from a replay.
    public static let windowBits = 1024

    /// This end.
    public let local: HALinkEnd
    /// The other end.
    public let peer: HALinkEnd
    private let tag: UInt64
    private let sealing: MessageSeal
    private let opening: MessageSeal
    /// The counter of the last datagram sealed.
    private(set) var sent: UInt64
    /// Counters up to this one may have been received in an earlier session of the same key.
    private let receivedFloor: UInt64
    private var window: ReplayWindow
    /// The nonce, then the message being opened.
    private let memory: UnsafeMutableRawPointer
    private static let nonceRoom = 16

    /// A session between two different nodes. It goes on after `sent` and `received`, the highest
    /// counters of an earlier session between the same ends, or 0.
    public init(
        local: HALinkEnd, peer: HALinkEnd, secret: borrowing ClusterSecret, sent: UInt64 = 0,
        received: UInt64 = 0
    ) {
        precondition(local.node != peer.node, "a node has no link to itself")
        self.local = local
        self.peer = peer
        tag = secret.tag
        sealing = Self.seal(secret.linkKey(from: local, to: peer), for: .sealing)
        opening = Self.seal(secret.linkKey(from: peer, to: local), for: .opening)
        self.sent = sent
        receivedFloor = received
        window = ReplayWindow(bits: Self.windowBits, usesESN: true, highest: received)
        memory = .allocate(byteCount: Self.nonceRoom + HALink.messageMaximum, alignment: 16)
        memory.initializeMemory(
            as: UInt8.self, repeating: 0, count: Self.nonceRoom + HALink.messageMaximum)
    }

    deinit { memory.deallocate() }

    private static func seal(
        _ key: borrowing SecretBytes, for use: MessageSeal.Use
    ) -> MessageSeal {
        do {
            return try MessageSeal(key: key, for: use)
        } catch {
            preconditionFailure("out of memory: \(error)")
        }
    }

    /// The highest counter received; 0: none.
    var received: UInt64 { window.highest }

    /// One datagram to the peer. Precondition: the message keeps the bounds of its type.
    public mutating func seal(_ message: HALinkMessage) -> [UInt8] {
        let messageBytes = message.encodedBytes
        precondition(messageBytes <= HALink.messageMaximum, "the message was not split")
        sent += 1
        let layout = nonce(sent)
        return OctetWriter.array(count: HALink.overheadBytes + messageBytes) { writer in
            let base = writer.position
            writeHeader(into: &writer)
            message.encode(into: &writer)
            writer.skip(HALink.tagBytes)
            sealing.seal(
                MessageLayout(
                    aad: base, aadBytes: HALink.headerBytes, iv: layout,
                    ivBytes: MessageSeal.nonceBytes, data: base + HALink.headerBytes,
                    dataBytes: messageBytes, tag: base + HALink.headerBytes + messageBytes))
        }
    }

    /// The message of a datagram that claims to come from the peer.
    public mutating func open(
        _ datagram: UnsafeRawBufferPointer
    ) throws(HALinkRefusal) -> HALinkMessage {
        let header = try HALinkHeader(datagram)
        guard header.tag == tag else { throw .foreignCluster }
        guard header.receiver == local.node.value else { throw .notForUs }
        guard header.sender == peer.node.value else { throw .unknownSender }
        return try open(datagram, header)
    }

    /// The message of a datagram whose header names this cluster, this node and the peer.
    mutating func open(
        _ datagram: UnsafeRawBufferPointer, _ header: HALinkHeader
    ) throws(HALinkRefusal) -> HALinkMessage {
        guard header.senderIncarnation == peer.incarnation,
            header.receiverIncarnation == local.incarnation
        else { throw .staleIncarnation }
        guard isNew(header.counter) else { throw .replayed }
        let messageBytes = datagram.count - HALink.overheadBytes
        guard let base = datagram.baseAddress else { throw .truncated }
        let message = memory + Self.nonceRoom
        message.copyMemory(from: base + HALink.headerBytes, byteCount: messageBytes)
        let layout = MessageLayout(
            aad: base, aadBytes: HALink.headerBytes, iv: nonce(header.counter),
            ivBytes: MessageSeal.nonceBytes, data: message, dataBytes: messageBytes,
            // Opening only reads the tag.
            tag: UnsafeMutableRawPointer(mutating: base + HALink.headerBytes + messageBytes))
        guard opening.open(layout) else { throw .forged }
        window.mark(header.counter)
        do {
            return try HALinkMessage(
                decoding: UnsafeRawBufferPointer(start: message, count: messageBytes))
        } catch {
            throw .malformed
        }
    }

    /// The counter travels whole: above the window it is new however far it leads, and what the
    /// window infers from its low half must be the counter itself.
    private func isNew(_ counter: UInt64) -> Bool {
        if counter <= receivedFloor { return false }
        if counter > window.highest { return true }
        return window.check(UInt32(truncatingIfNeeded: counter)) == .accept(counter)
    }

    private func nonce(_ counter: UInt64) -> UnsafeRawPointer {
        store64(counter, memory, 4)
        return UnsafeRawPointer(memory)
    }

    private func writeHeader(into writer: inout OctetWriter) {
        writer.uint32(HALinkHeader.magic)
        writer.uint8(HALinkHeader.version)
        writer.uint8(0)
        writer.uint16(UInt16(tag >> 32))
        writer.uint32(UInt32(truncatingIfNeeded: tag))
        writer.uint16(local.node.value)
        writer.uint16(peer.node.value)
        writer.uint64(local.incarnation)
        writer.uint64(peer.incarnation)
        writer.uint64(sent)
    }
}
