// Answers for the cluster addresses on a segment: which MAC address they have (ARP, RFC 826 and
// 5227; neighbor discovery, RFC 4861), and whether they are there at all (echo, RFC 792 and 4443).
//
// Every node hears every question. One answers: the owner of the identifier that the asker's
// address hashes to. When it is dead, the question is asked again, a second later, and its
// successor answers.

public import Wire

/// Somebody else claims a cluster address.
public struct AddressConflict: Equatable, Sendable {
    /// The cluster address.
    public let address: IPAddress
    /// The MAC address that it is claimed for.
    public let claimant: MACAddress
}

/// What a frame leads to.
public enum ResponderAction: Equatable, Sendable {
    /// Send this frame.
    case reply([UInt8])
    /// Tell the operator.
    case conflict(AddressConflict)
    /// Nothing.
    case none
}

/// What one node says for the cluster addresses on one segment.
public struct ClusterAddressResponder: Sendable {
    /// What was done so far.
    public struct Counters: Equatable, Sendable {
        /// Answers to ARP requests and neighbor solicitations.
        public var answers: UInt64 = 0
        /// Answers to echo requests.
        public var echoes: UInt64 = 0
        /// Questions that another node answers.
        public var foreign: UInt64 = 0
        /// Questions beyond the limit.
        public var limited: UInt64 = 0
        /// Messages that claimed a cluster address.
        public var conflicts: UInt64 = 0
    }

    /// RFC 5227 §1.1 (ANNOUNCE_NUM rounded up by one for what is lost) and RFC 4861 §7.2.6.
    private static let announcements = 3
    private static let announceInterval: UInt64 = 1_000_000_000
    /// RFC 5227 §2.4 (c): DEFEND_INTERVAL.
    private static let defendInterval: UInt64 = 10_000_000_000

    private let distribution: Distribution
    private let front: ClusterFront
    private let shared: MACAddress
    private let own: MACAddress
    private var answerLimit: RateLimit
    private var echoLimit: RateLimit
    private var unsaid = 0
    private var nextAnnouncement: UInt64 = 0
    private var nextDefence: UInt64 = 0
    /// What was done so far.
    public private(set) var counters = Counters()

    /// Answers with the MAC address `shared`, from a card whose address is `own`; at most
    /// `perSecond` answers of each kind.
    public init(
        distribution: Distribution, front: ClusterFront, shared: MACAddress, own: MACAddress,
        perSecond: Int = 1000
    ) {
        precondition(shared.isGroup && !own.isGroup)
        self.distribution = distribution
        self.front = front
        self.shared = shared
        self.own = own
        answerLimit = RateLimit(perSecond: perSecond, burst: 256)
        echoLimit = RateLimit(perSecond: perSecond, burst: 256)
    }

    // MARK: Questions

    /// Looks at a frame. `isOwner` says whether this node serves an identifier now.
    public mutating func receive(
        _ frame: UnsafeRawBufferPointer, nowNanoseconds now: UInt64,
        isOwner: (DistributionIdentifier) -> Bool
    ) -> ResponderAction {
        guard let base = frame.baseAddress, frame.count > EthernetHeader.byteCount else {
            return .none
        }
        if let message = ARPMessage(frame: frame) {
            return receive(message, now, isOwner)
        }
        let source = MACAddress(at: base, 6)
        if let message = NeighborMessage(frame: frame) {
            return receive(message, from: source, now, isOwner)
        }
        return echo(frame, from: source, now, isOwner)
    }

    private mutating func receive(
        _ message: ARPMessage, _ now: UInt64, _ isOwner: (DistributionIdentifier) -> Bool
    ) -> ResponderAction {
        if front.has(message.sender) {
            return claim(message.sender, message.senderMAC, now)
        }
        guard message.isRequest, front.has(message.target),
            mayAnswer(message.senderMAC, now, isOwner)
        else { return .none }
        let reply = ARPMessage(
            isRequest: false, senderMAC: shared, sender: message.target,
            targetMAC: message.senderMAC, target: message.sender)
        return .reply(reply.frame(to: message.senderMAC, from: own))
    }

