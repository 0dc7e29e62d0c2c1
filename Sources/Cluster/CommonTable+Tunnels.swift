// Tunnels with both directions: the two associations come, go and move together.

public import ESP
import Wire

extension CommonTable {
    /// Adds a tunnel with both its associations and returns the handle of the inbound one.
    ///
    /// `order` is the place of its outbound selectors among those of all tunnels, the lowest first;
    /// without it, they come after all others. On an error nothing is changed. Preconditions: the
    /// directions are as named, the identifier is in the range.
    public mutating func insert(
        inbound: borrowing SecurityAssociation, outbound: borrowing SecurityAssociation,
        identifier: DistributionIdentifier, order: UInt64? = nil
    ) throws(CommonTableError) -> AssociationHandle {
        precondition(outbound.parameters.direction == .outbound)
        try admit(inbound, identifier)
        let entry = try store(inbound, identifier)
        let other: AssociationHandle
        do {
            other = try store(outbound, identifier)
        } catch {
            associations.remove(entry)
            throw error
        }
        enter(entry, inbound.parameters.spi, identifier)
        let slots = Int(max(entry.index, other.index)) + 1
        while partners.count < slots { partners.append(Self.none) }
        partners[Int(entry.index)] = other.index
        partners[Int(other.index)] = entry.index
        let place = order ?? nextOrder
        nextOrder = max(nextOrder, place == .max ? .max : place + 1)
        selectors.insert(
            handle: other, selectors: outbound.parameters.selectors, order: place)
        return entry
    }

    /// The place of a tunnel's outbound selectors; nil when it only receives.
    public borrowing func order(of entry: AssociationHandle) -> UInt64? {
        outbound(of: entry).flatMap { selectors.order(of: $0) }
    }

    /// Lets a tunnel send for its selectors before all others of the same order: a successor, from
    /// when its peer can decrypt what it sends (RFC 7296 §2.8). Does nothing for a tunnel that only
    /// receives.
    public mutating func prefer(_ entry: AssociationHandle) {
        guard let outbound = outbound(of: entry), let order = selectors.order(of: outbound)
        else { return }
        place(entry, order: order, isPreferred: true)
    }

    /// Gives a tunnel's outbound selectors another place among those of all tunnels, behind those
    /// of the same order, or before them if it is preferred. Does nothing for a tunnel that only
    /// receives.
    public mutating func place(
        _ entry: AssociationHandle, order: UInt64, isPreferred: Bool
    ) {
        guard let outbound = outbound(of: entry), selectors.remove(outbound) else { return }
        let covered = associations.parameters(of: outbound).selectors
        selectors.insert(
            handle: outbound, selectors: covered, order: order, isPreferred: isPreferred)
    }

    /// The outbound association of a tunnel, given by its inbound one; nil when there is none, also
    /// for a stale handle.
    public borrowing func outbound(of inbound: AssociationHandle) -> AssociationHandle? {
        partner(of: inbound, .outbound)
    }

    /// The inbound association of a tunnel, given by its outbound one; nil for any other handle.
    public borrowing func inbound(of outbound: AssociationHandle) -> AssociationHandle? {
        partner(of: outbound, .inbound)
    }

    /// The outbound association of the first tunnel whose selectors cover an inner packet; nil also
    /// for octets that are not an IP packet. Nothing is allocated.
    public borrowing func findOutbound(
        covering packet: UnsafeRawBufferPointer
    ) -> AssociationHandle? {
        selectors.first(covering: packet, in: associations)
    }

    private borrowing func partner(
        of handle: AssociationHandle, _ direction: Direction
    ) -> AssociationHandle? {
        guard associations.isCurrent(handle), Int(handle.index) < partners.count,
            partners[Int(handle.index)] != Self.none,
            let partner = associations.handle(at: partners[Int(handle.index)]),
            associations.direction(of: partner) == direction
        else { return nil }
        return partner
    }
}
