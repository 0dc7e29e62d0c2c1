// The packet path: batches of packets against the records of one slab. Nothing here allocates,
// locks or counts references per packet. Decapsulation and encapsulation are in their own files;
// this one holds what both share.

public import Crypto
import Wire

/// Encrypts and decrypts ESP packets for the associations of one slab.
///
/// An engine belongs to one slab and one thread. The key schedules are bounded: see `KeyPool`.
public struct ESPEngine: ~Copyable {
    var pool: KeyPool
    let shapes: UnsafeMutablePointer<TransformShape>
    /// Nonce (0…15), AAD (16…31), MAC (32…95), zero block (96…111).
    let scratch: UnsafeMutableRawPointer
    /// Refusals of all associations together.
    public internal(set) var drops = DropCounters()

    /// How far ahead of its use a record's cache lines are asked for.
    static let prefetchDistance = 4

    /// `keyedContexts`: how many associations may own a key schedule, about 1 KiB each.
    public init(library: CryptoLibrary, keyedContexts: Int = Self.defaultKeyedContexts) {
        shapes = TransformShapes.makeTable()
        pool = KeyPool(capacity: keyedContexts, library: library, shapes: shapes)
        scratch = .allocate(byteCount: 128, alignment: 16)
        scratch.initializeMemory(as: UInt8.self, repeating: 0, count: 128)
    }

    deinit {
        shapes.deallocate()
        wipe(scratch, count: 128)
        scratch.deallocate()
    }

    /// About what a core's second-level cache holds.
    public static let defaultKeyedContexts = 512

    /// How often a key schedule was run.
    public var keyings: UInt64 { pool.keyings }

    /// Makes the next `count` keyings fail, as a card with a broken key memory does.
    public mutating func failKeyings(_ count: Int) { pool.failures = count }

    /// Wipes the key schedule of an association that is about to leave the slab.
    public mutating func forget(_ handle: AssociationHandle, in slab: borrowing AssociationSlab) {
        precondition(slab.isCurrent(handle))
        pool.forget(slab.records + Int(handle.index), slot: handle.index)
    }

    /// Wipes all key schedules.
    public mutating func forgetAll() { pool.forgetAll() }

    /// Asks for a packet's record. The slot is not checked yet: a hint can't do harm.
    @inline(__always)
    static func prefetch(
        _ slab: borrowing AssociationSlab, _ packet: UnsafeMutablePointer<PacketDescriptor>
    ) {
        prefetchLines(slab.records + Int(packet.pointee.slot))
    }

    /// Counts a refusal for the association and in total.
    @inline(never)
    mutating func refuse(
        _ reason: DropReason, _ slot: UInt32, _ slab: borrowing AssociationSlab
    ) {
        drops[reason] += 1
        let place = Int(slot) * DropReason.count + Int(reason.rawValue)
        if slab.drops[place] != .max { slab.drops[place] += 1 }
        slab.records[Int(slot)].marks.insert(.hasDrops)
    }

    /// Hard lifetimes (RFC 4301 §4.4.2.1); called only for associations that have some.
    @inline(never)
    static func expiry(
        _ record: RecordPointer, _ catalogue: AssociationCatalogue.Pointers, _ now: UInt64
    ) -> DropReason? {
        let policy = catalogue.policies + Int(record.pointee.profile)
        if record.pointee.packets >= policy.pointee.lifetimes.hardPackets {
            return .lifetimePackets
        }
        if record.pointee.bytes >= policy.pointee.lifetimes.hardBytes { return .lifetimeBytes }
        let age = now &- min(record.pointee.createdNanoseconds, now)
        return age >= policy.pointee.lifetimes.hardNanoseconds ? .lifetimeTime : nil
    }

    /// Soft lifetimes; tells once.
    @inline(never)
    static func softExpiry(
        _ record: RecordPointer, _ catalogue: AssociationCatalogue.Pointers, _ now: UInt64
    ) -> PacketEvents {
        guard !record.pointee.marks.contains(.softReported) else { return [] }
        let policy = catalogue.policies + Int(record.pointee.profile)
        let age = now &- min(record.pointee.createdNanoseconds, now)
        guard
            record.pointee.packets >= policy.pointee.lifetimes.softPackets
                || record.pointee.bytes >= policy.pointee.lifetimes.softBytes
                || age >= policy.pointee.lifetimes.softNanoseconds
        else { return [] }
        record.pointee.marks.insert(.softReported)
        return .softLifetime
    }

