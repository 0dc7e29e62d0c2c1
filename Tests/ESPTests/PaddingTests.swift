import TestSupport
import Testing
import Wire

@testable import ESP

@Suite struct PaddingTests {
    // What would fool us: a check that looks at short padding in one way and at long in another, or
    // at the octets in front of it. All lengths a packet can name, behind payloads of no, few and
    // many octets; next header 59, so that right padding shows as `dummy`.
    @Test(arguments: 0...11)
    func everyOctetCounts(payloadBytes: Int) throws {
        var random = SeededGenerator()
        let station = try Station()
        let handle = try station.add(parameters(0x1001, .inbound, .plain))
        var sequence: UInt32 = 0
        func drop(_ body: [UInt8]) throws -> DropReason? {
            sequence += 1
            return station.open(try craftESP(sequence: sequence, body: body), handle).drop
        }
        for count in 0...255 where (payloadBytes + count + 2) % 4 == 0 {
            // Octets in front that look like padding, and some that do not.
            let payload =
                Bool.random(using: &random)
                ? random.bytes(payloadBytes) : Array(repeating: 1, count: payloadBytes)
            let body = payload + (0..<count).map { UInt8($0 + 1) } + [UInt8(count), 59]
            #expect(try drop(body) == .dummy, "\(count) octets of padding")
            let places =
                count <= 20 ? Array(0..<count) : [0, 1, 2, 3, count / 2, count - 2, count - 1]
            for place in places {
                var wrong = body
                wrong[payloadBytes + place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                #expect(try drop(wrong) == .padding, "octet \(place) of \(count)")
            }
        }
    }

    @Test func paddingLongerThanThePayload() throws {
        let station = try Station()
        let handle = try station.add(parameters(0x1001, .inbound, .plain))
        var sequence: UInt32 = 0
        for length in stride(from: 4, through: 64, by: 4) {
            for count in 0...255 {
                sequence += 1
                var body = (0..<length).map { UInt8(truncatingIfNeeded: $0 + 1) }
                body[length - 2] = UInt8(count)
                body[length - 1] = 59
                let opened = station.open(try craftESP(sequence: sequence, body: body), handle)
                // 1, 2, 3, … from the first octet on: right only if it fills the whole body.
                let isRight = count == 0 || count == length - 2
                #expect(opened.drop == (isRight ? .dummy : .padding), "\(count) in \(length)")
            }
        }
    }
}
