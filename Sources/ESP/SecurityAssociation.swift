// An ESP security association as it is agreed upon (RFC 4301 §4.4.2.1): parameters and keys,
// without any state. The packet path works on `AssociationRecord`, which is made from this.

public import Crypto
public import Wire

/// One direction of a tunnel.
public enum Direction: UInt8, Sendable { case inbound, outbound }

/// RFC 4303 §3.1.
public enum Mode: String, Sendable { case tunnel, transport }

/// Ports of ESP in UDP (RFC 3948).
public struct UDPPorts: Hashable, Sendable {
    /// The sender's port.
    public var source: UInt16
    /// The receiver's port; 4500 unless a NAT changed it.
    public var destination: UInt16

    /// A pair of ports.
    public init(source: UInt16, destination: UInt16) {
        self.source = source
        self.destination = destination
    }
}

/// Limits after which an association asks for a rekey (soft) or refuses packets (hard). Bytes are
/// those of the ESP payload before padding; nanoseconds count from `createdNanoseconds`.
public struct Lifetimes: Hashable, Sendable {
    /// Packets before a rekey is asked for.
    public var softPackets = UInt64.max
    /// Packets before refusal.
    public var hardPackets = UInt64.max
    /// Octets before a rekey is asked for.
    public var softBytes = UInt64.max
    /// Octets before refusal.
    public var hardBytes = UInt64.max
    /// Age at which a rekey is asked for.
    public var softNanoseconds = UInt64.max
    /// Age at which packets are refused.
    public var hardNanoseconds = UInt64.max

    /// No limits.
    public init() {}

    var isUnlimited: Bool { self == Lifetimes() }
}

/// How outer headers are made from inner ones (RFC 4301 §5.1.2, RFC 6040), and padding beyond the
/// needed one.
public struct TunnelHeaderPolicy: Hashable, Sendable {
    /// The outer DF bit over an IPv4 inner packet; over IPv6 `copy` sets it, since routers must not
    /// fragment IPv6.
    public enum DontFragment: UInt8, Sendable { case copy, set, clear }

    /// RFC 6040 §4.1: `normal` copies ECN to the outer header, `compatibility` clears it there.
    public enum ECN: UInt8, Sendable { case normal, compatibility }

    /// How the outer DF bit is made.
    public var dontFragment = DontFragment.copy
    /// How the outer ECN field is made.
    public var ecn = ECN.normal
    /// The outer DSCP, 0…63; nil copies the inner one.
    public var dscp: UInt8?
    /// The outer TTL or hop limit; nil copies the inner one.
    public var hopLimit: UInt8? = 64
    /// Counts this gateway as a hop of the inner packet (RFC 4301 §5.1.2.1 note 3). Off when the
    /// system's forwarding has counted it already.
    public var decrementsInnerHopLimit = false
    /// Traffic-flow confidentiality (RFC 4303 §2.7): shorter inner packets are padded to this many
    /// octets. 0: none. Tunnel mode only.
    public var tfcBytes: UInt16 = 0
    /// The largest outer packet.
    public var pathMTU: UInt16 = .max

    /// DF, ECN and DSCP copied, hop limit 64, no padding beyond the needed.
    public init() {}
}

/// Everything agreed about an association but its keys.
public struct AssociationParameters: Hashable, Sendable {
    /// Chosen by the receiver.
    public var spi: SPI
    /// As this gateway sees it.
    public var direction: Direction
    /// Tunnel or transport.
    public var mode: Mode
    /// The algorithms.
    public var transform: Transform
    /// Extended (64-bit) sequence numbers.
    public var usesESN = false
    /// Replay window in packets: 0 (off) or 32…4096. Receiving only.
    public var replayWindow = 64
    /// Outer addresses, in the direction of the packets.
    public var source: IPAddress
    /// The receiver's outer address.
    public var destination: IPAddress
    /// Present: sent in UDP. Received either way (RFC 7296 §2.23).
    public var udp: UDPPorts?
    /// Which inner packets may pass.
    public var selectors = AssociationSelectors.any
    /// When to rekey and when to stop.
    public var lifetimes = Lifetimes()
    /// How outer headers are made.
    public var headers = TunnelHeaderPolicy()
    /// The number of the first packet; 1 unless the association is older than its owner.
    public var firstSequence: UInt64 = 1
    /// When the association began, on the caller's clock.
    public var createdNanoseconds: UInt64 = 0

