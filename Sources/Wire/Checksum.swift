// The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// Adds `count` octets to a ones' complement sum; an odd last octet counts as the high one.
public func checksumSum(_ base: UnsafeRawPointer, count: Int, from start: UInt64 = 0) -> UInt64 {
    var offset = 0
    var sum = start &+ blockSum(base, count: count, &offset)
    while offset + 4 <= count {
        sum &+= UInt64(load32(base, offset))
        offset += 4
    }
    if offset + 2 <= count {
        sum &+= UInt64(load16(base, offset))
        offset += 2
    }
    if offset < count { sum &+= UInt64(load8(base, offset)) << 8 }
    return sum
}

/// Adds as many blocks of 32 octets as there are. The sum of words in the machine's order of octets
/// is the sum in the other order, swapped (RFC 1071 §2(B)).
private func blockSum(_ base: UnsafeRawPointer, count: Int, _ offset: inout Int) -> UInt64 {
    var even = SIMD4<UInt64>()
    var odd = SIMD4<UInt64>()
    let half = SIMD4<UInt64>(repeating: 0xFFFF_FFFF)
    while offset + 32 <= count {
        let block = base.loadUnaligned(fromByteOffset: offset, as: SIMD4<UInt64>.self)
        even &+= block & half
        odd &+= block &>> 32
        offset += 32
    }
    return UInt64(UInt16(bigEndian: ~checksumFold(even.wrappedSum() &+ odd.wrappedSum())))
}

/// Folds a sum and complements it: the value of the checksum field.
@inlinable
public func checksumFold(_ sum: UInt64) -> UInt16 {
    var folded = (sum & 0xFFFF_FFFF) &+ (sum >> 32)
    folded = (folded & 0xFFFF) &+ (folded >> 16)
    folded = (folded & 0xFFFF) &+ (folded >> 16)
    folded = (folded & 0xFFFF) &+ (folded >> 16)
    return ~UInt16(truncatingIfNeeded: folded)
}

/// The checksum after one 16-bit word changed from `old` to `new` (RFC 1624 equation 3).
@inlinable
public func checksumUpdate(_ checksum: UInt16, from old: UInt16, to new: UInt16) -> UInt16 {
    checksumFold(UInt64(~checksum) &+ UInt64(~old) &+ UInt64(new))
}
