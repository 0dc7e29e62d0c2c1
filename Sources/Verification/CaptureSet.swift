// A capture with its keys: NAME.json names the pcap and every association, NAME.verify.json what an
// independent reader made of each packet. Every ESP packet is opened in the order of the capture,
// by one packet path that holds all associations.

internal import Crypto
internal import ESP
internal import GatewayIO
internal import Wire

/// One such set.
struct CaptureSet {
    static let companionSuffix = ".verify.json"

    private let path: String
    private let pcap: String
    private let association: AssociationFile
    private let expected: [Int: Expectation]
    private let modes: [SPI: Mode]

    /// What the independent reader found in one frame.
    private struct Expectation {
        let spi: String
        let sequence: UInt64
        let innerBytes: Int
        let digest: String
        let nextHeader: UInt8?
        let padBytes: UInt8?
        let espBytes: Int?
    }

    init(path: String, _ value: JSONValue, _ view: JSONView) throws(FieldError) {
        self.path = path
        let name = try view.text("pcap")
        guard !name.isEmpty, !name.contains("/"), !name.contains("\0") else {
            throw view.refuse("pcap", .unknownValue, "not a file beside this one: name one")
        }
        let directory = path.lastIndex(of: "/").map { path[...$0] } ?? ""
        pcap = directory + name
        do throws(AssociationFileError) {
            association = try AssociationFile(value: value, name: path)
        } catch {
            throw FieldError(error.code, error.place, error.text)
        }
        modes = Dictionary(
            uniqueKeysWithValues: association.entries.map { ($0.spi, $0.parameters.mode) })
        let stem = path.hasSuffix(".json") ? String(path.dropLast(5)) : path
        expected = try Self.read(stem + Self.companionSuffix)
    }

    private static func read(_ path: String) throws(FieldError) -> [Int: Expectation] {
        let place = printable(path: path)
        let value: JSONValue
        do {
            value = try JSONReader.parse(try TextFile.read(path: path))
        } catch let error as JSONSyntaxError {
            throw FieldError(
                .notJSON, "\(place): line \(error.line), column \(error.column)",
                "not JSON: \(error.text)")
        } catch {
            throw FieldError(
                .notFound, place, "can't be read, but tells what the capture holds: add it")
        }
        var expected: [Int: Expectation] = [:]
        for packet in try JSONView(value, place: "").views("packets") {
            let frame = Int(try packet.number("frame", in: 1...UInt64(UInt32.max)))
            let expectation = Expectation(
                spi: try packet.text("spi"), sequence: try packet.number("seq"),
                innerBytes: Int(try packet.number("len", in: 0...100_000)),
                digest: try packet.text("sha256"),
                nextHeader: try packet.optionalNumber("next_header", in: 0...255).map(UInt8.init),
                padBytes: try packet.optionalNumber("pad", in: 0...255).map(UInt8.init),
                espBytes: try packet.optionalNumber("esp_len", in: 0...100_000).map(Int.init))
            guard expected.updateValue(expectation, forKey: frame) == nil else {
                throw FieldError(
                    .contradiction, "\(place): \(packet.place(of: "frame"))",
                    "\(frame) stands in an earlier packet too: correct it")
            }
        }
        return expected
    }

    func run(library: CryptoLibrary) throws(FieldError) -> FileReport {
        var report = FileReport(path: path, kind: "capture")
        let packets = PacketPath(capacity: association.entries.count, library: library)
        for entry in association.entries {
            let inbound = try entry.makeAssociation(direction: .inbound)
            guard packets.insert(inbound, spi: entry.spi) != nil else {
                throw FieldError(.contradiction, "esp", "more policies than a node can hold")
            }
        }
        let digest: NamedDigest
        do throws(CryptoError) {
            digest = try NamedDigest(name: "SHA2-256")
        } catch {
            throw FieldError(.unreadable, "", "\(error)")
        }
        do throws(CaptureError) {
            try run(packets, digest, &report)
        } catch {
            throw FieldError(.unreadable, "pcap", "\(error)")
        }
        return report
    }

    private func run(
        _ packets: PacketPath, _ digest: borrowing NamedDigest, _ report: inout FileReport
    ) throws(CaptureError) {
        var reader = try CaptureReader(path: pcap)
        let linkType = reader.linkType
        var frame: [UInt8] = []
        var missing = expected
        while let captured = try reader.next(into: &frame) {
            let place = frame.withUnsafeBytes { linkType.networkPacket(in: $0) }
            guard case .found(let range) = place else { continue }
            let packet = Array(frame[range])
            let outer = packet.withUnsafeBytes { bytes in
                bytes.baseAddress.map { OuterPacket.classify(at: $0, count: bytes.count) }
            }
            guard case .esp = outer else { continue }
            let name = "frame \(captured.number)"
            if let expectation = missing.removeValue(forKey: captured.number) {
                report.record(name, check(packets, packet, expectation, digest))
            } else {
                report.record(name, "an ESP packet that NAME\(Self.companionSuffix) does not list")
            }
        }
        for frame in missing.keys.sorted() {
            report.record("frame \(frame)", "expected an ESP packet, but the capture has none")
        }
    }

    /// nil when the packet opens to what was expected.
    private func check(
        _ packets: PacketPath, _ packet: [UInt8], _ expected: Expectation,
        _ digest: borrowing NamedDigest
    ) -> String? {
        let opened = packets.open(packet)
        if let refusal = opened.refusal { return "expected a packet, got \(refusal)" }
        guard let location = opened.location, let handle = opened.handle,
            let payloadBytes = opened.payloadBytes
        else { return "expected ESP" }
        guard location.spi.description == expected.spi else {
            return "expected SPI \(expected.spi), got \(location.spi)"
        }
        // A late packet leaves the window's edge where it is; its own number is authenticated.
        let highest = packets.sequence(of: handle)
        guard UInt64(location.sequence) == expected.sequence & 0xFFFF_FFFF,
            expected.sequence <= highest, highest - expected.sequence < 4096
        else {
            return "expected sequence number \(expected.sequence), got "
                + "\(location.sequence) with the window at \(highest)"
        }
        let espBytes = Int(location.end) - Int(location.espOffset)
        if let wanted = expected.espBytes, wanted != espBytes {
            return "expected \(wanted) octets of ESP, got \(espBytes)"
        }
        let nextHeader = opened.body[opened.body.count - 1]
        if let wanted = expected.nextHeader, wanted != nextHeader {
            return "expected next header \(wanted), got \(nextHeader)"
        }
        let padBytes = opened.body.count - 2 - payloadBytes
        if let wanted = expected.padBytes, Int(wanted) != padBytes {
            return "expected \(wanted) octets of padding, got \(padBytes)"
        }
        // In transport mode the independent reader looks at the payload only.
        let isTunnel = modes[location.spi] == .tunnel
        let inner = Array(opened.inner.dropFirst(isTunnel ? 0 : Int(location.headerLength)))
        guard inner.count == expected.innerBytes else {
            return "expected \(expected.innerBytes) octets inside, got \(inner.count)"
        }
        let hash = inner.withUnsafeBytes { try? digest.hash($0) }
        return hash.map(hexadecimal) == expected.digest
            ? nil : "the inner packet's SHA-256 is not \(expected.digest)"
    }
}