    /// What has no default; the rest is set afterwards.
    public init(
        spi: SPI, direction: Direction, mode: Mode, transform: Transform, source: IPAddress,
        destination: IPAddress
    ) {
        self.spi = spi
        self.direction = direction
        self.mode = mode
        self.transform = transform
        self.source = source
        self.destination = destination
    }
}

/// Why parameters and keys are not an association.
public enum AssociationError: Error, Equatable, CustomStringConvertible {
    case reservedSPI(SPI)
    case cipherKeyLength(Transform, bytes: Int)
    case integrityKeyLength(Transform, bytes: Int)
    case saltLength(Transform, bytes: Int)
    case replayWindow(Int)
    case replayWindowNeeded
    case addressFamilies
    case firstSequence(UInt64)
    case dscp(UInt8)
    case hopLimitZero
    case tfcNeedsTunnelMode
    case sourceSelectors(Int)
    case destinationSelectors(Int)

    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .reservedSPI(let spi): "SPI \(spi) is reserved: use 00000100 or higher"
        case .cipherKeyLength(let transform, let bytes):
            "\(transform) needs a cipher key of \(transform.keyBytes) octets, not \(bytes)"
        case .integrityKeyLength(let transform, let bytes):
            "\(transform) needs an integrity key of \(transform.integrityKeyBytes) octets, "
                + "not \(bytes)"
        case .saltLength(let transform, let bytes):
            "\(transform) needs a salt of \(transform.saltBytes) octets, not \(bytes)"
        case .replayWindow(let bits):
            "a replay window of \(bits) is not possible: use 0 (off) or 32 to 4096"
        case .replayWindowNeeded:
            "extended sequence numbers need a replay window (RFC 4303 §3.3.3): use 32 to 4096"
        case .addressFamilies: "source and destination must be both IPv4 or both IPv6"
        case .firstSequence(let number):
            "first sequence number \(number) is not possible: it starts at 1, and without extended "
                + "numbers ends at 4294967295"
        case .dscp(let value): "DSCP \(value) is not possible: use 0 to 63"
        case .hopLimitZero: "an outer hop limit of 0 would never arrive: use 1 to 255"
        case .tfcNeedsTunnelMode: "TFC padding needs tunnel mode (RFC 4303 §2.7)"
        case .sourceSelectors(let count):
            "\(count) source selectors are too many: use at most "
                + "\(AssociationSelectors.listMaximum), or wider ones"
        case .destinationSelectors(let count):
            "\(count) destination selectors are too many: use at most "
                + "\(AssociationSelectors.listMaximum), or wider ones"
        }
    }
}

/// A valid association with its keys, which are wiped with it.
public struct SecurityAssociation: ~Copyable {
    /// Everything but the keys.
    public let parameters: AssociationParameters
    /// Cipher key, then integrity key, then salt.
    let secret: SecretBytes

    /// Checks every length and range. The keys are copied; `salt` is the implicit part of the
    /// nonce.
    public init(
        _ parameters: AssociationParameters, cipherKey: borrowing SecretBytes,
        integrityKey: borrowing SecretBytes, salt: borrowing SecretBytes
    ) throws(AssociationError) {
        try Self.check(parameters)
        try Self.check(
            parameters.transform, cipherKey: cipherKey, integrityKey: integrityKey, salt: salt)
        self.init(
            valid: parameters,
            secret: Self.joined(cipherKey: cipherKey, integrityKey: integrityKey, salt: salt))
    }

