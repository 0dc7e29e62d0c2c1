// Whose packet is it? The same question that the kernel's filters answer (`OwnerFilter`), for what
// comes to user space by other ways, for a dispatcher, and for every packet whose filter was
// compiled for an allocation that is gone. Both must agree on every packet.
//
//     ESP, over IP or in UDP      the owner of the SPI's identifier
//     IKE                         the owner of the initiator cookie's identifier
//     a fragment                  the owner of the identifier of (source, identification): it
//                                 puts the packet together, and relays it if another one owns it
//     an echo request             the owner of the source's identifier, who answers
//     an ICMP error               everyone. It quotes what was sent, so the SPI in it is the
//                                 peer's choice and says nothing about our identifiers; the node
//                                 that has the tunnel finds it by destination and SPI
//     neighbor discovery          everyone: each node keeps what it learns of its neighbors
//     NAT keepalives, all else    nobody

public import Wire

/// Which nodes a packet to the cluster is for.
public enum PacketShare: Equatable, Sendable {
    /// The owner of an identifier.
    case owner(DistributionIdentifier)
    /// Every node.
    case everyone
    /// No node.
    case nobody
}

/// What of IP and of the protocols in it the distribution looks at.
enum HeaderField {
    /// Octets from IP's begin on: IPv4's flags and fragment offset, protocol, source, destination.
    static let v4Identification = 4
    static let v4Fragment = 6
    static let v4Protocol = 9
    static let v4Source = 12
    static let v4Destination = 16
    /// The same of IPv6.
    static let v6Next = 6
    static let v6Source = 8
    static let v6Destination = 24
    /// Of UDP.
    static let udpDestination = 2
    static let udpLength = 4
    static let udpBytes = 8
    /// A datagram with less than an ESP header is a keepalive, or of no use.
    static let udpLengthMinimum = 16
    /// RFC 3948 §2.2.
    static let markerBytes = 4
    /// IPv6 extension headers before ESP, UDP or a fragment header: hop-by-hop options,
    /// destination options and routing, as RFC 8200 §4.1 orders them. Packets with more of them
    /// are nobody's.
    static let extensionsMaximum = 3
}

/// Types of ICMP and ICMPv6 messages.
enum MessageType {
    static let echo: UInt8 = 8
    /// Destination unreachable, time exceeded, parameter problem (RFC 792).
    static let errors: [UInt8] = [3, 11, 12]
    static let echoV6: UInt8 = 128
    /// Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
    static let errorsV6: [UInt8] = [1, 2, 3, 4]
}

extension Distribution {
    // MARK: Identifiers without an SPI

    /// The identifier of the fragments of one packet: the keyed hash of the source, folded to 32
    /// bits by exclusive or, and the identification. All fragments have it, so one node gets all.
    public func identifier(
        ofFragmentFrom source: IPAddress, identification: UInt32
    ) -> DistributionIdentifier {
        identifier(ofInitiatorCookie: Self.folded(source) << 32 | UInt64(identification))
    }

    /// The identifier of whoever asks for no tunnel in particular.
    public func identifier(ofSource source: IPAddress) -> DistributionIdentifier {
        identifier(ofFragmentFrom: source, identification: 0)
    }

    /// The identifier of a station that asks for the cluster's MAC address.
    public func identifier(ofAsker asker: MACAddress) -> DistributionIdentifier {
        identifier(ofInitiatorCookie: asker.value)
    }

    private static func folded(_ address: IPAddress) -> UInt64 {
        let both = address.high ^ address.low
        return (both >> 32 ^ both) & 0xFFFF_FFFF
    }

    // MARK: Shares

    /// Whose a frame is. `own`: the MAC address of the node itself, to which other nodes relay
    /// fragments; nil where nobody does.
    public func share(
        ofFrame frame: UnsafeRawBufferPointer, front: ClusterFront, own: MACAddress? = nil
    ) -> PacketShare {
        guard let base = frame.baseAddress, frame.count >= EthernetHeader.byteCount else {
            return .nobody
        }
        let type = load16(base, 12)
        let packet = UnsafeRawBufferPointer(rebasing: frame[EthernetHeader.byteCount...])
        let isRelayed = own != nil && own == MACAddress(at: base, 0)
        switch type {
        case EthernetHeader.arp: return .everyone
        case EthernetHeader.ipv4: return shareV4(packet, front, isRelayed)
        case EthernetHeader.ipv6: return shareV6(packet, front, isRelayed)
        default: return .nobody
        }
    }

    /// Whose an IP packet is.
    public func share(
        ofPacket packet: UnsafeRawBufferPointer, front: ClusterFront
    ) -> PacketShare {
        guard let base = packet.baseAddress, packet.count > 0 else { return .nobody }
        switch load8(base, 0) >> 4 {
        case 4: return shareV4(packet, front, false)
        case 6: return shareV6(packet, front, false)
        default: return .nobody
        }
    }

    /// Whose a UDP datagram to one of the cluster's sockets is; it begins with its UDP header.
    public func share(
        ofDatagram datagram: UnsafeRawBufferPointer, hasMarker: Bool
    ) -> PacketShare {
        guard let base = datagram.baseAddress, datagram.count >= HeaderField.udpBytes,
            load16(base, HeaderField.udpLength) >= HeaderField.udpLengthMinimum
        else { return .nobody }
        return share(
            ofPayload: UnsafeRawBufferPointer(rebasing: datagram[HeaderField.udpBytes...]),
            hasMarker: hasMarker)
    }

