// Which tunnel carries an inner packet (RFC 4301 §5.1: the first policy that covers it), found by
// the packet's destination, so that 100 000 tunnels cost no more than a few look-ups.

public import ESP
import Wire

/// Outbound associations by their destination selectors, in the order of their policies.
///
/// Each destination selector stands under the smallest prefix that holds its range, and each prefix
/// has a list of associations, first policy first:
///
///     hash of (family, length, prefix) ──▶ place ──▶ node ⇄ node ⇄ node
///
/// A look-up asks for the packet's destination under every prefix length that is in use, and takes
/// the first policy of all lists whose selectors really cover the packet. So it depends on how many
/// lengths there are, and on how many policies share one prefix, not on how many tunnels.
///
/// Selectors are agreed with authenticated peers inside the operator's policy; the hash has no key.
/// A node takes 64 octets, a place 8; nothing is given back before the index goes.
public struct SelectorIndex: ~Copyable {
    private struct Place {
        var hash: UInt32 = 0
        /// The first node of the list + 1; 0: empty.
        var node: UInt32 = 0
    }

    private struct Node {
        var prefix: Prefix
        var rank: Rank
        var handle: AssociationHandle
        /// The list of one prefix. `tail` is kept in its first node.
        var next = SelectorIndex.none
        var previous = SelectorIndex.none
        var tail: UInt32
        /// The next node of the same association, or of the free nodes.
        var sibling = SelectorIndex.none
    }

    /// The order of policies: the caller's, then that of insertion.
    private struct Rank {
        let order: UInt64
        let serial: Int64

        static func < (left: Rank, right: Rank) -> Bool {
            left.order != right.order ? left.order < right.order : left.serial < right.serial
        }
    }

    private static let none = UInt32.max

    private var places: UnsafeMutablePointer<Place>
    private var placeBits: UInt32 = 6
    private var nodes: UnsafeMutablePointer<Node>
    private var nodeCapacity = 32
    /// Nodes 0..<fresh have been used at least once.
    private var fresh = 0
    private var freeHead = Self.none
    /// Different prefixes.
    private var prefixCount = 0
    private var lengths = PrefixLengths()
    /// By slot: an association's first node.
    private var firstNodes: [UInt32] = []
    private var nextSerial: Int64 = 0
    private var preferences: Int64 = 0
    /// Associations in the index.
    public private(set) var count = 0

    /// An empty index.
    public init() {
        places = .allocate(capacity: 1 << 6)
        places.initialize(repeating: Place(), count: 1 << 6)
        nodes = .allocate(capacity: nodeCapacity)
    }

    // Places and nodes are trivial values.
    deinit {
        places.deallocate()
        nodes.deallocate()
    }

    // MARK: Changes

    /// Adds an outbound association. Lower orders come first; of equal ones, the one that was
    /// added first, unless a later one is preferred to all of them. Precondition: its slot has none
    /// in the index.
    public mutating func insert(
        handle: AssociationHandle, selectors: AssociationSelectors, order: UInt64,
        isPreferred: Bool = false
    ) {
        let slot = Int(handle.index)
        while firstNodes.count <= slot { firstNodes.append(Self.none) }
        precondition(firstNodes[slot] == Self.none, "the slot is in the index already")
        count += 1
        if isPreferred { preferences += 1 } else { nextSerial += 1 }
        let rank = Rank(order: order, serial: isPreferred ? -preferences : nextSerial)
        if selectors.destination.isEmpty {
            add(Prefix.all(.v4), handle, rank)
            add(Prefix.all(.v6), handle, rank)
        }
        for selector in selectors.destination { add(Prefix(holding: selector), handle, rank) }
    }

