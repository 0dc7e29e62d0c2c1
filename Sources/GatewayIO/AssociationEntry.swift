// One association of a file: every field is decoded and checked here, so that a file is refused as
// a whole before a packet moves.
//
// Keys are decoded at once into memory that is wiped when the last copy of the entry goes. Their
// digits in the texts of the JSON reader can't be wiped: strings give no access to their own
// memory. They are freed with the reader's values, before the first packet moves.

internal import Crypto
public import ESP
public import Wire

/// One element of an `esp` array.
public struct AssociationEntry {
    /// The name that the file gives it, if any.
    public let name: String?
    /// Everything but the keys, as for receiving.
    public package(set) var parameters: AssociationParameters

    private let place: String
    private let keys: KeyMaterial

    /// The SPI; no other entry of the file has it.
    public var spi: SPI { parameters.spi }

    /// The association with its keys.
    ///
    /// `createdNanoseconds` is now on the caller's clock, from which lifetimes in seconds count.
    /// Throws when the fields are valid for the other direction only.
    public func association(
        direction: Direction, createdNanoseconds: UInt64
    ) throws(AssociationFileError) -> SecurityAssociation {
        do throws(FieldError) {
            return try makeAssociation(
                direction: direction, createdNanoseconds: createdNanoseconds)
        } catch {
            throw AssociationFileError(error, file: "association \(spi)")
        }
    }

    /// `standIn` replaces a reserved SPI, as some published packets have; their time is 0.
    package func makeAssociation(
        direction: Direction, createdNanoseconds: UInt64 = 0, standIn: SPI? = nil
    ) throws(FieldError) -> SecurityAssociation {
        var parameters = parameters
        parameters.direction = direction
        parameters.createdNanoseconds = createdNanoseconds
        if let standIn { parameters.spi = standIn }
        do throws(AssociationError) {
            return try SecurityAssociation(
                parameters, cipherKey: keys.encryption, integrityKey: keys.integrity,
                salt: keys.salt)
        } catch {
            throw refusal(error)
        }
    }

    /// Puts the engine's refusal beside the field that caused it.
    private func refusal(_ error: AssociationError) -> FieldError {
        let (field, code): (String, AssociationFileError.Code) =
            switch error {
            case .reservedSPI: ("spi", .outOfRange)
            case .cipherKeyLength: ("encr_key", .keyLength)
            case .integrityKeyLength: ("integ_key", .keyLength)
            case .saltLength: ("salt", .keyLength)
            case .replayWindow: ("replay_window", .outOfRange)
            case .replayWindowNeeded: ("replay_window", .contradiction)
            case .addressFamilies: ("dst", .contradiction)
            case .firstSequence: ("first_seq", .outOfRange)
            case .dscp: ("dscp", .outOfRange)
            case .hopLimitZero: ("hop_limit", .outOfRange)
            case .tfcNeedsTunnelMode: ("tfc_bytes", .contradiction)
            case .sourceSelectors: ("ts_src", .outOfRange)
            case .destinationSelectors: ("ts_dst", .outOfRange)
            }
        return FieldError(code, "\(place).\(field)", "\(error)")
    }
}

extension AssociationEntry: CustomStringConvertible, CustomReflectable {
    /// SPI, addresses and algorithms; no key.
    public var description: String {
        "\(spi) \(parameters.source) → \(parameters.destination) \(parameters.transform)"
    }

    /// Without the keys, so that no dump shows them.
    public var customMirror: Mirror { Mirror(self, children: ["parameters": parameters]) }
}

/// The keys of an entry, which all its copies share; no description.
private final class KeyMaterial {
    let encryption: SecretBytes
    let integrity: SecretBytes
    let salt: SecretBytes

    init(_ view: JSONView, _ transform: Transform) throws(FieldError) {
        encryption = try Self.read(view, "encr_key", octets: transform.keyBytes)
        integrity = try Self.read(view, "integ_key", octets: transform.integrityKeyBytes)
        salt = try Self.read(view, "salt", octets: transform.saltBytes)
    }

    /// May be absent where the transform has none. The length is checked with the association.
    private static func read(
        _ view: JSONView, _ name: String, octets: Int
    ) throws(FieldError) -> SecretBytes {
        guard let digits = try view.optionalText(name) else {
            if octets > 0 { throw view.missing(name) }
            return SecretBytes(count: 0)
        }
        if let bytes = SecretBytes.decoding(hexadecimal: digits) { return bytes }
        let isHexadecimal = digits.utf8.allSatisfy { Character(Unicode.Scalar($0)).isHexDigit }
        // The text may be a key with one wrong letter: it must not reach the error.
        throw view.refuse(
            name, .notHexadecimal,
            isHexadecimal
                ? "an odd number of hexadecimal digits: two make an octet"
                : "not hexadecimal: use the digits 0-9 and a-f only, without 0x or spaces")
    }
}

// MARK: - Reading

