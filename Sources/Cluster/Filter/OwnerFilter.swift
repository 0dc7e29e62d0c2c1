// From the identifiers that a node owns to a program that lets the kernel drop all other packets
// before they are copied. The program answers as `Distribution.share` does, on every packet.
//
//     front matter   which direction, which type of frame
//     IPv4, IPv6     cluster address? which protocol, behind options or extension headers?
//     hash           the identifier of the SPI, the cookie or the source, in A
//     decision       is that bit set in the node's set?
//
// The secret words of the cookie hash are in the program: whoever may read the filters of other
// processes' sockets (root) can read them, as it can read those processes' memory.

public import Wire

/// What a filter's packets look like.
public enum FilterView: Hashable, Sendable {
    /// Ethernet frames that a capture sees. Frames that the node itself sent, and such that are
    /// for another station (as a promiscuous device gives them), are nobody's. `own`: the node's
    /// MAC address; fragments to it were relayed by another node, and are accepted.
    case frames(own: MACAddress)
    /// Ethernet frames of whatever direction, as a file or a test has them.
    case storedFrames(own: MACAddress?)
    /// IP packets without a link header.
    case packets
    /// Datagrams of one UDP socket at a cluster address, from their UDP headers on; with the
    /// non-ESP marker of RFC 3948 or without.
    case datagrams(hasMarker: Bool)
}

/// Compiles filters for one cluster.
public struct OwnerFilter: Sendable {
    /// Accepted packets are accepted whole.
    static let acceptedOctets: UInt32 = 1 << 18
    /// Linux: the kind of a packet (`SKF_AD_OFF + SKF_AD_PKTTYPE`), and two of its values.
    static let packetTypePlace: UInt32 = 0xFFFF_F004
    static let toOtherHost: UInt32 = 3
    static let outgoing: UInt32 = 4

    /// The grounds of identifiers.
    public let distribution: Distribution
    /// What peers see.
    public let front: ClusterFront

    /// A compiler for the packets of `front`.
    public init(distribution: Distribution, front: ClusterFront) {
        self.distribution = distribution
        self.front = front
    }

    /// The program that accepts what is for everyone or for the owner of one of `owned`; the
    /// identifiers must exist. Never more than 4096 instructions, whatever the set.
    public func program(
        owned: some Sequence<DistributionIdentifier>, view: FilterView
    ) -> [FilterInstruction] {
        var set = [Bool](repeating: false, count: distribution.identifierCount)
        for identifier in owned { set[Int(identifier.value)] = true }
        var code = OwnerFilterCode(distribution: distribution, front: front, view: view)
        code.emit(OwnedSet(set))
        let program = code.assembler.assemble()
        precondition(program.count <= FilterInstruction.countMaximum)
        return program
    }

    /// What comes in from the protected network: all IP packets that the node did not send itself,
    /// and ARP. Which tunnel a packet is for only its selectors say.
    public static func insideProgram() -> [FilterInstruction] {
        var code = FilterAssembler()
        let accept = code.label()
        let reject = code.label()
        code.append(.loadOctet, packetTypePlace)
        code.compare(.equal, outgoing, then: reject)
        code.compare(.equal, toOtherHost, then: reject)
        code.append(.loadHalf, 12)
        for type in [EthernetHeader.ipv4, EthernetHeader.ipv6, EthernetHeader.arp] {
            code.compare(.equal, UInt32(type), then: accept)
        }
        code.place(reject)
        code.append(.finish, 0)
        code.place(accept)
        code.append(.finish, acceptedOctets)
        return code.assemble()
    }
}

/// A set of identifiers, as the decision at the end of a program walks it.
///
/// The range of all identifiers is halved until a part is owned wholly, or not at all, or is not
/// longer than the 32 bits of one constant. So 256 scattered identifiers take three comparisons
/// and one shift, and runs take less.
struct OwnedSet {
    private static let wordBits = 32
    private let owns: [Bool]

    init(_ owns: [Bool]) { self.owns = owns }

    /// Decides about the identifier in A.
    func emit(_ code: inout FilterAssembler, accept: FilterLabel, reject: FilterLabel) {
        // The lower bits shift the word that the upper ones choose.
        code.append(.store, 0)
        code.append(.and, UInt32(Self.wordBits - 1))
        code.append(.toIndex)
        code.append(.loadMemory, 0)
        emit(0..<owns.count, &code, accept, reject)
    }

    private func emit(
        _ range: Range<Int>, _ code: inout FilterAssembler, _ accept: FilterLabel,
        _ reject: FilterLabel
    ) {
        let part = owns[range]
        if !part.contains(false) { return code.jump(accept) }
        if !part.contains(true) { return code.jump(reject) }
        guard range.count > Self.wordBits else {
            var word: UInt32 = 0
            for place in range where owns[place] { word |= 1 << UInt32(place % Self.wordBits) }
            code.append(.loadConstant, word)
            code.append(.shiftRightByIndex)
            code.compare(.anyBit, 1, then: accept, otherwise: reject)
            return
        }
        let middle = range.lowerBound + range.count / 2
        let upper = code.label()
        code.compare(.atLeast, UInt32(middle), then: upper)
        emit(range.lowerBound..<middle, &code, accept, reject)
        code.place(upper)
        emit(middle..<range.upperBound, &code, accept, reject)
    }
}