    /// Forgets an association; false when it is not in the index.
    @discardableResult
    public mutating func remove(_ handle: AssociationHandle) -> Bool {
        let slot = Int(handle.index)
        guard slot < firstNodes.count, firstNodes[slot] != Self.none,
            nodes[Int(firstNodes[slot])].handle == handle
        else { return false }
        var node = firstNodes[slot]
        firstNodes[slot] = Self.none
        count -= 1
        while node != Self.none {
            let sibling = nodes[Int(node)].sibling
            unlink(node)
            nodes[Int(node)].sibling = freeHead
            freeHead = node
            node = sibling
        }
        return true
    }

    /// The order that an association was added with; nil when it is not in the index.
    public borrowing func order(of handle: AssociationHandle) -> UInt64? {
        let slot = Int(handle.index)
        guard slot < firstNodes.count, firstNodes[slot] != Self.none,
            nodes[Int(firstNodes[slot])].handle == handle
        else { return nil }
        return nodes[Int(firstNodes[slot])].rank.order
    }

    // MARK: Look-up

    /// The first association whose selectors cover an inner packet; nil also for octets that are
    /// not an IP packet. `slab` holds the associations. Nothing is allocated.
    public borrowing func first(
        covering packet: UnsafeRawBufferPointer, in slab: borrowing AssociationSlab
    ) -> AssociationHandle? {
        guard let base = packet.baseAddress,
            let parsed = try? IPPacket(at: base, count: packet.count)
        else { return nil }
        var best: AssociationHandle?
        var bestRank = Rank(order: .max, serial: .max)
        let isV4 = parsed.family == .v4
        let high = isV4 ? 0 : load64(base, 24)
        let low = isV4 ? UInt64(load32(base, 16)) : load64(base, 32)
        // The longest prefixes first: their policies are mostly the first too.
        var word = isV4 ? 0 : 3
        while word >= (isV4 ? 0 : 1) {
            var left = lengths.words[word]
            while left != 0 {
                let bit = 63 &- left.leadingZeroBitCount
                left ^= 1 &<< UInt64(bit)
                let length = (isV4 ? 0 : (word &- 1) &* 64) &+ bit
                var node = find(
                    Prefix(parsed.family, high: high, low: low, length: UInt8(length)))
                while node != Self.none {
                    let candidate = nodes + Int(node)
                    // Lists are in order, so a later node can't be better either.
                    guard candidate.pointee.rank < bestRank else { break }
                    if slab.admits(candidate.pointee.handle, packet, family: parsed.family) {
                        best = candidate.pointee.handle
                        bestRank = candidate.pointee.rank
                        break
                    }
                    node = candidate.pointee.next
                }
            }
            word &-= 1
        }
        return best
    }

    /// The first node of a prefix.
    @inline(__always)
    private borrowing func find(_ prefix: Prefix) -> UInt32 {
        let hash = prefix.hash
        let mask = (1 &<< placeBits) &- 1 as UInt32
        var place = hash &>> (32 &- placeBits)
        while places[Int(place)].node != 0 {
            let node = places[Int(place)].node &- 1
            if places[Int(place)].hash == hash, nodes[Int(node)].prefix == prefix { return node }
            place = (place &+ 1) & mask
        }
        return Self.none
    }

    // MARK: Lists

    private mutating func add(_ prefix: Prefix, _ handle: AssociationHandle, _ rank: Rank) {
        let head = find(prefix)
        var before = Self.none
        if head != Self.none {
            // Usually the newest policy is the last.
            before = nodes[Int(head)].tail
            while before != Self.none, rank < nodes[Int(before)].rank {
                before = nodes[Int(before)].previous
            }
            // Two selectors of the association under one prefix.
            if before != Self.none, nodes[Int(before)].handle == handle { return }
        }
        let new = claim(prefix, handle, rank)
        if head == Self.none {
            nodes[Int(new)].tail = new
            insertPlace(prefix, node: new)
            return
        }
        let after = before == Self.none ? head : nodes[Int(before)].next
        nodes[Int(new)].previous = before
        nodes[Int(new)].next = after
        if after != Self.none { nodes[Int(after)].previous = new }
        if before == Self.none {
            nodes[Int(new)].tail = nodes[Int(head)].tail
            places[place(of: head)].node = new &+ 1
        } else {
            nodes[Int(before)].next = new
            if after == Self.none { nodes[Int(head)].tail = new }
        }
    }

