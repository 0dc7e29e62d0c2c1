// Keys that leave a record and come back. Fooled by: a flag that says they are gone.

import Crypto
import ESP
import TestSupport
import Testing
import Wire

@Suite struct AssociationKeysTests {
    private final class Holder {
        var slab = AssociationSlab(capacity: 4, catalogue: AssociationCatalogue())
        func insert(_ parameters: AssociationParameters) throws -> AssociationHandle {
            try slab.insert(
                association(parameters), distributionIdentifier: 3, ivGeneration: 1)
        }
        func holds(_ octets: some Sequence<UInt8>) -> Bool { slab.contains(octets: Array(octets)) }
        func restore(_ handle: AssociationHandle, _ parameters: AssociationParameters) throws
            -> Bool
        {
            slab.restoreKeys(of: handle, from: try association(parameters))
        }
        func isEmpty(_ handle: AssociationHandle) -> Bool { slab.keysAreZero(of: handle) }
        func hasKeys(_ handle: AssociationHandle) -> Bool { slab.hasKeys(handle) }
    }

    @Test(arguments: Transform.kinds) func keysGoAndComeBack(transform: Transform) throws {
        let holder = Holder()
        var ours = parameters(0x4001, .inbound, transform)
        ours.replayWindow = 64
        let handle = try holder.insert(ours)
        let octets = keyOctets(ours.spi, transform)
        let keys = octets.dropLast(transform.saltBytes)
        #expect(holder.holds(keys) && holder.hasKeys(handle) && !holder.isEmpty(handle))
        holder.slab.apply(
            SequenceCheckpoint(spi: ours.spi, sequence: 9, packets: 4, bytes: 40), to: handle)
        let before = holder.slab.status(of: handle)

        holder.slab.wipeKeys(of: handle)
        #expect(!holder.hasKeys(handle) && holder.isEmpty(handle))
        for start in stride(from: 0, to: keys.count - 4, by: 4) {
            #expect(!holder.holds(keys[start..<start + 4]))
        }
        #expect(holder.slab.status(of: handle) == before)

        #expect(try !holder.restore(handle, parameters(0x4002, .inbound, transform)))
        #expect(try !holder.restore(handle, parameters(0x4001, .outbound, transform)))
        let other = transform == .gcm ? Transform.kinds[1] : .gcm
        #expect(try !holder.restore(handle, parameters(0x4001, .inbound, other)))
        #expect(!holder.hasKeys(handle) && holder.isEmpty(handle))
        #expect(try holder.restore(handle, ours))
        #expect(holder.holds(keys) && holder.hasKeys(handle))
        #expect(holder.slab.status(of: handle) == before)
        let whole = holder.slab.association(of: handle).encode().withUnsafeBytes { Array($0) }
        var again = ours
        again.firstSequence = 10
        #expect(try whole == association(again).encode().withUnsafeBytes { Array($0) })
    }
}
