// For published packets only: some have reserved SPIs, or sequence numbers that need a fixed IV.

package import Wire

extension AssociationSlab {
    /// Gives an association the SPI of a published packet, even a reserved one, and lifts the limit
    /// of 48 bits that a generated IV sets to extended sequence numbers. Whoever sends with it must
    /// fix every IV. Precondition: the handle is current.
    package mutating func prepareKnownAnswer(_ handle: AssociationHandle, spi: SPI) {
        precondition(isCurrent(handle))
        let record = records + Int(handle.index)
        record.pointee.spi = spi.value
        if record.pointee.flags.contains(.usesESN) { record.pointee.sequenceLimit = .max }
    }
}
