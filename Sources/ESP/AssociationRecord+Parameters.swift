// From what was agreed upon to a record, and back.

import Wire

extension AssociationRecord {
    init(_ parameters: AssociationParameters) {
        spi = parameters.spi.value
        flags = [.isInUse]
        if parameters.direction == .outbound { flags.insert(.isOutbound) }
        if parameters.mode == .transport { flags.insert(.isTransport) }
        if parameters.usesESN { flags.insert(.usesESN) }
        if let udp = parameters.udp {
            flags.insert(.usesUDP)
            sourcePort = udp.source
            destinationPort = udp.destination
        }
        if parameters.source.family == .v6 { flags.insert(.outerIsV6) }
        if !parameters.lifetimes.isUnlimited { flags.insert(.hasLifetimes) }
        transform = TransformShapes.number(of: parameters.transform)
        // A copy of an association that has used its last number begins at 2^64, which is 0.
        sequence = parameters.firstSequence &- 1
        sequenceLimit = Self.lastSequence(flags, transform: parameters.transform)
        sourceHigh = parameters.source.high
        sourceLow = parameters.source.low
        destinationHigh = parameters.destination.high
        destinationLow = parameters.destination.low
        if parameters.source.family == .v4 {
            let source = UInt32(truncatingIfNeeded: sourceLow)
            let destination = UInt32(truncatingIfNeeded: destinationLow)
            sourceHigh = (UInt64(source) << 32 | UInt64(destination)).bigEndian
            destinationHigh = UInt64(source) + UInt64(destination)
        }
        createdNanoseconds = parameters.createdNanoseconds
    }

    /// RFC 4303 §3.3.3. The IV that this gateway makes for counter modes carries 48 bits of the
    /// number, and must not repeat; a peer may make its IVs otherwise.
    static func lastSequence(_ flags: Flags, transform: Transform) -> UInt64 {
        if !flags.contains(.usesESN) { return UInt64(UInt32.max) }
        return flags.contains(.isOutbound) && transform.usesCounterIV ? 1 << 48 - 1 : .max
    }
}

extension RecordPointer {
    /// The last number the association can ever use or accept.
    var lastSequence: UInt64 {
        AssociationRecord.lastSequence(
            pointee.flags, transform: Transform.all[Int(pointee.transform)])
    }

    /// What `AssociationRecord.init` took apart.
    func parameters(_ catalogue: AssociationCatalogue) -> AssociationParameters {
        let flags = pointee.flags
        let isV6 = flags.contains(.outerIsV6)
        func address(_ high: UInt64, _ low: UInt64) -> IPAddress {
            isV6
                ? IPAddress(high: high, low: low)
                : IPAddress(v4: UInt32(truncatingIfNeeded: low))
        }
        var parameters = AssociationParameters(
            spi: SPI(pointee.spi), direction: flags.contains(.isOutbound) ? .outbound : .inbound,
            mode: flags.contains(.isTransport) ? .transport : .tunnel,
            transform: Transform.all[Int(pointee.transform)],
            source: address(pointee.sourceHigh, pointee.sourceLow),
            destination: address(pointee.destinationHigh, pointee.destinationLow))
        parameters.usesESN = flags.contains(.usesESN)
        parameters.replayWindow = Int(pointee.windowBits)
        if flags.contains(.usesUDP) {
            parameters.udp = UDPPorts(
                source: pointee.sourcePort, destination: pointee.destinationPort)
        }
        let profile = catalogue.profile(pointee.profile)
        parameters.lifetimes = profile.lifetimes
        parameters.headers = profile.headers
        parameters.firstSequence = pointee.sequence &+ 1
        parameters.createdNanoseconds = pointee.createdNanoseconds
        parameters.selectors = selectors(catalogue)
        return parameters
    }

    private func selectors(_ catalogue: AssociationCatalogue) -> AssociationSelectors {
        func prefix(_ address: UInt32, _ length: UInt8) -> [TrafficSelector] {
            let range = IPAddress(v4: address).prefixRange(length: Int(length))
            let selector = TrafficSelector(
                first: range.first, last: range.last, ipProtocol: pointee.selectorProtocol)
            return selector.map { [$0] } ?? []
        }
        switch pointee.selectorKind {
        case .any: return .any
        case .ipv4Prefixes:
            return AssociationSelectors(
                source: prefix(pointee.selectorSource, pointee.selectorSourceLength),
                destination: prefix(
                    pointee.selectorDestination, pointee.selectorDestinationLength))
        case .list: return catalogue.selectors(list: pointee.selectorSource)
        }
    }

    /// One pair of IPv4 prefixes fits into the record; anything longer is shared in the catalogue.
    func setSelectors(_ selectors: AssociationSelectors, _ catalogue: AssociationCatalogue) {
        if selectors == .any {
            pointee.selectorKind = .any
        } else if selectors.source.count == 1, selectors.destination.count == 1,
            selectors.source[0].ipProtocol == selectors.destination[0].ipProtocol,
            let sourceLength = selectors.source[0].ipv4PrefixLength,
            let destinationLength = selectors.destination[0].ipv4PrefixLength
        {
            pointee.selectorKind = .ipv4Prefixes
            pointee.selectorSource = UInt32(truncatingIfNeeded: selectors.source[0].first.low)
            pointee.selectorDestination = UInt32(
                truncatingIfNeeded: selectors.destination[0].first.low)
            pointee.selectorSourceLength = sourceLength
            pointee.selectorDestinationLength = destinationLength
            pointee.selectorProtocol = selectors.source[0].ipProtocol
        } else {
            pointee.selectorKind = .list
            pointee.selectorSource = catalogue.intern(selectors)
        }
    }

    /// An empty window, except that the number before the first is taken as received.
    func setRing(_ parameters: AssociationParameters) {
        guard parameters.direction == .inbound, parameters.replayWindow > 0 else {
            pointee.ringMask = 1
            return
        }
        pointee.windowBits = UInt16(parameters.replayWindow)
        let words = ReplayRing.wordCount(bits: parameters.replayWindow)
        pointee.ringMask = UInt8(words - 1)
        if parameters.replayWindow > AssociationRecord.inlineWindowBits {
            let ring = UnsafeMutablePointer<UInt64>.allocate(capacity: words)
            ring.initialize(repeating: 0, count: words)
            pointee.ring[0] = UInt64(UInt(bitPattern: ring))
            pointee.flags.insert(.hasLargeRing)
        }
        var highest = pointee.sequence
        if highest != 0 { replayRing.mark(highest, highest: &highest) }
    }

    /// After a bitwise copy: a ring of its own with the same bits.
    func duplicateRing() {
        let words = Int(pointee.ringMask) + 1
        let ring = UnsafeMutablePointer<UInt64>.allocate(capacity: words)
        ring.initialize(from: ringWords, count: words)
        pointee.ring[0] = UInt64(UInt(bitPattern: ring))
    }
}
