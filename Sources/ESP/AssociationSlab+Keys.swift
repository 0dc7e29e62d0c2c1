// Keys of an association that are in its slab or not: an entry of the common table may lose them
// once a card has them, and get them again from the store.

import Crypto
import Wire

extension AssociationSlab {
    /// False after `wipeKeys`. Precondition: the handle is current.
    public borrowing func hasKeys(_ handle: AssociationHandle) -> Bool {
        precondition(isCurrent(handle))
        return !records[Int(handle.index)].marks.contains(.keysWiped)
    }

    /// Wipes cipher key, integrity key and salt of an association; all else stays. Such a record
    /// can't be copied and not be given to another node. Precondition: the handle is current.
    public mutating func wipeKeys(of handle: AssociationHandle) {
        precondition(isCurrent(handle))
        let record = records + Int(handle.index)
        wipe(record.keyBytes, count: AssociationRecord.keysMaximum)
        record.pointee.salt = 0
        record.pointee.marks.insert(.keysWiped)
    }

    /// Gives an association the keys again that it was agreed upon with; its numbers, window and
    /// counters stay. False when `association` is another one: nothing is changed then.
    /// Precondition: the handle is current.
    @discardableResult
    public mutating func restoreKeys(
        of handle: AssociationHandle, from association: borrowing SecurityAssociation
    ) -> Bool {
        precondition(isCurrent(handle))
        let record = records + Int(handle.index)
        let parameters = association.parameters
        guard parameters.spi.value == record.pointee.spi,
            TransformShapes.number(of: parameters.transform) == record.pointee.transform,
            (parameters.direction == .outbound) == record.pointee.flags.contains(.isOutbound)
        else { return false }
        record.setKeys(association)
        record.pointee.marks.remove(.keysWiped)
        return true
    }

    /// True when these octets stand anywhere in the slab's records, free ones included: for tests
    /// that look for keys.
    package borrowing func contains(octets: [UInt8]) -> Bool {
        precondition(!octets.isEmpty)
        let memory = UnsafeRawBufferPointer(
            start: records, count: usedSlots * MemoryLayout<AssociationRecord>.size)
        guard memory.count >= octets.count else { return false }
        return (0...memory.count - octets.count).contains { start in
            memory[start] == octets[0]
                && octets.indices.allSatisfy { memory[start + $0] == octets[$0] }
        }
    }

    /// True when no octet of an association's keys and salt is set. Precondition: the handle is
    /// current.
    package borrowing func keysAreZero(of handle: AssociationHandle) -> Bool {
        precondition(isCurrent(handle))
        let record = records + Int(handle.index)
        let keys = UnsafeRawBufferPointer(
            start: record.keyBytes, count: AssociationRecord.keysMaximum)
        return record.pointee.salt == 0 && keys.allSatisfy { $0 == 0 }
    }
}

extension RecordPointer {
    /// Cipher key, integrity key and salt of an association of the record's transform.
    func setKeys(_ association: borrowing SecurityAssociation) {
        let keyCount = association.secret.count - association.parameters.transform.saltBytes
        association.secret.withUnsafeBytes { secret in
            keyBytes.copyMemory(
                from: secret.baseAddress.unsafelyUnwrapped, byteCount: keyCount)
            withUnsafeMutableBytes(of: &pointee.salt) { salt in
                salt.copyMemory(from: UnsafeRawBufferPointer(rebasing: secret[keyCount...]))
            }
        }
    }
}
