// The parts of an owner filter, in the order in which they stand in the program.

internal import Wire

/// One program in the making. X is the offset of the header behind IP's, counted from IP's begin;
/// M[0] is free for a moment's use, M[1] holds a sum, M[2] keeps X while a sum is made.
struct OwnerFilterCode {
    private static let sum: UInt32 = 1
    private static let kept: UInt32 = 2

    var assembler = FilterAssembler()
    private let distribution: Distribution
    private let front: ClusterFront
    private let view: FilterView
    /// Where IP begins, or UDP in the packets of a socket.
    private let start: Int
    private let accept: FilterLabel
    private let reject: FilterLabel
    private let decide: FilterLabel
    private let spiHash: FilterLabel
    private let cookieHash: FilterLabel

    init(distribution: Distribution, front: ClusterFront, view: FilterView) {
        self.distribution = distribution
        self.front = front
        self.view = view
        switch view {
        case .frames, .storedFrames: start = EthernetHeader.byteCount
        case .packets, .datagrams: start = 0
        }
        accept = assembler.label()
        reject = assembler.label()
        decide = assembler.label()
        spiHash = assembler.label()
        cookieHash = assembler.label()
    }

    mutating func emit(_ owned: OwnedSet) {
        switch view {
        case .datagrams(let hasMarker):
            assembler.append(.indexConstant, 0)
            emitDatagram(hasMarker: hasMarker)
        case .packets:
            assembler.append(.loadOctet, 0)
            assembler.append(.shiftRight, 4)
            emitFamilies(v4: 4, v6: 6)
        case .frames, .storedFrames:
            if case .frames = view {
                assembler.append(.loadOctet, OwnerFilter.packetTypePlace)
                assembler.compare(.equal, OwnerFilter.outgoing, then: reject)
                assembler.compare(.equal, OwnerFilter.toOtherHost, then: reject)
            }
            assembler.append(.loadHalf, 12)
            assembler.compare(.equal, UInt32(EthernetHeader.arp), then: accept)
            emitFamilies(v4: UInt32(EthernetHeader.ipv4), v6: UInt32(EthernetHeader.ipv6))
        }
        assembler.place(spiHash)
        assembler.append(.multiply, Distribution.spiMultiplier)
        assembler.append(.shiftRight, distribution.hashShift)
        assembler.place(decide)
        owned.emit(&assembler, accept: accept, reject: reject)
        assembler.place(reject)
        assembler.append(.finish, 0)
        assembler.place(accept)
        assembler.append(.finish, OwnerFilter.acceptedOctets)
    }

    /// A is what tells the families apart.
    private mutating func emitFamilies(v4: UInt32, v6: UInt32) {
        let six = assembler.label()
        let transport = assembler.label()
        let fragmentV4 = assembler.label()
        assembler.compare(.equal, v6, then: six)
        assembler.compare(.equal, v4, otherwise: reject)
        emitV4(transport: transport, fragment: fragmentV4)
        assembler.place(six)
        emitV6(transport: transport)
        assembler.place(fragmentV4)
        if !front.capturesDatagrams {
            load(.loadOctet, HeaderField.v4Protocol)
            assembler.compare(.equal, UInt32(IPProtocol.udp), then: reject)
        }
        emitRelayCheck()
        emitIdentification(HeaderField.v4Identification)
        assembler.place(transport)
        emitTransport()
    }

    // MARK: IPv4

    private mutating func emitV4(transport: FilterLabel, fragment: FilterLabel) {
        load(.loadOctet, 0)
        assembler.append(.and, 0xF0)
        assembler.compare(.equal, 0x40, otherwise: reject)
        assembler.append(.indexHeaderLength, UInt32(start))
        assembler.append(.fromIndex)
        assembler.compare(.atLeast, UInt32(IPPacket.ipv4HeaderBytes), otherwise: reject)
        let isOurs = assembler.label()
        load(.loadWord, HeaderField.v4Destination)
        for address in front.addresses where address.family == .v4 {
            assembler.compare(
                .equal, UInt32(truncatingIfNeeded: address.low), then: isOurs)
        }
        assembler.jump(reject)
        assembler.place(isOurs)
        load(.loadHalf, HeaderField.v4Fragment)
        assembler.compare(.anyBit, 0x3FFF, then: fragment)
        load(.loadOctet, HeaderField.v4Protocol)
        assembler.compare(.equal, UInt32(IPProtocol.icmp), otherwise: transport)
        load(.loadOctetAtX, 0)
        for type in MessageType.errors {
            assembler.compare(.equal, UInt32(type), then: accept)
        }
        assembler.compare(.equal, UInt32(MessageType.echo), otherwise: reject)
        emitCookieHash([
            (0, [(.loadHalf, HeaderField.v4Source)]),
            (1, [(.loadHalf, HeaderField.v4Source + 2)]),
        ])
    }