extension AssociationEntry {
    /// Fields that change what the association does.
    private static let fields = [
        "spi", "src", "dst", "sport", "dport", "mode", "encr", "key_bits", "encr_key", "salt",
        "integ", "integ_key", "icv_len", "esn", "replay_window", "first_seq", "ts_src", "ts_dst",
        "lifetime", "tfc_bytes", "dscp", "ecn", "df", "hop_limit", "path_mtu",
    ]

    /// Fields that only tell where the association came from.
    private static let informational = [
        "name", "comment", "direction", "encap", "proposal", "exchange_initiator", "seed_ni_nr",
        "ke", "ke_shared_secret", "first_frame", "last_frame", "packets",
    ]

    /// `allowsReservedSPI` is for published packets only, which no gateway would agree to.
    package init(_ view: JSONView, allowsReservedSPI: Bool = false) throws(FieldError) {
        try view.requireKnown(Self.fields + Self.informational)
        let transform = try Self.transform(view)
        var parameters = AssociationParameters(
            spi: try Self.spi(view), direction: .outbound,
            mode: try Self.required(
                view, "mode", [("tunnel", .tunnel), ("transport", .transport)]),
            transform: transform, source: try Self.address(view, "src"),
            destination: try Self.address(view, "dst"))
        guard let usesESN = try view.optionalFlag("esn") else { throw view.missing("esn") }
        parameters.usesESN = usesESN
        parameters.udp = try Self.ports(view)
        if let window = try view.optionalNumber("replay_window", in: 0...4096) {
            parameters.replayWindow = Int(window)
        }
        if let first = try view.optionalNumber("first_seq") {
            parameters.firstSequence = first
            try Self.requireIV(view, parameters)
        }
        parameters.selectors = AssociationSelectors(
            source: try Self.selectors(view, "ts_src"),
            destination: try Self.selectors(view, "ts_dst"))
        parameters.lifetimes = try Self.lifetimes(view)
        parameters.headers = try Self.headers(view, parameters.source.family)
        let keys = try KeyMaterial(view, transform)
        self.init(
            name: try view.optionalText("name"), parameters: parameters, place: view.place,
            keys: keys)
        // Sending has the fewer conditions (a window of 0 is no matter); what receiving needs
        // beyond them is checked when an inbound association is asked for.
        let standIn = allowsReservedSPI && spi.isReserved ? SPI(256) : nil
        _ = try makeAssociation(direction: .outbound, standIn: standIn)
        self.parameters.direction = .inbound
    }

    private static func required<Choice>(
        _ view: JSONView, _ name: String, _ choices: [(word: String, value: Choice)]
    ) throws(FieldError) -> Choice {
        guard let choice = try view.optionalChoice(name, choices) else { throw view.missing(name) }
        return choice
    }

    /// Eight digits, or up to eight behind "0x": "1000" alone could be meant as a decimal number.
    private static func spi(_ view: JSONView) throws(FieldError) -> SPI {
        let text = try view.text("spi")
        let hasPrefix = text.hasPrefix("0x")
        let digits = hasPrefix ? text.dropFirst(2) : text[...]
        guard hasPrefix ? (1...8).contains(digits.utf8.count) : digits.utf8.count == 8,
            digits.allSatisfy({ $0.isASCII && $0.isHexDigit }),
            let value = UInt32(digits, radix: 16)
        else {
            throw view.refuse(
                "spi", .notHexadecimal,
                "\(quoted(text)) is not an SPI: write eight hexadecimal digits, as \"c0ffee01\"")
        }
        return SPI(value)
    }

    private static func address(_ view: JSONView, _ name: String) throws(FieldError) -> IPAddress {
        let text = try view.text(name)
        guard let address = IPAddress(text) else {
            throw view.refuse(
                name, .unknownValue,
                "\(quoted(text)) is not an IPv4 or IPv6 address: correct it")
        }
        return address
    }

    private static func transform(_ view: JSONView) throws(FieldError) -> Transform {
        let encryption = try required(
            view, "encr", EncryptionAlgorithm.allCases.map { ($0.rawValue, $0) })
        let integrity = try view.optionalChoice(
            "integ", IntegrityAlgorithm.allCases.map { ($0.rawValue, $0) })
        let keyBits = try view.number("key_bits", in: 0...4096)
        let transform: Transform
        do throws(TransformError) {
            transform = try Transform(encryption, keyBits: Int(keyBits), integrity: integrity)
        } catch {
            switch error {
            case .keyLength: throw view.refuse("key_bits", .keyLength, "\(error)")
            case .integrityMissing: throw view.refuse("integ", .missingField, "\(error)")
            case .integrityNotAllowed: throw view.refuse("integ", .contradiction, "\(error)")
            }
        }
        if let octets = try view.optionalNumber("icv_len"), octets != UInt64(transform.icvBytes) {
            throw view.refuse(
                "icv_len", .contradiction,
                "\(octets) octets, but \(transform) has \(transform.icvBytes): correct one of "
                    + "them, or leave icv_len out")
        }
        return transform
    }