    private mutating func unlink(_ node: UInt32) {
        let (next, previous) = (nodes[Int(node)].next, nodes[Int(node)].previous)
        if next != Self.none { nodes[Int(next)].previous = previous }
        if previous != Self.none {
            nodes[Int(previous)].next = next
            if next == Self.none {
                // The prefix's place leads to the first node.
                nodes[Int(find(nodes[Int(node)].prefix))].tail = previous
            }
        } else if next != Self.none {
            nodes[Int(next)].tail = nodes[Int(node)].tail
            places[place(of: node)].node = next &+ 1
        } else {
            removePlace(node)
        }
    }

    private mutating func claim(
        _ prefix: Prefix, _ handle: AssociationHandle, _ rank: Rank
    ) -> UInt32 {
        let node: UInt32
        if freeHead != Self.none {
            node = freeHead
            freeHead = nodes[Int(node)].sibling
        } else {
            if fresh == nodeCapacity {
                let grown = UnsafeMutablePointer<Node>.allocate(capacity: nodeCapacity * 2)
                grown.moveInitialize(from: nodes, count: fresh)
                nodes.deallocate()
                nodes = grown
                nodeCapacity *= 2
            }
            node = UInt32(fresh)
            fresh += 1
        }
        let slot = Int(handle.index)
        (nodes + Int(node)).initialize(
            to: Node(
                prefix: prefix, rank: rank, handle: handle, tail: Self.none,
                sibling: firstNodes[slot]))
        firstNodes[slot] = node
        return node
    }

    // MARK: Places

    /// Open addressing with linear probing, at most half full, removal by shifting back.
    private mutating func insertPlace(_ prefix: Prefix, node: UInt32) {
        prefixCount += 1
        if prefixCount * 2 > 1 << placeBits { growPlaces() }
        lengths.add(prefix)
        put(Place(hash: prefix.hash, node: node &+ 1))
    }

    private func put(_ new: Place) {
        let mask = (1 &<< placeBits) &- 1 as UInt32
        var place = new.hash &>> (32 &- placeBits)
        while places[Int(place)].node != 0 { place = (place &+ 1) & mask }
        places[Int(place)] = new
    }

    private mutating func growPlaces() {
        let old = places
        let oldCount = 1 << placeBits
        placeBits += 1
        places = .allocate(capacity: 1 << placeBits)
        places.initialize(repeating: Place(), count: 1 << placeBits)
        for place in 0..<oldCount where old[place].node != 0 { put(old[place]) }
        old.deallocate()
    }

    /// Where the list that begins with `head` is found.
    private borrowing func place(of head: UInt32) -> Int {
        let mask = (1 &<< placeBits) &- 1 as UInt32
        var place = nodes[Int(head)].prefix.hash &>> (32 &- placeBits)
        while places[Int(place)].node != head &+ 1 { place = (place &+ 1) & mask }
        return Int(place)
    }

    private mutating func removePlace(_ head: UInt32) {
        let mask = (1 &<< placeBits) &- 1 as UInt32
        var hole = UInt32(place(of: head))
        // Every later entry of the run that may stand at the hole moves there.
        var next = (hole &+ 1) & mask
        while places[Int(next)].node != 0 {
            let wish = places[Int(next)].hash &>> (32 &- placeBits)
            if (next &- wish) & mask >= (next &- hole) & mask {
                places[Int(hole)] = places[Int(next)]
                hole = next
            }
            next = (next &+ 1) & mask
        }
        places[Int(hole)] = Place()
        prefixCount -= 1
        lengths.remove(nodes[Int(head)].prefix)
    }
}