    /// Whose the payload of a UDP datagram is: one of a row that the kernel joined, say.
    public func share(
        ofPayload payload: UnsafeRawBufferPointer, hasMarker: Bool
    ) -> PacketShare {
        guard let base = payload.baseAddress, payload.count >= 4 else { return .nobody }
        guard hasMarker else {
            guard payload.count >= 8 else { return .nobody }
            return .owner(identifier(ofInitiatorCookie: load64(base, 0)))
        }
        let first = load32(base, 0)
        guard first == 0 else { return .owner(identifier(of: SPI(first))) }
        guard payload.count >= HeaderField.markerBytes + 8 else { return .nobody }
        return .owner(identifier(ofInitiatorCookie: load64(base, HeaderField.markerBytes)))
    }

    private func shareV4(
        _ packet: UnsafeRawBufferPointer, _ front: ClusterFront, _ isRelayed: Bool
    ) -> PacketShare {
        guard let base = packet.baseAddress, packet.count >= IPPacket.ipv4HeaderBytes,
            load8(base, 0) >> 4 == 4
        else { return .nobody }
        let headerBytes = Int(load8(base, 0) & 0xF) * 4
        guard headerBytes >= IPPacket.ipv4HeaderBytes,
            front.has(IPAddress(.v4, at: base, HeaderField.v4Destination))
        else { return .nobody }
        let source = IPAddress(.v4, at: base, HeaderField.v4Source)
        if load16(base, HeaderField.v4Fragment) & 0x3FFF != 0 {
            guard front.captures(load8(base, HeaderField.v4Protocol)) else { return .nobody }
            if isRelayed { return .everyone }
            let identification = UInt32(load16(base, HeaderField.v4Identification))
            return .owner(identifier(ofFragmentFrom: source, identification: identification))
        }
        guard packet.count > headerBytes else { return .nobody }
        let payload = UnsafeRawBufferPointer(rebasing: packet[headerBytes...])
        let kind = load8(base, HeaderField.v4Protocol)
        guard kind != IPProtocol.icmp else {
            return share(
                ofMessage: payload, source, echo: MessageType.echo, errors: MessageType.errors)
        }
        return share(ofTransport: kind, payload, front)
    }

    private func shareV6(
        _ packet: UnsafeRawBufferPointer, _ front: ClusterFront, _ isRelayed: Bool
    ) -> PacketShare {
        guard let base = packet.baseAddress, packet.count >= IPPacket.ipv6HeaderBytes,
            load8(base, 0) >> 4 == 6
        else { return .nobody }
        var next = load8(base, HeaderField.v6Next)
        var payload = UnsafeRawBufferPointer(rebasing: packet[IPPacket.ipv6HeaderBytes...])
        if next == IPProtocol.icmpV6, let type = payload.first,
            type == NeighborMessage.solicitationType || type == NeighborMessage.advertisementType
        {
            return .everyone
        }
        guard front.has(IPAddress(.v6, at: base, HeaderField.v6Destination)) else {
            return .nobody
        }
        let source = IPAddress(.v6, at: base, HeaderField.v6Source)
        var extensions = 0
        while Self.isExtension(next), extensions < HeaderField.extensionsMaximum {
            extensions += 1
            guard payload.count >= 2 else { return .nobody }
            next = payload[0]
            let length = Int(payload[1]) * 8 + 8
            guard payload.count > length else { return .nobody }
            payload = UnsafeRawBufferPointer(rebasing: payload[length...])
        }
        if next == IPProtocol.fragment {
            guard let base = payload.baseAddress, payload.count >= 8,
                front.captures(load8(base, 0))
            else { return .nobody }
            if isRelayed { return .everyone }
            return .owner(
                identifier(ofFragmentFrom: source, identification: load32(base, 4)))
        }
        guard next != IPProtocol.icmpV6 else {
            return share(
                ofMessage: payload, source, echo: MessageType.echoV6,
                errors: MessageType.errorsV6)
        }
        return share(ofTransport: next, payload, front)
    }

    private static func isExtension(_ number: UInt8) -> Bool {
        number == IPProtocol.hopByHop || number == IPProtocol.routing
            || number == IPProtocol.destinationOptions
    }

    private func share(
        ofMessage message: UnsafeRawBufferPointer, _ source: IPAddress, echo: UInt8,
        errors: [UInt8]
    ) -> PacketShare {
        guard let type = message.first else { return .nobody }
        if type == echo { return .owner(identifier(ofSource: source)) }
        return errors.contains(type) ? .everyone : .nobody
    }

    private func share(
        ofTransport kind: UInt8, _ payload: UnsafeRawBufferPointer, _ front: ClusterFront
    ) -> PacketShare {
        guard let base = payload.baseAddress, payload.count >= 4, front.captures(kind) else {
            return .nobody
        }
        switch kind {
        case IPProtocol.esp:
            return .owner(identifier(of: SPI(load32(base, 0))))
        case IPProtocol.udp:
            switch load16(base, HeaderField.udpDestination) {
            case front.encapsulationPort: return share(ofDatagram: payload, hasMarker: true)
            case front.ikePort: return share(ofDatagram: payload, hasMarker: false)
            default: return .nobody
            }
        default:
            return .nobody
        }
    }
}

extension ClusterFront {
    /// False for what comes by the kernel's sockets.
    fileprivate func captures(_ transport: UInt8) -> Bool {
        capturesDatagrams || transport != IPProtocol.udp
    }
}