    /// The hash of an IPv4 fragment.
    private mutating func emitIdentification(_ place: Int) {
        emitCookieHash([
            (0, [(.loadHalf, HeaderField.v4Source)]),
            (1, [(.loadHalf, HeaderField.v4Source + 2)]),
            (3, [(.loadHalf, place)]),
        ])
    }

    /// A fragment that another node relayed is accepted whatever its hash.
    private mutating func emitRelayCheck() {
        let own: MACAddress?
        switch view {
        case .frames(let address): own = address
        case .storedFrames(let address): own = address
        case .packets, .datagrams: own = nil
        }
        guard let own else { return }
        let isOther = assembler.label()
        assembler.append(.loadHalf, 0)
        assembler.compare(.equal, UInt32(own.value >> 32), otherwise: isOther)
        assembler.append(.loadWord, 2)
        assembler.compare(.equal, UInt32(truncatingIfNeeded: own.value), then: accept)
        assembler.place(isOther)
    }

    // MARK: IPv6

    private mutating func emitV6(transport: FilterLabel) {
        let message = assembler.label()
        let fragment = assembler.label()
        let isNoMessage = assembler.label()
        load(.loadOctet, 0)
        assembler.append(.and, 0xF0)
        assembler.compare(.equal, 0x60, otherwise: reject)
        assembler.append(.indexConstant, UInt32(IPPacket.ipv6HeaderBytes))
        load(.loadOctet, HeaderField.v6Next)
        assembler.compare(.equal, UInt32(IPProtocol.icmpV6), otherwise: isNoMessage)
        load(.loadOctet, IPPacket.ipv6HeaderBytes)
        assembler.compare(.equal, UInt32(NeighborMessage.solicitationType), then: accept)
        assembler.compare(.equal, UInt32(NeighborMessage.advertisementType), then: accept)
        assembler.place(isNoMessage)
        emitDestinationV6()
        load(.loadOctet, HeaderField.v6Next)
        for _ in 0..<HeaderField.extensionsMaximum {
            emitExtension(transport: transport, message: message, fragment: fragment)
        }
        assembler.compare(.equal, UInt32(IPProtocol.fragment), then: fragment)
        assembler.compare(.equal, UInt32(IPProtocol.icmpV6), otherwise: transport)
        assembler.place(message)
        load(.loadOctetAtX, 0)
        for type in MessageType.errorsV6 {
            assembler.compare(.equal, UInt32(type), then: accept)
        }
        assembler.compare(.equal, UInt32(MessageType.echoV6), otherwise: reject)
        emitFold()
        emitCookieHash(foldedPieces)
        assembler.place(fragment)
        // The whole header must be there.
        load(.loadWordAtX, 4)
        if !front.capturesDatagrams {
            load(.loadOctetAtX, 0)
            assembler.compare(.equal, UInt32(IPProtocol.udp), then: reject)
        }
        emitRelayCheck()
        emitFold()
        emitCookieHash(
            foldedPieces + [(2, [(.loadHalfAtX, 4)]), (3, [(.loadHalfAtX, 6)])])
    }

    private mutating func emitDestinationV6() {
        let isOurs = assembler.label()
        for address in front.addresses where address.family == .v6 {
            let isOther = assembler.label()
            // The last word tells the most addresses apart.
            for (index, half) in [address.low, address.high].enumerated() {
                let place = HeaderField.v6Destination + (index == 0 ? 8 : 0)
                load(.loadWord, place + 4)
                assembler.compare(
                    .equal, UInt32(truncatingIfNeeded: half), otherwise: isOther)
                load(.loadWord, place)
                assembler.compare(.equal, UInt32(half >> 32), otherwise: isOther)
            }
            assembler.jump(isOurs)
            assembler.place(isOther)
        }
        assembler.jump(reject)
        assembler.place(isOurs)
    }

    /// A is the number of the header at X: an extension header is stepped over.
    private mutating func emitExtension(
        transport: FilterLabel, message: FilterLabel, fragment: FilterLabel
    ) {
        let step = assembler.label()
        assembler.compare(.equal, UInt32(IPProtocol.fragment), then: fragment)
        assembler.compare(.equal, UInt32(IPProtocol.icmpV6), then: message)
        assembler.compare(.equal, UInt32(IPProtocol.hopByHop), then: step)
        assembler.compare(.equal, UInt32(IPProtocol.routing), then: step)
        assembler.compare(
            .equal, UInt32(IPProtocol.destinationOptions), otherwise: transport)
        assembler.place(step)
        load(.loadOctetAtX, 0)
        assembler.append(.store, 0)
        load(.loadOctetAtX, 1)
        assembler.append(.shiftLeft, 3)
        assembler.append(.add, 8)
        assembler.append(.addIndex)
        assembler.append(.toIndex)
        assembler.append(.loadMemory, 0)
    }

