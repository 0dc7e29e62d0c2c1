// A common table without keys of the node's own tunnels (patent: the common data structure with or
// without the node's own entries): what finds a tunnel stays, its keys are on the card only.

public import ESP

extension CommonTable {
    /// False when the keys of one of a tunnel's associations were wiped. Precondition: the handle
    /// is current.
    public borrowing func hasKeys(_ entry: AssociationHandle) -> Bool {
        associations.hasKeys(entry)
            && outbound(of: entry).map { associations.hasKeys($0) } ?? true
    }

    /// True when no octet of a tunnel's keys is in the table. Precondition: the handle is current.
    package borrowing func keysAreZero(of entry: AssociationHandle) -> Bool {
        associations.keysAreZero(of: entry)
            && outbound(of: entry).map { associations.keysAreZero(of: $0) } ?? true
    }

    /// Wipes the keys of both associations of a tunnel. Precondition: the handle is current.
    public mutating func wipeKeys(of entry: AssociationHandle) {
        associations.wipeKeys(of: entry)
        if let outbound = outbound(of: entry) { associations.wipeKeys(of: outbound) }
    }

    /// Gives a tunnel its keys again; numbers and windows stay. False when this is not the tunnel
    /// that it was: it has no keys then. Precondition: the handle is current.
    public mutating func restoreKeys(
        of entry: AssociationHandle, inbound: borrowing SecurityAssociation,
        outbound: borrowing SecurityAssociation?
    ) -> Bool {
        let other = self.outbound(of: entry)
        var isSame = associations.restoreKeys(of: entry, from: inbound)
        switch outbound {
        case .none: isSame = isSame && other == nil
        case .some(let outbound):
            isSame =
                isSame && other.map { associations.restoreKeys(of: $0, from: outbound) } == true
        }
        if !isSame { wipeKeys(of: entry) }
        return isSame
    }
}
