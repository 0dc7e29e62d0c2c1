// All sessions of a node: which peer's datagrams it can open and whom it can send to. Incarnations
// come from the coordination store; a datagram never teaches one.

internal import Crypto

/// The HA link of one node, without sockets: datagrams in, messages out, and the other way around.
public struct HALink: ~Copyable {
    /// The longest datagram: what Ethernet carries without fragments, with room for tunnels.
    public static let datagramMaximum = 1400
    /// Octets before the ciphertext.
    static let headerBytes = 40
    static let tagBytes = MessageSeal.tagBytes
    static let overheadBytes = headerBytes + tagBytes
    /// The longest message with its kind.
    static let messageMaximum = datagramMaximum - overheadBytes
    /// A message has a kind at least.
    static let datagramMinimum = overheadBytes + 1
    /// Ended sessions that are remembered. A session of the same ends goes on where the ended one
    /// was, so that its datagrams can't be replayed.
    static let endedMaximum = 1024

    /// This node and its present life.
    public let local: HALinkEnd
    /// Sent, received and refused datagrams of all peers.
    public private(set) var counters = HALinkCounters()

    private let secret: ClusterSecret
    /// Ascending by node.
    private var links: [Link] = []
    private var ended: [(peer: HALinkEnd, received: UInt64)] = []
    /// The highest counter sent in any ended session. New sessions count on from here: should one
    /// have the ends, and so the key, of a forgotten one, still no nonce repeats.
    private var sentFloor: UInt64 = 0

    /// Sessions in a box, as arrays hold copyable elements only.
    private final class Link {
        var session: HALinkSession

        init(_ session: consuming HALinkSession) { self.session = session }
    }

    /// A node that knows no peer yet. `incarnation` is drawn at random for each start of a process.
    public init(node: NodeID, incarnation: UInt64, secret: borrowing ClusterSecret) {
        local = HALinkEnd(node: node, incarnation: incarnation)
        self.secret = secret.copy()
    }

    /// Takes the present incarnation of a peer, as the store has it; a new one ends the session
    /// with the old. Precondition: the peer is another node.
    public mutating func learn(_ peer: NodeID, incarnation: UInt64) {
        let place = place(of: peer.value)
        if place < links.count, links[place].session.peer.node == peer {
            guard links[place].session.peer.incarnation != incarnation else { return }
            end(place)
        }
        let end = HALinkEnd(node: peer, incarnation: incarnation)
        let received = ended.first { $0.peer == end }?.received ?? 0
        links.insert(
            Link(
                HALinkSession(
                    local: local, peer: end, secret: secret, sent: sentFloor, received: received)),
            at: place)
    }

    /// Ends the session with a peer and wipes its keys.
    public mutating func forget(_ peer: NodeID) {
        if let place = known(peer.value) { end(place) }
    }

    /// True when the peer's incarnation is known.
    public func knows(_ peer: NodeID) -> Bool { known(peer.value) != nil }

    /// One datagram to a peer; nil when its incarnation is unknown. Precondition: the message keeps
    /// the bounds of its type.
    public mutating func seal(_ message: HALinkMessage, to peer: NodeID) -> [UInt8]? {
        guard let place = known(peer.value) else { return nil }
        counters.sent += 1
        return links[place].session.seal(message)
    }

    /// The message of a datagram, or nil when it was refused; either is counted.
    public mutating func open(
        _ datagram: UnsafeRawBufferPointer
    ) -> (from: NodeID, message: HALinkMessage)? {
        do {
            let opened = try read(datagram)
            counters.received += 1
            return opened
        } catch {
            counters[error] += 1
            return nil
        }
    }

    private func read(
        _ datagram: UnsafeRawBufferPointer
    ) throws(HALinkRefusal) -> (from: NodeID, message: HALinkMessage) {
        let header = try HALinkHeader(datagram)
        guard header.tag == secret.tag else { throw .foreignCluster }
        guard header.receiver == local.node.value else { throw .notForUs }
        guard let place = known(header.sender) else { throw .unknownSender }
        let link = links[place]
        return (link.session.peer.node, try link.session.open(datagram, header))
    }

    private mutating func end(_ place: Int) {
        let link = links.remove(at: place)
        let peer = link.session.peer
        sentFloor = max(sentFloor, link.session.sent)
        ended.removeAll { $0.peer == peer }
        if ended.count == Self.endedMaximum { ended.removeFirst() }
        ended.append((peer, link.session.received))
    }

    private func known(_ node: UInt16) -> Int? {
        let place = place(of: node)
        guard place < links.count, links[place].session.peer.node.value == node else { return nil }
        return place
    }

    /// Where the node stands, or would.
    private func place(of node: UInt16) -> Int {
        var low = 0
        var high = links.count
        while low < high {
            let middle = (low + high) / 2
            if links[middle].session.peer.node.value < node {
                low = middle + 1
            } else {
                high = middle
            }
        }
        return low
    }
}
