// Where the outer packets of an association come from and go to, when a NAT gave the peer another
// address (RFC 7296 §2.23) after the association was made.

public import Wire

extension AssociationSlab {
    /// Gives an association other outer addresses and ports, in the direction of its packets.
    /// Preconditions: the handle is current, both addresses are of one family.
    public mutating func redirect(
        _ handle: AssociationHandle, source: IPAddress, destination: IPAddress, udp: UDPPorts?
    ) {
        precondition(isCurrent(handle) && source.family == destination.family)
        let record = records + Int(handle.index)
        var parameters = record.parameters(catalogue)
        parameters.source = source
        parameters.destination = destination
        parameters.udp = udp
        let path = AssociationRecord(parameters)
        let kinds: AssociationRecord.Flags = [.usesUDP, .outerIsV6]
        record.pointee.flags.subtract(kinds)
        record.pointee.flags.formUnion(path.flags.intersection(kinds))
        record.pointee.sourcePort = path.sourcePort
        record.pointee.destinationPort = path.destinationPort
        record.pointee.sourceHigh = path.sourceHigh
        record.pointee.sourceLow = path.sourceLow
        record.pointee.destinationHigh = path.destinationHigh
        record.pointee.destinationLow = path.destinationLow
    }
}