    /// 48 bits of an 8-octet IV are the sequence number, the others the owner's generation: a
    /// higher number would have no IV of its own.
    private static func requireIV(
        _ view: JSONView, _ parameters: AssociationParameters
    ) throws(FieldError) {
        let last: UInt64 = 1 << 48 - 1
        guard parameters.usesESN, parameters.transform.usesCounterIV,
            parameters.firstSequence > last
        else { return }
        throw view.refuse(
            "first_seq", .outOfRange,
            "\(parameters.firstSequence) is not possible: \(parameters.transform) has IVs for "
                + "sequence numbers up to \(last) only, so use at most that")
    }

    private static func ports(_ view: JSONView) throws(FieldError) -> UDPPorts? {
        let source = try view.optionalNumber("sport", in: 1...65_535)
        let destination = try view.optionalNumber("dport", in: 1...65_535)
        guard let source, let destination else {
            guard source == nil, destination == nil else {
                throw view.refuse(
                    source == nil ? "sport" : "dport", .missingField,
                    "missing: ESP in UDP needs both sport and dport, ESP without UDP neither")
            }
            return nil
        }
        // Receivers tell ESP in UDP by this port alone.
        guard source == UDPPort.natTraversal || destination == UDPPort.natTraversal else {
            throw view.refuse(
                "dport", .contradiction,
                "\(destination), and sport \(source): ESP in UDP has port 4500 on one side at "
                    + "least (RFC 3948 §2), so use it, or leave both out for ESP without UDP")
        }
        return UDPPorts(source: UInt16(source), destination: UInt16(destination))
    }

    private static func selectors(
        _ view: JSONView, _ name: String
    ) throws(FieldError) -> [TrafficSelector] {
        guard let texts = try view.optionalTexts(name) else { return [] }
        guard !texts.isEmpty else {
            throw view.refuse(
                name, .contradiction,
                "an empty list would allow nothing: leave the field out to allow everything")
        }
        var selectors: [TrafficSelector] = []
        for (index, text) in texts.enumerated() {
            do throws(TrafficSelectorTextError) {
                selectors.append(try TrafficSelector(parsing: text))
            } catch {
                throw view.refuse("\(name)[\(index)]", .unknownValue, "\(error)")
            }
        }
        return selectors
    }

    private static func lifetimes(_ view: JSONView) throws(FieldError) -> Lifetimes {
        var lifetimes = Lifetimes()
        guard let view = try view.optionalView("lifetime") else { return lifetimes }
        try view.requireKnown([
            "soft_packets", "hard_packets", "soft_bytes", "hard_bytes", "soft_seconds",
            "hard_seconds",
        ])
        (lifetimes.softPackets, lifetimes.hardPackets) = try limits(view, "packets")
        (lifetimes.softBytes, lifetimes.hardBytes) = try limits(view, "bytes")
        (lifetimes.softNanoseconds, lifetimes.hardNanoseconds) =
            try limits(view, "seconds", unit: 1_000_000_000)
        return lifetimes
    }

    /// A soft and a hard limit in units; absent: none.
    private static func limits(
        _ view: JSONView, _ name: String, unit: UInt64 = 1
    ) throws(FieldError) -> (soft: UInt64, hard: UInt64) {
        let range = 1...UInt64.max / unit
        let soft = try view.optionalNumber("soft_\(name)", in: range)
        let hard = try view.optionalNumber("hard_\(name)", in: range)
        if let soft, let hard, soft > hard {
            throw view.refuse(
                "soft_\(name)", .contradiction,
                "\(soft) is above hard_\(name), so it would never be reached: use less than "
                    + "\(hard)")
        }
        return (soft.map { $0 * unit } ?? .max, hard.map { $0 * unit } ?? .max)
    }

    private static func headers(
        _ view: JSONView, _ family: IPAddress.Family
    ) throws(FieldError) -> TunnelHeaderPolicy {
        var headers = TunnelHeaderPolicy()
        if let octets = try view.optionalNumber("tfc_bytes", in: 0...65_535) {
            headers.tfcBytes = UInt16(octets)
        }
        headers.dscp = try view.optionalNumber("dscp", in: 0...63).map(UInt8.init)
        if let ecn: TunnelHeaderPolicy.ECN = try view.optionalChoice(
            "ecn", [("normal", .normal), ("compatibility", .compatibility)])
        {
            headers.ecn = ecn
        }
        if let dontFragment: TunnelHeaderPolicy.DontFragment = try view.optionalChoice(
            "df", [("copy", .copy), ("set", .set), ("clear", .clear)])
        {
            headers.dontFragment = dontFragment
        }
        if case .string = view["hop_limit"] {
            let copied: UInt8? = nil
            headers.hopLimit = try required(view, "hop_limit", [("copy", copied)])
        } else if let limit = try view.optionalNumber("hop_limit", in: 1...255) {
            headers.hopLimit = UInt8(limit)
        }
        // The smallest that a link may have: RFC 791 §3.2, RFC 8200 §5.
        let smallest: UInt64 = family == .v4 ? 68 : 1280
        if let octets = try view.optionalNumber("path_mtu", in: smallest...65_535) {
            headers.pathMTU = UInt16(octets)
        }
        return headers
    }
}
