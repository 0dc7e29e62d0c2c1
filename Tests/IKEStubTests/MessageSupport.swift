import Crypto
import ESP
import IKEStub
import TestSupport
import Wire

let cookies: (initiator: UInt64, responder: UInt64) = (0x1122_3344_5566_7788, 0x99AA_BBCC_DDEE_FF00)

func address(_ text: String) throws -> IPAddress {
    guard let address = IPAddress(text) else { throw MessageTestError.address(text) }
    return address
}

enum MessageTestError: Error { case address(String), selector, suite }

func selector(
    _ first: String, _ last: String, ipProtocol: UInt8 = 0, ports: ClosedRange<UInt16> = 0...0xFFFF
) throws -> TrafficSelector {
    let selector = TrafficSelector(
        first: try address(first), last: try address(last), ipProtocol: ipProtocol,
        firstPort: ports.lowerBound, lastPort: ports.upperBound)
    guard let selector else { throw MessageTestError.selector }
    return selector
}

/// Every payload there is, with values that other readers know too.
func everyPayload() throws -> [Payload] {
    let transforms = [
        ProposalTransform(.encryption, id: 20, keyBits: 256),
        ProposalTransform(.pseudoRandomFunction, id: 5),
        ProposalTransform(.keyAgreement, id: 31),
    ]
    let child = [
        ProposalTransform(.encryption, id: 12, keyBits: 128),
        ProposalTransform(.integrity, id: 12), ProposalTransform(.extendedSequenceNumbers, id: 1),
    ]
    let subject = hex("300d310b3009060355040613024348")
    return [
        .securityAssociation([
            Proposal(number: 1, protocol: .ike, spi: [], transforms: transforms),
            Proposal(number: 2, protocol: .esp, spi: [1, 2, 3, 4], transforms: child),
        ]),
        .keyExchange(group: 31, data: Array(0..<32)),
        .initiatorIdentity(.ipv4(try address("192.0.2.1"))),
        .initiatorIdentity(.fqdn("gw.example.org")),
        .initiatorIdentity(.email("user@example.org")),
        .responderIdentity(.ipv6(try address("2001:db8::1"))),
        .responderIdentity(.distinguishedName(subject)),
        .responderIdentity(.keyID([1, 2, 3])),
        .certificate(encoding: 12, data: Array(0..<20) + octets("http://example.org/c")),
        .certificateRequest(encoding: 4, data: Array(0..<20)),
        .authentication(method: 2, data: Array(0..<32)),
        .nonce(Array(0..<32)),
        .notify(Notify(.natDetectionSourceIP, data: Array(0..<20))),
        .notify(Notify(.rekeySA, protocol: .esp, spi: [1, 2, 3, 4])),
        .delete(.ike),
        .delete(Delete(esp: [SPI(0x0102_0304), SPI(0xFFFF_FFFE)])),
        .vendorID(octets("a vendor")),
        .initiatorSelectors(
            SelectorList([
                try selector("10.1.0.0", "10.1.255.255"),
                try selector("10.2.0.1", "10.2.0.1", ipProtocol: 17, ports: 53...53),
            ])),
        .responderSelectors(SelectorList([try selector("fd00::", "fd00::ffff")])),
        .configuration(
            Configuration(
                .reply,
                [
                    .address(try address("10.9.0.7")), .address(try address("fd00::7")),
                    .dns(try address("10.9.0.1")), .dns(try address("fd00::1")),
                    .subnet(try address("10.9.3.0"), prefixLength: 16),
                    .subnet(try address("fd00::7"), prefixLength: 64),
                ])),
        .extensibleAuthentication([1, 7, 0, 5, 1]),
    ]
}

func message(
    _ payloads: [Payload], _ exchange: ExchangeType = .ikeAuth, id: UInt32 = 1,
    initiator: UInt64 = cookies.initiator
) -> IKEMessage {
    IKEMessage(
        initiatorSPI: initiator, responderSPI: cookies.responder, exchange: exchange,
        flags: .initiator, messageID: id, payloads: payloads)
}

func parse(_ octets: [UInt8]) throws -> ParsedMessage {
    try octets.withUnsafeBytes { try IKEMessage.read($0) }
}

/// The payload that a body is read as.
func read(_ type: PayloadType, _ body: [UInt8]) throws -> Payload {
    let payload = Payload.unknown(type: type.rawValue, isCritical: false, data: body)
    let payloads = try parse(message([payload]).encoded()).payloads
    guard payloads.count == 1 else { throw MessageTestError.suite }
    return payloads[0]
}

/// The octets behind header and payload header.
func body(_ payload: Payload) -> [UInt8] { Array(message([payload]).encoded()[32...]) }

func secret(copying octets: [UInt8]) -> SecretBytes {
    var secret = SecretBytes(count: octets.count)
    secret.withUnsafeMutableBytes { $0.copyBytes(from: octets) }
    return secret
}

/// Every combination of algorithms that protects messages.
let everySuite: [MessageSuite] = EncryptionAlgorithm.allCases.flatMap { encryption in
    encryption.keyBits.flatMap { bits in
        ([nil] + IntegrityAlgorithm.allCases).compactMap {
            MessageSuite(encryption, keyBits: bits, integrity: $0)
        }
    }
}
