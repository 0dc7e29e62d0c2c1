// `spindle bench ike`: how fast IKE SAs are set up, and what they take while they live.

import ArgumentParser
import Crypto
import ESP
import IKEStub
import Wire

struct BenchIKECommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ike",
        abstract: "Whole set-ups per second beside the key agreement alone, and memory per IKE SA.",
        discussion: """
            Two endpoints in one process set up IKE SAs with one pair of CHILD SAs each \
            (IKE_SA_INIT and IKE_AUTH, pre-shared key), without sockets. A set-up takes two key \
            pairs and two agreements; "bound" is what OpenSSL's calls for these alone would allow. \
            Both are measured in turns, in CPU time of the thread; told are medians. Then all IKE \
            SAs stay, and the memory of both ends and the cost of an idle second are measured.
            """)

    @Option(help: "Set-ups per round.")
    var setups = 200

    @Option(help: "Rounds.")
    var rounds = 25

    @Option(help: "IKE SAs that are kept for the memory figures.")
    var associations = 10_000

    @Option(help: "Proposal of the IKE SA, in strongSwan's words.")
    var proposal = "aes256gcm16-prfsha384-x25519"

    @Flag(help: "Print one JSON object instead of text.")
    var json = false

    func validate() throws {
        guard (1...100_000).contains(setups), (1...10_000).contains(rounds) else {
            throw ValidationError("--setups and --rounds must be from 1 to 100000 and 10000")
        }
        guard (1...100_000).contains(associations) else {
            throw ValidationError("--associations must be from 1 to 100000")
        }
    }

    func run() throws {
        let policy: ProposalPolicy
        do throws(ProposalTextFault) {
            policy = try ProposalPolicy(proposal, for: .ike)
        } catch {
            throw ValidationError("--proposal \(proposal): \(error)")
        }
        let report = try IKEBench(policy).measure(
            setups: setups, rounds: rounds, associations: associations)
        if json { return try printJSON(report) }
        var table = TextTable("set-ups, \(policy)", "per second", "µs each")
        for (name, rate) in [
            ("whole, both ends", report.setupsPerSecond), ("bound", report.boundPerSecond),
        ] {
            table.add(name, "\(Int(rate))", hundredths(1e6 / rate))
        }
        table.lines().forEach { print($0) }
        print("whole / bound: \(hundredths(report.setupsPerSecond / report.boundPerSecond))")
        print(
            "\(report.associations) IKE SAs with one pair each: "
                + "\(report.bytesPerAssociation) octets each and end; "
                + "idle, with signs of life every 30 s, \(hundredths(report.idlePercent)) % of "
                + "a core at each end")
    }
}

struct IKEBenchReport: Encodable {
    let setupsPerSecond: Double
    let boundPerSecond: Double
    let associations: Int
    let bytesPerAssociation: Int
    /// CPU time of one end in per cent of the time that passes, nothing but liveness going on.
    let idlePercent: Double
}

/// Two endpoints back to back.
final class IKEBench {
    private let policy: ProposalPolicy
    private let library: CryptoLibrary
    /// The left end stands for many peers.
    private let peers: IKEEnvironment
    private var left: IKEEndpoint
    private var right: IKEEndpoint
    private var now: UInt64 = 1
    private var host: UInt32 = 0

    init(_ policy: ProposalPolicy) throws {
        self.policy = policy
        library = try CryptoLibrary()
        peers = try Self.environment(policy, isLeft: true, library)
        left = IKEEndpoint(peers, now: 0)
        right = IKEEndpoint(try Self.environment(policy, isLeft: false, library), now: 0)
    }

    /// `peer`: which of the left ones begins next.
    private static func configuration(
        _ policy: ProposalPolicy, isLeft: Bool, peer: UInt32 = 0
    ) throws -> IKEConfiguration {
        let child = ChildPolicy(
            name: "net", proposals: [try ProposalPolicy("aes256gcm16", for: .child)],
            local: .dynamic, remote: .dynamic)
        var connection = Connection(
            name: "peer", proposals: [policy],
            localIdentity: .fqdn(isLeft ? "left-\(peer).bench" : "right.bench"),
            remoteIdentity: isLeft ? .exactly(.fqdn("right.bench")) : .any,
            localAuthentication: .presharedKey, remoteAuthentication: .presharedKey,
            children: [child])
        if isLeft { connection.associationsPerIdentity = .max }
        var secret = SecretBytes(count: 32)
        secret.withUnsafeMutableBytes { bytes in
            for index in bytes.indices { bytes[index] = UInt8(index) }
        }
        var limits = IKELimits()
        limits.cookiesAbove = .max
        return IKEConfiguration(
            connections: [connection],
            presharedKeys: [PresharedKey(identities: [], secret: SharedSecret(secret))],
            limits: limits)
    }

