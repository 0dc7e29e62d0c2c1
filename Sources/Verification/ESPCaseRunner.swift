// What is demanded of each ESP case, beyond the verdict: the octets delivered, the sequence number
// that the receiver took it for, the padding cut off, and that a refused packet leaves no
// plaintext.

import Crypto
import ESP
import GatewayIO
import Wire

/// Runs cases one by one on the same packet path.
struct ESPCaseRunner {
    private let path: PacketPath

    init(library: CryptoLibrary) { path = PacketPath(capacity: 1, library: library) }

    /// nil when every check holds.
    func run(_ test: ESPCase) throws(FieldError) -> String? {
        if test.opens, let difference = try open(test) { return "open: \(difference)" }
        if test.seals, let difference = try seal(test) { return "seal: \(difference)" }
        return nil
    }

    /// Puts the case's association in the path for the time of `body`.
    private func with(
        _ test: ESPCase, _ direction: Direction, firstSequence: UInt64,
        _ body: (AssociationHandle) -> String?
    ) throws(FieldError) -> String? {
        var entry = test.entry
        entry.parameters.firstSequence = firstSequence
        // No gateway agrees to a reserved SPI, but published packets have some.
        let standIn = entry.spi.isReserved ? SPI(256) : nil
        let association = try entry.makeAssociation(direction: direction, standIn: standIn)
        guard let handle = path.insert(association, spi: entry.spi) else {
            return "no room for the association"
        }
        defer { path.remove(handle) }
        return body(handle)
    }

    // MARK: Opening

    private func open(_ test: ESPCase) throws(FieldError) -> String? {
        let (first, overflows) = test.highest.addingReportingOverflow(1)
        if overflows { return "\"highest\" leaves no next number" }
        let outer: [UInt8]
        switch test.packet {
        case .outer(let packet): outer = packet
        case .esp(let esp):
            outer = withHeader(
                esp, ipProtocol: IPProtocol.esp, source: test.entry.parameters.source,
                destination: test.entry.parameters.destination)
        }
        return try with(test, .inbound, firstSequence: first) { handle in
            let opened = path.open(outer)
            let verdict = opened.refusal ?? ESPCase.accepted
            guard test.results.contains(verdict) else {
                return "expected \(test.results.joined(separator: " or ")), got \(verdict)"
            }
            if let difference = numberDifference(test, opened) { return difference }
            guard let plaintext = test.plaintext else {
                return refusedDifference(test, opened, outer, handle)
            }
            return deliveredDifference(test, plaintext, opened, handle)
        }
    }

    /// `sequence` is what the receiver must take the packet for, wherever the ICV is looked at.
    private func numberDifference(_ test: ESPCase, _ opened: OpenedPacket) -> String? {
        let early: [DropReason] = [
            .truncated, .malformed, .fragment, .ciphertextLength, .unknownSPI, .sequenceZero,
            .tooOld, .replayed,
        ]
        guard let location = opened.location,
            !early.contains(where: { $0.name == opened.refusal })
        else { return nil }
        let parameters = test.entry.parameters
        let window = ReplayWindow(
            bits: parameters.replayWindow, usesESN: parameters.usesESN, highest: test.highest)
        let verdict = window.check(location.sequence)
        guard case .accept(let full) = verdict, full == test.sequence else {
            return "expected sequence number \(test.sequence), got \(verdict)"
        }
        return nil
    }

    private func refusedDifference(
        _ test: ESPCase, _ opened: OpenedPacket, _ outer: [UInt8], _ handle: AssociationHandle
    ) -> String? {
        let wasAuthentic = ["padding", "dummy", "nextHeader", "innerMalformed", "ecn", "selector"]
            .contains(opened.refusal)
        let expected = wasAuthentic ? max(test.highest, test.sequence) : test.highest
        guard path.sequence(of: handle) == expected else {
            return "expected the window at \(expected), got \(path.sequence(of: handle))"
        }
        if opened.refusal == DropReason.integrity.name,
            !opened.body.allSatisfy({ $0 == 0 })
        {
            return "the refused packet's body was not wiped"
        }
        return nil
    }

    private func deliveredDifference(
        _ test: ESPCase, _ plaintext: ESPCase.Plaintext, _ opened: OpenedPacket,
        _ handle: AssociationHandle
    ) -> String? {
        let expected = max(test.highest, test.sequence)
        guard path.sequence(of: handle) == expected else {
            return "expected the window at \(expected), got \(path.sequence(of: handle))"
        }
        if let difference = difference("iv", expected: test.iv, got: opened.iv) {
            return difference
        }
        switch plaintext {
        case .inner(let inner):
            if let difference = difference("inner packet", expected: inner, got: opened.inner) {
                return difference
            }
            guard test.entry.parameters.mode == .tunnel else { return nil }
            let extra = (opened.payloadBytes ?? 0) - inner.count
            return extra == test.tfcBytes
                ? nil : "expected \(test.tfcBytes) octets of TFC padding, got \(extra)"
        case .payload(let payload, let nextHeader):
            let isV4 = test.entry.parameters.source.family == .v4
            let headerBytes = isV4 ? IPPacket.ipv4HeaderBytes : IPPacket.ipv6HeaderBytes
            guard opened.inner.count >= headerBytes else { return "no payload was delivered" }
            let got = opened.inner[isV4 ? 9 : 6]
            guard got == nextHeader else { return "expected next header \(nextHeader), got \(got)" }
            return difference(
                "payload", expected: payload, got: Array(opened.inner[headerBytes...]))
        }
    }

    // MARK: Sealing

    private func seal(_ test: ESPCase) throws(FieldError) -> String? {
        let parameters = test.entry.parameters
        guard test.iv.count == parameters.transform.ivBytes else {
            return "the IV has \(test.iv.count) octets, \(parameters.transform) needs "
                + "\(parameters.transform.ivBytes)"
        }
        let inner: [UInt8]
        switch test.plaintext {
        case .inner(let packet): inner = packet
        case .payload(let payload, let nextHeader):
            inner = withHeader(
                payload, ipProtocol: nextHeader, source: parameters.source,
                destination: parameters.destination)
        case nil: return "nothing to seal"
        }
        let expected: [UInt8]
        switch test.packet {
        case .esp(let esp): expected = esp
        case .outer(let outer):
            let place = outer.withUnsafeBytes { bytes in
                bytes.baseAddress.map { OuterPacket.classify(at: $0, count: bytes.count) }
            }
            guard case .esp(let location) = place else { return "\"outer\" is not ESP" }
            expected = Array(outer[Int(location.espOffset)..<Int(location.end)])
        }
        return try with(test, .outbound, firstSequence: test.sequence) { handle in
            let sealed = path.seal(inner, with: handle, iv: test.iv)
            if let refusal = sealed.refusal { return "expected a packet, got \(refusal)" }
            return difference("ESP", expected: expected, got: sealed.esp)
        }
    }
}
