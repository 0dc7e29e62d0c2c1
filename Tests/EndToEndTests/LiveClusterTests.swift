// Real nodes, real peers, a kill: the tunnels go on.
//
// What would fool us: tunnels that strongSwan set up anew (its SPIs must stay), traffic that
// another path carries (only the tunnels lead to the peer's addresses), a node that had no tunnel
// (the one with most is killed), pings that were lost and not missed (they are numbered, and
// strongSwan answers, not we), a drain that only seems to lose nothing since nothing moved.

import Foundation
import Testing

@Suite(.serialized, .enabled(if: ClusterLab.isPossible, LiveLab.absence))
struct LiveClusterTests {
    private static let tunnels = 6

    /// Three nodes, all with their share of the tunnels.
    private func begin() throws -> (lab: ClusterLab, peers: Daemon) {
        let lab = try ClusterLab(nodes: 3, tunnels: Self.tunnels)
        for number in 1...3 { try lab.startNode(number) }
        try lab.waitUntil("three nodes serve: \(lab.told(1))") {
            (1...3).allSatisfy { lab.told($0).contains("serving: ") }
        }
        let peers = try lab.startPeers(Self.tunnels)
        try lab.waitUntil("all tunnels are up: \(lab.told(1)) \(lab.told(2)) \(lab.told(3))") {
            try lab.peerAssociations().count == 3 * Self.tunnels
        }
        return (lab, peers)
    }

    /// Sent and received, as ping sums up.
    private func result(_ ping: Daemon, _ lab: ClusterLab) throws -> (sent: Int, received: Int) {
        // However fast the rest was: enough for the numbers to mean something.
        try lab.waitUntil("many pings came back") {
            ping.text.components(separatedBy: "icmp_seq=").count > 120
        }
        ping.signal(SIGINT)
        try ping.waitFor("packet loss")
        let words = ping.text.split { " \n".contains($0) }
        guard let sent = words.firstIndex(of: "packets"),
            let received = words.firstIndex(of: "received,")
        else { throw RunError(description: ping.text) }
        return (Int(words[sent - 1]) ?? 0, Int(words[received - 1]) ?? 0)
    }

    private func busiest(_ lab: ClusterLab) throws -> Int {
        let counts = try lab.nodes.keys.map { ($0, try lab.associations(of: $0).count) }
        let most = try #require(counts.max { $0.1 < $1.1 })
        try #require(most.1 > 0)
        return most.0
    }

    private func waitForAnswers(_ pings: [Daemon], _ lab: ClusterLab) throws {
        // What a log shows from here on came later.
        let seen = pings.map { $0.text.utf8.count }
        try lab.waitUntil("every tunnel carries packets") {
            zip(pings, seen).allSatisfy { $0.text.utf8.count > $1 + 500 }
        }
    }

    /// A stream each way, and datagrams. The server's device leaves checksums to others, and gives
    /// what the kernel has joined.
    private func sendStream(_ lab: ClusterLab) throws {
        let server = try lab.start(
            in: "server",
            [Program.python, LiveLab.path(of: "stream.py"), "serve", "10.88.0.2", "7000"],
            log: "stream.log")
        try server.waitFor("listening")
        let outcome = try lab.run(
            in: "peer",
            [
                Program.python, LiveLab.path(of: "stream.py"), "send", "10.101.1.1", "10.88.0.2",
                "7000", "2000000",
            ])
        #expect(outcome.code == 0, "\(outcome.testDescription) \(server.text)")
    }

    @Test func nobodyNoticesThatANodeDies() throws {
        let (lab, peers) = try begin()
        defer { _ = peers.stop() }
        let before = try lab.peerAssociations()
        let pings = try (1...Self.tunnels).map { try lab.ping(tunnel: $0) }
        try waitForAnswers(pings, lab)

        let victim = try busiest(lab)
        lab.nodes[victim]?.kill()
        let others = (1...3).filter { $0 != victim }
        try lab.waitUntil("the others took over: \(others.map(lab.told))") {
            try others.map { try lab.associations(of: $0).count }.reduce(0, +) == Self.tunnels
        }
        try waitForAnswers(pings, lab)
        #expect(try lab.peerAssociations() == before, "\(others.map(lab.told))")

        try lab.startNode(victim)
        try lab.waitUntil("the node is back: \(lab.told(victim))") {
            lab.told(victim).contains("serving: ")
        }
        try waitForAnswers(pings, lab)
        #expect(try lab.peerAssociations() == before, "\(lab.told(victim))")
        for ping in pings {
            let (sent, received) = try result(ping, lab)
            #expect(received > 100 && sent - received < 250, "\(sent) sent, \(received) received")
        }
    }

    @Test func aNodeThatLeavesLosesNothing() throws {
        let (lab, peers) = try begin()
        defer { _ = peers.stop() }
        let before = try lab.peerAssociations()
        // Longer than a tunnel takes: fragments that are cut again go in, fragments come out.
        for fromServer in [true, false] {
            let (received, text) = try lab.pingOnce(
                tunnel: 1, bytes: 3000, fromServer: fromServer)
            #expect(received == 5, "\(text) \((1...3).map(lab.told))")
        }
        try sendStream(lab)
        // Every node hears all of the inner segment, and some sent into it.
        let told = try (1...3).map { number in
            try Program.spindle(
                ["status", "--json", "--socket", lab.scratch.path("n\(number).control")]
            ).text
        }
        #expect(told.allSatisfy { $0.contains("segment.inside.captured") }, "\(told)")
        #expect(told.contains { $0.contains("segment.inside.sent") }, "\(told)")
        let pings = try (1...Self.tunnels).map { try lab.ping(tunnel: $0) }
        try waitForAnswers(pings, lab)
        let leaver = try busiest(lab)
        #expect(lab.nodes[leaver]?.stop() == 0, "\(lab.told(leaver))")
        #expect(lab.told(leaver).contains("leaving"), "\(lab.told(leaver))")
        try waitForAnswers(pings, lab)
        for ping in pings {
            let (sent, received) = try result(ping, lab)
            // The last one may be under way.
            #expect(received > 50 && sent - received <= 1, "\(sent) sent, \(received) received")
        }
        #expect(try lab.peerAssociations() == before)
    }
}
