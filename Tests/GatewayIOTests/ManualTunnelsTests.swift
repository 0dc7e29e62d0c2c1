// What the store remembers of manually keyed tunnels.
//
// What would fool us: a start that ended half way and looks like a tunnel that was served; keys
// that come back under other settings; a store that tells keys to whoever reads the disk.

import Cluster
import Crypto
import ESP
import Foundation
import Gateway
import TestSupport
import Testing
import Wire

@testable import GatewayIO

@Suite struct ManualTunnelsTests {
    private static let key = "00112233445566778899aabbccddee"
    private static let addresses = [IPAddress(v4: 0xC000_0201)]

    /// Two associations of one tunnel; `last` is the last octet of the sending key.
    private func file(last: String = "ff", mode: String = "tunnel") throws -> AssociationFile {
        func association(_ spi: String, _ ends: [String], _ key: String) -> String {
            """
            {"spi": "\(spi)", "src": "\(ends[0])", "dst": "\(ends[1])", "mode": "\(mode)",
             "encr": "AES_GCM_16", "key_bits": 128, "encr_key": "\(key)", "salt": "01020304",
             "esn": false}
            """
        }
        let (ours, peer) = ("192.0.2.1", "192.0.2.2")
        let all = [
            association("00001001", [peer, ours], Self.key + "00"),
            association("00001002", [ours, peer], Self.key + last),
        ]
        let text = "{\"esp\": [\(all.joined(separator: ","))]}"
        return try AssociationFile(json: Array(text.utf8), name: "sas.json")
    }

    /// One life of a node: what was new, and where its numbers begin.
    private func live(
        _ path: String, _ file: AssociationFile?, notes: Bool = true
    ) throws -> (new: Int, next: UInt64?) {
        var random = SystemRandomSource()
        let journal = try StateJournal(path: path, random: &random)
        var store = try journal.takeStore()
        var manual = try ManualTunnels(file, addresses: Self.addresses, journal)
        try manual.reconcile(&store, file: "sas.json")
        let member = try SoleMember(
            capacity: 10, journal: journal, store: store, ike: nil,
            library: CryptoLibrary(), random: &random, now: 1)
        let now = member.founded
        for item in manual.new {
            let outbound = try #require(item.tunnel.outbound)
            let refusal = member.establish(
                inbound: try item.tunnel.inbound.association(
                    direction: .inbound, createdNanoseconds: now),
                outbound: try outbound.association(direction: .outbound, createdNanoseconds: now),
                replacing: nil, now)
            try #require(refusal == nil)
            if notes { #expect(member.keep(ManualTunnels.note(item), now)) }
        }
        let status = member.gateway.status(of: SPI(0x1001))
        return (manual.new.count, status?.sent.map { $0.sequence + 1 })
    }

    @Test func keysGoOnOrAreRefused() throws {
        let path = NSTemporaryDirectory() + "spindle-manual-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        // A start that ended before the tunnel was in the book: nothing was sent.
        #expect(try live(path, file(), notes: false) == (1, 1))
        #expect(try live(path, file()) == (1, 1))
        let second = try live(path, file())
        #expect(second.new == 0 && (second.next ?? 0) > 65_536)
        #expect(
            throws: NodeError.state(
                .keysUsed(file: "sas.json", spi: "00001001", change: .otherwise))
        ) { try live(path, file(mode: "transport")) }
        // One new key of two is not enough: the other's numbers are bound to the tunnel.
        #expect(throws: NodeError.self) { try live(path, file(last: "fe")) }
        #expect((try live(path, file()).next ?? 0) > (second.next ?? 0))

        // Taken out, and put in again.
        #expect(try live(path, nil) == (0, nil))
        #expect(
            throws: NodeError.state(
                .keysUsed(file: "sas.json", spi: "00001001", change: .before))
        ) { try live(path, file()) }

        let octets = try Data(contentsOf: URL(filePath: path + "/store"))
        #expect(octets.count > 100 && !contains(Array(octets), hex(Self.key).prefix(8)))
    }
}
