// Big-endian loads and stores. The network's byte order exists in this module only.
//
// Each function trusts its caller for the bounds: views and parsers check a length once, up front,
// and then read fixed offsets inside it.

/// Reads 8 bits.
@inlinable @inline(__always)
public func load8(_ base: UnsafeRawPointer, _ offset: Int) -> UInt8 {
    base.load(fromByteOffset: offset, as: UInt8.self)
}

/// Reads 16 bits, most significant octet first.
@inlinable @inline(__always)
public func load16(_ base: UnsafeRawPointer, _ offset: Int) -> UInt16 {
    UInt16(bigEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
}

/// Reads 32 bits, most significant octet first.
@inlinable @inline(__always)
public func load32(_ base: UnsafeRawPointer, _ offset: Int) -> UInt32 {
    UInt32(bigEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
}

/// Reads 64 bits, most significant octet first.
@inlinable @inline(__always)
public func load64(_ base: UnsafeRawPointer, _ offset: Int) -> UInt64 {
    UInt64(bigEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
}

/// Writes 8 bits.
@inlinable @inline(__always)
public func store8(_ value: UInt8, _ base: UnsafeMutableRawPointer, _ offset: Int) {
    base.storeBytes(of: value, toByteOffset: offset, as: UInt8.self)
}

/// Writes 16 bits, most significant octet first.
@inlinable @inline(__always)
public func store16(_ value: UInt16, _ base: UnsafeMutableRawPointer, _ offset: Int) {
    base.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt16.self)
}

/// Writes 32 bits, most significant octet first.
@inlinable @inline(__always)
public func store32(_ value: UInt32, _ base: UnsafeMutableRawPointer, _ offset: Int) {
    base.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt32.self)
}

/// Writes 64 bits, most significant octet first.
@inlinable @inline(__always)
public func store64(_ value: UInt64, _ base: UnsafeMutableRawPointer, _ offset: Int) {
    base.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt64.self)
}