    private mutating func receive(
        _ message: NeighborMessage, from source: MACAddress, _ now: UInt64,
        _ isOwner: (DistributionIdentifier) -> Bool
    ) -> ResponderAction {
        guard front.has(message.target) else { return .none }
        guard message.isSolicitation else {
            guard let claimant = message.linkAddress else { return .none }
            return claim(message.target, claimant, now)
        }
        let asker = message.linkAddress ?? source
        guard !front.has(message.source), mayAnswer(asker, now, isOwner) else {
            return .none
        }
        // Who has no address yet hears what all nodes hear (RFC 4861 §7.2.4).
        let isProbe = message.source.isUnspecified
        let destination = isProbe ? NeighborMessage.allNodes : message.source
        var reply = NeighborMessage(
            isSolicitation: false, source: message.target, destination: destination,
            target: message.target, linkAddress: shared)
        reply.isSolicited = !isProbe
        reply.overrides = true
        return .reply(
            reply.frame(to: isProbe ? MACAddress(group: destination) : asker, from: own))
    }

    private mutating func mayAnswer(
        _ asker: MACAddress, _ now: UInt64, _ isOwner: (DistributionIdentifier) -> Bool
    ) -> Bool {
        // An answer to a group would tell everybody what one asked, or claimed to ask.
        guard !asker.isGroup, asker.value != 0 else { return false }
        guard isOwner(distribution.identifier(ofAsker: asker)) else {
            counters.foreign += 1
            return false
        }
        guard answerLimit.take(nowNanoseconds: now) else {
            counters.limited += 1
            return false
        }
        counters.answers += 1
        return true
    }

    // MARK: Conflicts and announcements

    /// Somebody says where a cluster address is. Another node of ours says what we would say.
    private mutating func claim(
        _ address: IPAddress, _ claimant: MACAddress, _ now: UInt64
    ) -> ResponderAction {
        guard claimant != shared else { return .none }
        counters.conflicts += 1
        if now >= nextDefence {
            nextDefence = now &+ Self.defendInterval
            unsaid = max(unsaid, 1)
            nextAnnouncement = min(nextAnnouncement, now)
        }
        return .conflict(AddressConflict(address: address, claimant: claimant))
    }

    /// From now on the cluster addresses are announced, some times: at the start, and when the
    /// shared MAC address or the set of addresses is a new one.
    public mutating func announce(nowNanoseconds now: UInt64) {
        unsaid = Self.announcements
        nextAnnouncement = now
    }

    /// When ``tick(nowNanoseconds:isOwner:)`` has something to say; `UInt64.max`: never.
    public var nextDeadline: UInt64 { unsaid > 0 ? nextAnnouncement : .max }

    /// The announcements that are due. Each address is announced by one node, the owner of the
    /// identifier that the address hashes to.
    public mutating func tick(
        nowNanoseconds now: UInt64, isOwner: (DistributionIdentifier) -> Bool
    ) -> [[UInt8]] {
        guard unsaid > 0, nextAnnouncement <= now else { return [] }
        unsaid -= 1
        nextAnnouncement = now &+ Self.announceInterval
        return front.addresses
            .filter { isOwner(distribution.identifier(ofSource: $0)) }
            .map(announcement)
    }

    private func announcement(of address: IPAddress) -> [UInt8] {
        if address.family == .v4 {
            // RFC 5227 §2.3: a request that says whose the address is.
            return ARPMessage(
                isRequest: true, senderMAC: shared, sender: address, targetMAC: MACAddress(0),
                target: address
            ).frame(to: .broadcast, from: own)
        }
        var message = NeighborMessage(
            isSolicitation: false, source: address, destination: NeighborMessage.allNodes,
            target: address, linkAddress: shared)
        message.overrides = true
        return message.frame(to: MACAddress(group: NeighborMessage.allNodes), from: own)
    }

    // MARK: Echo

