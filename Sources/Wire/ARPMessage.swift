// Address resolution for IPv4 on Ethernet (RFC 826; announcements and probes: RFC 5227).

/// A request or reply of ARP.
///
///      0  2  hardware: 1, Ethernet        8   6  sender's MAC address
///      2  2  protocol: 0x0800, IPv4      14   4  sender's IPv4 address; 0 in a probe
///      4  1  6: octets of a MAC address  18   6  target's MAC address; nothing in a request
///      5  1  4: octets of an address     24   4  target's IPv4 address
///      6  2  1 request, 2 reply
public struct ARPMessage: Equatable, Sendable {
    /// Octets of a message without its Ethernet header.
    public static let byteCount = 28

    /// Asks, or answers.
    public var isRequest: Bool
    /// Who says it.
    public var senderMAC: MACAddress
    /// The IPv4 address of whoever says it; 0.0.0.0 in a probe.
    public var sender: IPAddress
    /// Whom a reply is for.
    public var targetMAC: MACAddress
    /// Who is asked for, or whom a reply is for.
    public var target: IPAddress

    /// A message from its fields; the addresses are IPv4 addresses.
    public init(
        isRequest: Bool, senderMAC: MACAddress, sender: IPAddress, targetMAC: MACAddress,
        target: IPAddress
    ) {
        precondition(sender.family == .v4 && target.family == .v4)
        self.isRequest = isRequest
        self.senderMAC = senderMAC
        self.sender = sender
        self.targetMAC = targetMAC
        self.target = target
    }

    /// Reads an Ethernet frame; nil when it is no ARP for IPv4, or breaks off.
    public init?(frame: UnsafeRawBufferPointer) {
        let start = EthernetHeader.byteCount
        guard let base = frame.baseAddress, frame.count >= start + Self.byteCount,
            load16(base, 12) == EthernetHeader.arp, load32(base, start) == 0x0001_0800,
            load16(base, start + 4) == 0x0604
        else { return nil }
        let operation = load16(base, start + 6)
        guard operation == 1 || operation == 2 else { return nil }
        isRequest = operation == 1
        senderMAC = MACAddress(at: base, start + 8)
        sender = IPAddress(.v4, at: base, start + 14)
        targetMAC = MACAddress(at: base, start + 18)
        target = IPAddress(.v4, at: base, start + 24)
    }

    /// The frame that says it.
    public func frame(to destination: MACAddress, from source: MACAddress) -> [UInt8] {
        var frame = [UInt8](repeating: 0, count: EthernetHeader.byteCount + Self.byteCount)
        frame.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            EthernetHeader.write(base, to: destination, from: source, type: EthernetHeader.arp)
            let start = base + EthernetHeader.byteCount
            store32(0x0001_0800, start, 0)
            store16(0x0604, start, 4)
            store16(isRequest ? 1 : 2, start, 6)
            senderMAC.write(start, 8)
            store32(UInt32(truncatingIfNeeded: sender.low), start, 14)
            targetMAC.write(start, 18)
            store32(UInt32(truncatingIfNeeded: target.low), start, 24)
        }
        return frame
    }
}