    /// M[0] = the source, folded to 32 bits by exclusive or. X stays.
    private mutating func emitFold() {
        assembler.append(.storeIndex, Self.kept)
        load(.loadWord, HeaderField.v6Source)
        for word in 1..<4 {
            assembler.append(.toIndex)
            load(.loadWord, HeaderField.v6Source + 4 * word)
            assembler.append(.exclusiveOrIndex)
        }
        assembler.append(.store, 0)
        assembler.append(.indexMemory, Self.kept)
    }

    private typealias Piece = (multiplier: Int, loads: [(FilterOperation, Int)])

    /// The upper and the lower half of M[0].
    private var foldedPieces: [Piece] {
        [(0, [(.loadMemory, 0), (.shiftRight, 16)]), (1, [(.loadMemory, 0), (.and, 0xFFFF)])]
    }

    // MARK: What is behind IP

    /// A is the protocol of what begins at X.
    private mutating func emitTransport() {
        let isUDP = assembler.label()
        let isIKE = assembler.label()
        if front.capturesDatagrams {
            assembler.compare(.equal, UInt32(IPProtocol.udp), then: isUDP)
        }
        assembler.compare(.equal, UInt32(IPProtocol.esp), otherwise: reject)
        load(.loadWordAtX, 0)
        assembler.jump(spiHash)
        guard front.capturesDatagrams else { return }
        assembler.place(isUDP)
        load(.loadHalfAtX, HeaderField.udpDestination)
        assembler.compare(.equal, UInt32(front.ikePort), then: isIKE)
        assembler.compare(.equal, UInt32(front.encapsulationPort), otherwise: reject)
        emitDatagram(hasMarker: true, message: isIKE)
    }

    /// A UDP datagram at X. Goes on at `message` with a cookie behind the UDP header at X, and at
    /// the hash of SPIs with one in A.
    private mutating func emitDatagram(hasMarker: Bool, message: FilterLabel? = nil) {
        let message = message ?? assembler.label()
        if hasMarker {
            emitLengthCheck()
            load(.loadWordAtX, HeaderField.udpBytes)
            assembler.compare(.equal, 0, otherwise: spiHash)
            // From here on as if the marker belonged to the header; its length was checked.
            assembler.append(.fromIndex)
            assembler.append(.add, UInt32(HeaderField.markerBytes))
            assembler.append(.toIndex)
            assembler.jump(cookieHash)
        }
        assembler.place(message)
        emitLengthCheck()
        assembler.place(cookieHash)
        emitCookieHash(
            (0..<4).map { ($0, [(.loadHalfAtX, HeaderField.udpBytes + 2 * $0)]) })
    }

    private mutating func emitLengthCheck() {
        load(.loadHalfAtX, HeaderField.udpLength)
        assembler.compare(
            .atLeast, UInt32(HeaderField.udpLengthMinimum), otherwise: reject)
    }

    /// The identifier of some 16-bit pieces, by the keyed hash of cookies, and on to the decision.
    /// A piece that is 0 is left out.
    private mutating func emitCookieHash(_ pieces: [Piece]) {
        let key = distribution.cookieKey
        assembler.append(.storeIndex, Self.kept)
        for (index, piece) in pieces.enumerated() {
            if index > 0 { assembler.append(.indexMemory, Self.kept) }
            for (operation, operand) in piece.loads {
                switch operation {
                case .loadMemory, .shiftRight, .and:
                    assembler.append(operation, UInt32(operand))
                default: load(operation, operand)
                }
            }
            assembler.append(.multiply, key.multipliers[piece.multiplier])
            if index == 0 {
                assembler.append(.add, key.offset)
            } else {
                assembler.append(.indexMemory, Self.sum)
                assembler.append(.addIndex)
            }
            if index < pieces.count - 1 { assembler.append(.store, Self.sum) }
        }
        assembler.append(.shiftRight, distribution.hashShift)
        assembler.jump(decide)
    }

    /// Loads from so many octets behind IP's begin (or X).
    private mutating func load(_ operation: FilterOperation, _ place: Int) {
        assembler.append(operation, UInt32(start + place))
    }
}