    /// The same for an association that has begun: it may have used its last number.
    init(
        resuming parameters: AssociationParameters, cipherKey: borrowing SecretBytes,
        integrityKey: borrowing SecretBytes, salt: borrowing SecretBytes
    ) throws(AssociationError) {
        var begun = parameters
        // One more than the last number, as `AssociationSlab.association` gives it.
        let isUsedUp = parameters.firstSequence == (parameters.usesESN ? 0 : 1 << 32)
        if isUsedUp { begun.firstSequence = 1 }
        try Self.check(begun)
        try Self.check(
            parameters.transform, cipherKey: cipherKey, integrityKey: integrityKey, salt: salt)
        self.init(
            valid: parameters,
            secret: Self.joined(cipherKey: cipherKey, integrityKey: integrityKey, salt: salt))
    }

    /// A second one with the same keys, which has to be wiped too.
    public init(copying other: borrowing SecurityAssociation) {
        self.init(
            valid: other.parameters,
            secret: other.secret.withUnsafeBytes { SecretBytes(copying: $0) })
    }

    private static func joined(
        cipherKey: borrowing SecretBytes, integrityKey: borrowing SecretBytes,
        salt: borrowing SecretBytes
    ) -> SecretBytes {
        var secret = SecretBytes(count: cipherKey.count + integrityKey.count + salt.count)
        secret.withUnsafeMutableBytes { target in
            var offset = 0
            func append(_ bytes: UnsafeRawBufferPointer) {
                UnsafeMutableRawBufferPointer(rebasing: target[offset...]).copyMemory(from: bytes)
                offset += bytes.count
            }
            cipherKey.withUnsafeBytes(append)
            integrityKey.withUnsafeBytes(append)
            salt.withUnsafeBytes(append)
        }
        return secret
    }

    /// From parts that were checked, such as a record.
    init(valid parameters: AssociationParameters, secret: consuming SecretBytes) {
        self.parameters = parameters
        self.secret = secret
    }

    private static func check(_ parameters: AssociationParameters) throws(AssociationError) {
        if parameters.spi.isReserved { throw .reservedSPI(parameters.spi) }
        let window = parameters.replayWindow
        guard window == 0 || ReplayWindow.allowedBits.contains(window) else {
            throw .replayWindow(window)
        }
        if parameters.usesESN, window == 0, parameters.direction == .inbound {
            throw .replayWindowNeeded
        }
        guard parameters.source.family == parameters.destination.family else {
            throw .addressFamilies
        }
        let first = parameters.firstSequence
        guard first >= 1, parameters.usesESN || first <= UInt64(UInt32.max) else {
            throw .firstSequence(first)
        }
        if let dscp = parameters.headers.dscp, dscp > 63 { throw .dscp(dscp) }
        if parameters.headers.hopLimit == 0 { throw .hopLimitZero }
        if parameters.headers.tfcBytes != 0, parameters.mode == .transport {
            throw .tfcNeedsTunnelMode
        }
        let selectors = parameters.selectors
        guard selectors.source.count <= AssociationSelectors.listMaximum else {
            throw .sourceSelectors(selectors.source.count)
        }
        guard selectors.destination.count <= AssociationSelectors.listMaximum else {
            throw .destinationSelectors(selectors.destination.count)
        }
    }

    private static func check(
        _ transform: Transform, cipherKey: borrowing SecretBytes,
        integrityKey: borrowing SecretBytes, salt: borrowing SecretBytes
    ) throws(AssociationError) {
        guard cipherKey.count == transform.keyBytes else {
            throw .cipherKeyLength(transform, bytes: cipherKey.count)
        }
        guard integrityKey.count == transform.integrityKeyBytes else {
            throw .integrityKeyLength(transform, bytes: integrityKey.count)
        }
        guard salt.count == transform.saltBytes else {
            throw .saltLength(transform, bytes: salt.count)
        }
    }
}