    private static func environment(
        _ policy: ProposalPolicy, isLeft: Bool, _ library: CryptoLibrary
    ) throws -> IKEEnvironment {
        IKEEnvironment(
            library: library, configuration: try configuration(policy, isLeft: isLeft),
            random: SystemRandomSource(), resources: LocalResources(capacity: .max))
    }

    /// One set-up from an address of its own; without INITIAL_CONTACT's search it costs the same
    /// whatever is there already.
    private func setUp() throws {
        host += 1
        let path = IKEPath(
            local: IPAddress(v4: 0x0A00_0000 + host), localPort: 500,
            remote: IPAddress(v4: 0xC000_0202), remotePort: 500, hasMarker: false)
        now += 1000
        peers.configuration = try Self.configuration(policy, isLeft: true, peer: host)
        guard
            let (_, outcome) = left.initiate(
                "peer", child: "net", path: path, now: now, seconds: 0)
        else { throw CommandError("the bench's own connection is missing") }
        try carry(outcome, toRight: true)
    }

    private func carry(_ outcome: IKEOutcome, toRight: Bool) throws {
        for event in outcome.events {
            switch event {
            case .send(let datagrams, let path):
                let back = IKEPath(
                    local: path.remote, localPort: path.remotePort, remote: path.local,
                    remotePort: path.localPort, hasMarker: path.hasMarker)
                for datagram in datagrams {
                    let next = datagram.withUnsafeBytes {
                        (toRight ? right : left).receive($0, path: back, now: now, seconds: 0)
                    }
                    try carry(next, toRight: !toRight)
                }
            case .report(let report) where report.level == .warning:
                throw CommandError("a set-up failed: \(report)")
            default: break
            }
        }
    }

    func measure(setups: Int, rounds: Int, associations: Int) throws -> IKEBenchReport {
        var whole: [Double] = []
        var bound: [Double] = []
        for _ in 0..<rounds {
            let start = threadNanoseconds()
            for _ in 0..<setups { try setUp() }
            whole.append(Double(threadNanoseconds() - start) / Double(setups))
            guard left.count == setups, right.count == setups else {
                throw CommandError("\(setups) set-ups left \(right.count) IKE SAs")
            }
            left = IKEEndpoint(peers, now: now)
            right = IKEEndpoint(
                try Self.environment(policy, isLeft: false, library), now: now)
            bound.append(try agreements(setups))
        }
        let before = residentBytes()
        for _ in 0..<associations { try setUp() }
        let bytes = max(0, residentBytes() - before) / (2 * associations)
        return IKEBenchReport(
            setupsPerSecond: 1e9 / median(whole), boundPerSecond: 1e9 / median(bound),
            associations: associations, bytesPerAssociation: bytes, idlePercent: try idle())
    }

    /// Lets time pass until every IKE SA has asked for a sign of life some times.
    private func idle() throws -> Double {
        let seconds: UInt64 = 120
        let end = now + seconds * 1_000_000_000
        let start = threadNanoseconds()
        while let due = [left.deadline, right.deadline].compactMap({ $0 }).min(), due < end {
            now = max(now, due)
            try carry(left.advance(to: now, seconds: 0), toRight: true)
            try carry(right.advance(to: now, seconds: 0), toRight: false)
        }
        let spent = Double(threadNanoseconds() - start) / 2
        return 100 * spent / Double(seconds * 1_000_000_000)
    }

    /// Nanoseconds of what a set-up takes of key agreements: a key pair and an agreement at each
    /// end.
    private func agreements(_ count: Int) throws -> Double {
        let group = policy.groups[0]
        var random = SystemRandomSource()
        let start = threadNanoseconds()
        for _ in 0..<count {
            let one = try KeyAgreement(group, random: &random)
            let other = try KeyAgreement(group, random: &random)
            let first = try one.sharedSecret(other.publicValue)
            let second = try other.sharedSecret(one.publicValue)
            guard first.count == second.count else { throw CommandError("secrets differ") }
        }
        return Double(threadNanoseconds() - start) / Double(count)
    }
}
