// What only the tests of this module need: records seen from inside, and both ends of a tunnel.

import Crypto
import TestSupport
import Testing
import Wire

@testable import ESP

extension Station {
    /// The record of an association, as the packet path sees it.
    func record(_ handle: AssociationHandle) -> RecordPointer {
        slab.records + Int(handle.index)
    }

    /// Its 256 octets.
    func recordOctets(_ handle: AssociationHandle) -> [UInt8] {
        Array(UnsafeRawBufferPointer(start: record(handle), count: 256))
    }

    // The test macros take no calls on values that can't be copied, such as the slab.

    func drops(_ handle: AssociationHandle) -> DropCounters { slab.drops(of: handle) }

    func status(_ handle: AssociationHandle) -> AssociationStatus { slab.status(of: handle) }

    func handle(at index: UInt32) -> AssociationHandle? { slab.handle(at: index) }

    func isCurrent(_ handle: AssociationHandle) -> Bool { slab.isCurrent(handle) }

    func checkpoint(_ handle: AssociationHandle) -> SequenceCheckpoint {
        slab.checkpoint(of: handle)
    }
}

/// A sender and a receiver of one association, on slabs of their own.
struct Tunnel {
    let sender: Station
    let receiver: Station
    let out: AssociationHandle
    let into: AssociationHandle
    let outbound: AssociationParameters

    /// `change` speaks of both ends.
    init(
        _ transform: Transform = .gcm, mode: Mode = .tunnel, family: IPAddress.Family = .v4,
        generation: UInt16 = 1, _ change: (inout AssociationParameters) -> Void = { _ in }
    ) throws {
        var parameters = parameters(0x1001, .outbound, mode: mode, transform, family: family)
        change(&parameters)
        outbound = parameters
        sender = try Station()
        receiver = try Station()
        out = try sender.add(parameters, generation: generation)
        into = try receiver.add(parameters.reversedDirection, generation: generation)
    }

    /// The sealed packet, which must not be refused.
    func seal(_ inner: [UInt8], isDummy: Bool = false) throws -> [UInt8] {
        let sealed = sender.seal(inner, out, isDummy: isDummy)
        #expect(sealed.drop == nil)
        return try #require(sealed.bytes)
    }

    func open(_ outer: [UInt8]) -> Processed { receiver.open(outer, into) }

    var transform: Transform { outbound.transform }

    /// Where ESP begins in a packet that `seal` made.
    var espOffset: Int {
        (outbound.source.family == .v4 ? 20 : 40) + (outbound.udp == nil ? 0 : 8)
    }
}