    private mutating func echo(
        _ frame: UnsafeRawBufferPointer, from source: MACAddress, _ now: UInt64,
        _ isOwner: (DistributionIdentifier) -> Bool
    ) -> ResponderAction {
        guard let reply = EchoReply(frame, front.addresses, to: source, from: own) else {
            return .none
        }
        guard isOwner(distribution.identifier(ofSource: reply.asker)) else {
            counters.foreign += 1
            return .none
        }
        guard echoLimit.take(nowNanoseconds: now) else {
            counters.limited += 1
            return .none
        }
        counters.echoes += 1
        return .reply(reply.frame)
    }
}

/// The answer to an echo request: the same message from the other end.
private struct EchoReply {
    let asker: IPAddress
    let frame: [UInt8]

    init?(
        _ request: UnsafeRawBufferPointer, _ addresses: [IPAddress], to source: MACAddress,
        from own: MACAddress
    ) {
        let start = EthernetHeader.byteCount
        guard request.count > start, !source.isGroup,
            let base = request.baseAddress.map({ $0 + start }),
            let packet = try? IPPacket(at: base, count: request.count - start),
            !packet.isFragment, packet.totalLength - packet.payloadOffset >= 8
        else { return nil }
        let isV4 = packet.family == .v4
        guard packet.transportProtocol == (isV4 ? IPProtocol.icmp : IPProtocol.icmpV6),
            load16(base, packet.payloadOffset)
                == UInt16(isV4 ? MessageType.echo : MessageType.echoV6) << 8
        else { return nil }
        let places =
            isV4
            ? (HeaderField.v4Source, HeaderField.v4Destination)
            : (HeaderField.v6Source, HeaderField.v6Destination)
        let asker = IPAddress(packet.family, at: base, places.0)
        let address = IPAddress(packet.family, at: base, places.1)
        guard addresses.contains(address), !addresses.contains(asker), !asker.isMulticast,
            !asker.isUnspecified, asker != IPAddress(v4: .max)
        else { return nil }
        let message = UnsafeRawBufferPointer(
            start: base + packet.payloadOffset, count: packet.totalLength - packet.payloadOffset)
        let sum =
            isV4
            ? checksumFold(checksumSum(base + packet.payloadOffset, count: message.count))
            : icmpV6Checksum(base, payload: packet.payloadOffset, count: message.count)
        guard sum == 0 else { return nil }
        let header = isV4 ? IPPacket.ipv4HeaderBytes : IPPacket.ipv6HeaderBytes
        var reply = [UInt8](repeating: 0, count: start + header) + message
        reply.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            EthernetHeader.write(
                base, to: source, from: own,
                type: isV4 ? EthernetHeader.ipv4 : EthernetHeader.ipv6)
            Self.fill(base + start, header, message.count, from: address, to: asker)
        }
        self.asker = asker
        frame = reply
    }

    /// Writes an IP header and the message's type and checksum.
    private static func fill(
        _ base: UnsafeMutableRawPointer, _ header: Int, _ count: Int, from source: IPAddress,
        to destination: IPAddress
    ) {
        let message = base + header
        if source.family == .v4 {
            store8(0x45, base, 0)
            store16(UInt16(truncatingIfNeeded: header + count), base, 2)
            store8(64, base, 8)
            store8(IPProtocol.icmp, base, HeaderField.v4Protocol)
            source.write(base, HeaderField.v4Source)
            destination.write(base, HeaderField.v4Destination)
            store16(checksumFold(checksumSum(base, count: header)), base, 10)
            store8(0, message, 0)
            store16(0, message, 2)
            store16(checksumFold(checksumSum(message, count: count)), message, 2)
            return
        }
        store8(0x60, base, 0)
        store16(UInt16(truncatingIfNeeded: count), base, 4)
        store8(IPProtocol.icmpV6, base, HeaderField.v6Next)
        store8(64, base, 7)
        source.write(base, HeaderField.v6Source)
        destination.write(base, HeaderField.v6Destination)
        store8(MessageType.echoV6 + 1, message, 0)
        store16(0, message, 2)
        store16(icmpV6Checksum(base, payload: header, count: count), message, 2)
    }
}
