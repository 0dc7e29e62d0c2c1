// Which MAC address an IP address of the segment has: ARP for IPv4 (RFC 826), neighbor discovery
// for IPv6 (RFC 4861 §7.3), with the states of the latter for both.
//
//     ask ──▶ incomplete ──answer──▶ reachable ──30 s──▶ stale ──used──▶ probing ──▶ forgotten
//                 │ 3 s                  ▲                                 │
//                 ▼                      └──────────────answer─────────────┘
//             unreachable, for 3 s
//
// A MAC address is learned from an answer to a question of ours only. RFC 826 would take it from
// any ARP message, RFC 4861 §7.2.5 from any advertisement that overrides; here such a message only
// makes an entry doubtful: its old address is asked. So a forger has to be faster than the
// neighbor at the moment we ask, and can't replace a neighbor that answers.

public import Wire

/// What a table says of a neighbor.
public enum NeighborAnswer: Equatable, Sendable {
    /// Send there.
    case address(MACAddress)
    /// It is being asked for: keep what is for it, or drop it.
    case pending
    /// It does not answer.
    case unreachable
    /// The table is full of neighbors that are in use.
    case tableFull
}

/// A question that has to be sent.
public struct NeighborQuestion: Equatable, Sendable {
    /// Who is asked for.
    public let address: IPAddress
    /// To whom the question goes; nil: to all.
    public let destination: MACAddress?
}

/// The neighbors of one interface.
public struct NeighborTable: Sendable {
    /// Times of RFC 4861 §10.
    public struct Timing: Equatable, Sendable {
        /// An answer holds so long.
        public var reachableNanoseconds: UInt64 = 30_000_000_000
        /// Between two questions.
        public var retransmitNanoseconds: UInt64 = 1_000_000_000
        /// Questions to all, or to the neighbor, before it is given up.
        public var questions = 3
        /// An entry that nobody used for so long is forgotten.
        public var idleNanoseconds: UInt64 = 600_000_000_000

        /// The defaults.
        public init() {}
    }

    private enum State: Equatable {
        case incomplete(asked: Int, next: UInt64)
        case reachable(until: UInt64)
        case stale
        case probing(asked: Int, next: UInt64)
        case unreachable(until: UInt64)
    }

    private struct Entry {
        var state: State
        var address = MACAddress(0)
        var used: UInt64
    }

    private let capacity: Int
    private let timing: Timing
    private let acceptsGroups: Bool
    private var entries: [IPAddress: Entry] = [:]
    private var questions: [NeighborQuestion] = []
    /// Messages that said something else than a neighbor itself did, or that told what nobody had
    /// asked.
    public private(set) var unasked: UInt64 = 0

    /// Holds at most `capacity` neighbors. `acceptsGroups`: a neighbor may have a group address, as
    /// another cluster like this one has; RFC 1812 §3.3.2 forbids to believe it.
    public init(capacity: Int = 1024, timing: Timing = Timing(), acceptsGroups: Bool = false) {
        self.capacity = capacity
        self.timing = timing
        self.acceptsGroups = acceptsGroups
    }

    /// Neighbors that are known or asked for.
    public var count: Int { entries.count }

    /// Where to send what is for `neighbor`, an address of the segment.
    public mutating func resolve(
        _ neighbor: IPAddress, nowNanoseconds now: UInt64
    ) -> NeighborAnswer {
        guard var entry = entries[neighbor] else {
            guard entries.count < capacity || forgetIdlest(nowNanoseconds: now) else {
                return .tableFull
            }
            entries[neighbor] = Entry(state: ask(neighbor, nil, 0, now), used: now)
            return .pending
        }
        entry.used = now
        switch entry.state {
        case .reachable(let until) where until <= now:
            entry.state = ask(neighbor, entry.address, 0, now)
        case .stale:
            entry.state = ask(neighbor, entry.address, 0, now)
        case .unreachable(let until) where until <= now:
            entry.state = ask(neighbor, nil, 0, now)
        default: break
        }
        entries[neighbor] = entry
        switch entry.state {
        case .incomplete: return .pending
        case .unreachable: return .unreachable
        case .reachable, .stale, .probing: return .address(entry.address)
        }
    }

