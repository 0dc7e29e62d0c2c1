// The books of all packets: what was sent, what came, when, how often, and by way of whom.

internal import SimKit

/// Packets of all tunnels, both ways, as far as they are not settled.
///
/// Records may come in any order between the stations: a packet may be noted as received before it
/// is noted as sent.
struct TrafficLedger: Sendable {
    fileprivate struct Entry {
        var sent: UInt64 = 0
        /// When it came first; 0: it did not.
        var received: UInt64 = 0
        var copies: UInt8 = 0
        var isLate = false
    }

    fileprivate struct Flow {
        /// Of the packet with the number `base`, and those after it.
        var entries: [Entry] = []
        var base: UInt32 = 0
        /// The highest number that came; -1: none.
        var highest: Int64 = -1
        var lastReceived: UInt64 = 0
    }

    /// What a silence is at least.
    let silence: UInt64
    private var flows: [Flow]
    /// By tunnel: who carried its packets up.
    private(set) var owners: [[OwnerChange]]
    private(set) var silences: [Silence] = []
    /// Packets that came out of a tunnel that is not theirs, or changed.
    private(set) var strays = 0
    /// Copies of packets that were settled before: they came much too late.
    private(set) var copiesOfSettled = 0

    /// Empty books; a time of `silence` nanoseconds without a packet is noted.
    init(tunnels: Int, silence: UInt64) {
        self.silence = silence
        flows = Array(repeating: Flow(), count: tunnels * 2)
        owners = Array(repeating: [], count: tunnels)
    }

    /// The node that carried the last packet up; nil: none did.
    func owner(of tunnel: Int) -> Int? { owners[tunnel].last?.node }

    /// When the last packet came; 0: none did.
    func lastReceived(_ tunnel: Int, _ way: TrafficWay) -> UInt64 {
        flows[place(tunnel, way)].lastReceived
    }

    mutating func note(_ record: TrafficRecord) {
        guard owners.indices.contains(record.tunnel), record.event != .stray else {
            strays += 1
            return
        }
        let place = place(record.tunnel, record.way)
        let isKnown = flows[place].note(record)
        guard record.event == .received else { return }
        guard isKnown else {
            copiesOfSettled += 1
            return
        }
        let last = flows[place].lastReceived
        if last > 0, record.received > last, record.received - last >= silence {
            silences.append(
                Silence(
                    tunnel: record.tunnel, way: record.way, from: last, until: record.received))
        }
        flows[place].lastReceived = max(last, record.received)
        if record.node > 0, owner(of: record.tunnel) != record.node {
            owners[record.tunnel].append(OwnerChange(time: record.received, node: record.node))
        }
    }

    /// What became of the packets that left from `begin` until before `end`. Packets that came
    /// in that time count for the outage, whenever they left.
    func figures(
        _ tunnel: Int, _ way: TrafficWay, from begin: UInt64, until end: UInt64
    ) -> FlowFigures {
        var figures = FlowFigures()
        var latencies: [UInt64] = []
        var arrivals: [UInt64] = []
        // An outage begins with the last packet that came before the fault.
        var before: UInt64 = 0
        for entry in flows[place(tunnel, way)].entries {
            if entry.received > 0, entry.received < end {
                if entry.received >= begin {
                    arrivals.append(entry.received)
                } else {
                    before = max(before, entry.received)
                }
            }
            guard entry.sent >= begin, entry.sent < end else { continue }
            figures.sent += 1
            figures.twice += max(0, Int(entry.copies) - 1)
            figures.late += entry.isLate ? 1 : 0
            if entry.received > 0 {
                latencies.append(entry.received &- entry.sent)
            } else {
                figures.lost += 1
            }
        }
        if before == 0 { before = begin }
        for arrival in arrivals.sorted() + [end] {
            figures.outage = max(figures.outage, arrival - before)
            before = arrival
        }
        latencies.sort()
        figures.latencyMedian = OutageSummary.percentile(500, of: latencies)
        figures.latency99 = OutageSummary.percentile(990, of: latencies)
        figures.latencyMaximum = latencies.last ?? 0
        return figures
    }

    /// Forgets packets that left before `time`, and returns what became of them, in slices of
    /// `width` nanoseconds.
    mutating func settle(before time: UInt64, width: UInt64) -> [TrafficSlice] {
        var slices: [UInt64: (sent: Int, latencies: [UInt64])] = [:]
        for place in flows.indices {
            for entry in flows[place].forget(before: time) where entry.sent > 0 {
                slices[entry.sent / width, default: (0, [])].sent += 1
                guard entry.received > 0 else { continue }
                slices[entry.sent / width, default: (0, [])].latencies
                    .append(entry.received &- entry.sent)
            }
        }
        return slices.sorted { $0.key < $1.key }.map { number, slice in
            let latencies = slice.latencies.sorted()
            return TrafficSlice(
                time: number * width, sent: slice.sent, lost: slice.sent - latencies.count,
                latencyMedian: OutageSummary.percentile(500, of: latencies),
                latency99: OutageSummary.percentile(990, of: latencies),
                latencyMaximum: latencies.last ?? 0)
        }
    }

    private func place(_ tunnel: Int, _ way: TrafficWay) -> Int {
        tunnel * 2 + Int(way.rawValue)
    }
}

extension TrafficLedger.Flow {
    /// Notes a packet; false: it was settled before.
    fileprivate mutating func note(_ record: TrafficRecord) -> Bool {
        guard record.number >= base else { return false }
        let place = Int(record.number - base)
        while entries.count <= place { entries.append(TrafficLedger.Entry()) }
        entries[place].sent = record.sent
        guard record.event == .received else { return true }
        entries[place].copies = min(entries[place].copies, .max - 1) + 1
        if entries[place].received == 0 {
            entries[place].received = record.received
            entries[place].isLate = Int64(record.number) < highest
        }
        highest = max(highest, Int64(record.number))
        return true
    }

    /// Takes the entries of packets out that left before `time`.
    fileprivate mutating func forget(before time: UInt64) -> [TrafficLedger.Entry] {
        let count = entries.firstIndex { $0.sent >= time } ?? entries.count
        let forgotten = Array(entries[..<count])
        entries.removeFirst(count)
        base += UInt32(count)
        return forgotten
    }
}