    /// Counts an authenticated or sent packet.
    @inline(__always)
    static func account(
        _ record: RecordPointer, bytes: Int, _ catalogue: AssociationCatalogue.Pointers,
        _ now: UInt64
    ) -> PacketEvents {
        record.pointee.packets &+= 1
        record.pointee.bytes &+= UInt64(bytes)
        return record.pointee.flags.contains(.hasLifetimes)
            ? softExpiry(record, catalogue, now) : []
    }

    // MARK: Nonces and AAD

    static let nonceOffset = 0
    static let aadOffset = 16
    static let macOffset = 32
    static let zeroOffset = 96

    // The functions below are static with the scratch area as an argument: a method would copy the
    // whole engine to reach one pointer of it.

    /// salt | IV, as GCM, GMAC, ChaCha20-Poly1305 (4 + 8) and CCM (3 + 8) take it.
    @inline(__always)
    static func makeNonce(
        _ scratch: UnsafeMutableRawPointer, _ record: RecordPointer, iv: UnsafeRawPointer,
        saltBytes: Int
    ) {
        scratch.storeBytes(of: record.pointee.salt, as: UInt32.self)
        (scratch + saltBytes).storeBytes(of: iv.loadUnaligned(as: UInt64.self), as: UInt64.self)
    }

    /// nonce | IV | 1: the first counter block of RFC 3686 §4.
    static func makeCounterBlock(
        _ scratch: UnsafeMutableRawPointer, _ record: RecordPointer, iv: UnsafeRawPointer
    ) {
        makeNonce(scratch, record, iv: iv, saltBytes: 4)
        store32(1, scratch, 12)
    }

    /// SPI | high half | low half (RFC 4106 §5): 12 octets with extended numbers, else the 8 of the
    /// packet itself.
    @inline(__always)
    static func aad(
        _ scratch: UnsafeMutableRawPointer, _ record: RecordPointer, esp: UnsafeRawPointer,
        sequence: UInt64
    ) -> (pointer: UnsafeRawPointer, count: Int) {
        guard record.pointee.flags.contains(.usesESN) else { return (esp, 8) }
        let aad = scratch + Self.aadOffset
        aad.storeBytes(of: esp.loadUnaligned(as: UInt32.self), as: UInt32.self)
        store64(sequence, aad, 4)
        return (UnsafeRawPointer(aad), 12)
    }

    /// RFC 4543 §3: everything up to the ICV is AAD. With extended numbers the high half belongs
    /// between SPI and low half; it is put there by moving the SPI four octets forward into the
    /// header that stands before, which is mended afterwards.
    static func withGMACInput(
        _ record: RecordPointer, esp: UnsafeMutableRawPointer, count: Int, sequence: UInt64,
        _ body: (_ aad: UnsafeRawPointer, _ count: Int) -> Bool
    ) -> Bool {
        guard record.pointee.flags.contains(.usesESN) else { return body(esp, count) }
        let before = (esp - 4).loadUnaligned(as: UInt32.self)
        let spi = esp.loadUnaligned(as: UInt32.self)
        (esp - 4).storeBytes(of: spi, as: UInt32.self)
        store32(UInt32(truncatingIfNeeded: sequence >> 32), esp, 0)
        let result = body(esp - 4, count + 4)
        esp.storeBytes(of: spi, as: UInt32.self)
        (esp - 4).storeBytes(of: before, as: UInt32.self)
        return result
    }

    /// The MAC of everything from the SPI on, with the high half of an extended number behind it
    /// (RFC 4303 §2.2.1), in the scratch area.
    static func authenticate(
        _ scratch: UnsafeMutableRawPointer, _ context: UnsafeMutablePointer<KeyedContext>,
        _ record: RecordPointer, esp: UnsafeRawPointer, count: Int, sequence: UInt64
    ) -> Bool {
        let tail = scratch + Self.aadOffset
        store32(UInt32(truncatingIfNeeded: sequence >> 32), tail, 0)
        return context.pointee.authenticate(
            esp, count: count, tail: tail,
            tailBytes: record.pointee.flags.contains(.usesESN) ? 4 : 0,
            output: scratch + Self.macOffset)
    }
}