    /// Puts the question into the list of those to send; the state that waits for the answer.
    private mutating func ask(
        _ neighbor: IPAddress, _ address: MACAddress?, _ asked: Int, _ now: UInt64
    ) -> State {
        questions.append(NeighborQuestion(address: neighbor, destination: address))
        let next = now &+ timing.retransmitNanoseconds
        return address == nil
            ? .incomplete(asked: asked + 1, next: next) : .probing(asked: asked + 1, next: next)
    }

    /// Asks again where an answer did not come, gives up, forgets.
    public mutating func tick(nowNanoseconds now: UInt64) {
        for neighbor in entries.keys.sorted(by: Self.isOrdered) {
            guard var entry = entries[neighbor] else { continue }
            switch entry.state {
            case .incomplete(let asked, let next) where next <= now:
                entry.state =
                    asked < timing.questions
                    ? ask(neighbor, nil, asked, now)
                    : .unreachable(until: now &+ 3 * timing.retransmitNanoseconds)
            case .probing(let asked, let next) where next <= now:
                // The neighbor may have got another card: all are asked then.
                entry.state =
                    asked < timing.questions
                    ? ask(neighbor, entry.address, asked, now) : ask(neighbor, nil, 0, now)
            default: break
            }
            let isIdle = now > entry.used && now - entry.used >= timing.idleNanoseconds
            entries[neighbor] = isIdle ? nil : entry
        }
    }

    /// When ``tick(nowNanoseconds:)`` has something to do; `UInt64.max`: never.
    public var nextDeadline: UInt64 {
        entries.values.reduce(.max) { earliest, entry in
            switch entry.state {
            case .incomplete(_, let next), .probing(_, let next): min(earliest, next)
            case .reachable, .stale, .unreachable:
                min(earliest, entry.used &+ timing.idleNanoseconds)
            }
        }
    }

    /// The questions to send; they are gone then.
    public mutating func takeQuestions() -> [NeighborQuestion] {
        defer { questions = [] }
        return questions
    }

    /// What somebody said: that `neighbor` is at `address`. `isAnswer`: to us. True when it was
    /// asked for, and what waits for the neighbor can go.
    public mutating func learn(
        _ neighbor: IPAddress, at address: MACAddress, isAnswer: Bool, nowNanoseconds now: UInt64
    ) -> Bool {
        guard var entry = entries[neighbor] else {
            unasked += 1
            return false
        }
        guard !address.isGroup || (acceptsGroups && address != .broadcast), address.value != 0
        else {
            unasked += 1
            return false
        }
        switch entry.state {
        case .incomplete where isAnswer, .probing where isAnswer && address == entry.address:
            entry.address = address
            entry.state = .reachable(until: now &+ timing.reachableNanoseconds)
            entries[neighbor] = entry
            return true
        case .reachable where address != entry.address, .stale where address != entry.address:
            // Who is right? The neighbor as it was known is asked with the next packet.
            unasked += 1
            entry.state = .stale
        case .incomplete, .probing, .unreachable:
            unasked += 1
        case .reachable, .stale: break
        }
        entries[neighbor] = entry
        return false
    }

    /// False: every entry was used in the last second, and a flood of new ones must not drive out
    /// what is in use.
    private mutating func forgetIdlest(nowNanoseconds now: UInt64) -> Bool {
        let idlest = entries.min { left, right in
            left.value.used == right.value.used
                ? Self.isOrdered(left.key, right.key) : left.value.used < right.value.used
        }
        guard let idlest, now > idlest.value.used,
            now - idlest.value.used >= timing.retransmitNanoseconds
        else { return false }
        entries[idlest.key] = nil
        return true
    }

    private static func isOrdered(_ left: IPAddress, _ right: IPAddress) -> Bool {
        left != right && IPAddress.isOrdered(left, right)
    }
}
