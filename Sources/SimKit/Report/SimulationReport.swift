// The report about one run: what it was, who served what, how the longest failover went, how long
// users waited, and what was counted. It follows from the run alone: the same seed, the same page.

import Cluster
import ESP
import Gateway

extension Simulation {
    /// Nanoseconds from the time that faults and traffic figures count from; what is before, the
    /// founding of the cluster and the setting up of the tunnels, is negative.
    public static func sinceWarmUp(_ time: UInt64) -> Int64 {
        Int64(clamping: time) - Int64(clamping: warmUpNanoseconds)
    }
}

/// A page about one run that recorded (`SimulationOptions.records`).
public struct SimulationReport {
    private let options: SimulationOptions
    private let faults: [Fault]
    private let figures: SimulationFigures
    private let violations: [Violation]
    private let command: String
    private let finder: FailoverFinder
    private let end: UInt64

    /// A report about a run that is over. `command` repeats it.
    public init(_ simulation: Simulation, command: String) {
        options = simulation.options
        faults = simulation.faults
        figures = simulation.figures
        violations = simulation.violations
        self.command = command
        end = violations.first?.time ?? simulation.end
        finder = FailoverFinder(
            faults: faults, milestones: figures.milestones, deliveries: figures.deliveries,
            identifiers: (0..<options.tunnels).map { simulation.identifier(of: $0).value },
            warmUp: Simulation.warmUpNanoseconds)
    }

    /// The page: XML-conformant HTML in UTF-8 that refers to nothing outside.
    public func html() -> String {
        var page = ReportPage(title: "Spindle simulation, seed \(options.seed)")
        let failovers = finder.find()
        header(failovers, &page)
        map(&page)
        timeline(failovers, &page)
        histogram(&page)
        page.heading("What was counted")
        page.table(counters, numbers: [1])
        page.heading("What was made to go wrong")
        page.paragraph(
            faults.isEmpty ? "Nothing." : "Times count from the end of the setting up, as above.")
        page.list(faults.map(\.description))
        return page.html
    }

    /// False for a run that a violation stopped.
    private var isComplete: Bool { !figures.tunnelOutages.isEmpty }

    private func header(_ failovers: [Failover], _ page: inout ReportPage) {
        if let violation = violations.first {
            let time = Simulation.sinceWarmUp(violation.time)
            let place = time < 0 ? "while setting up" : "at \(Fault.time(UInt64(time)))"
            page.paragraph("A rule was broken \(place): \(violation.text)", class: "verdict bad")
        } else {
            page.paragraph(
                "All rules held: no number and no nonce was used twice, nothing was delivered "
                    + "twice beyond what the policy allows, no identifier had two owners, and "
                    + "everything had healed in the end.", class: "verdict good")
        }
        page.paragraph(
            "\(options.nodes) nodes served \(tunnels) for "
                + "\(Fault.time(options.duration)) of virtual time. Peers and a server sent a "
                + "packet through every tunnel each way about every "
                + "\(Fault.time(options.packetInterval)); links took "
                + "\(Fault.time(options.linkDelay)). Heartbeats were "
                + "\(Fault.time(options.timing.heartbeatNanoseconds)) apart, and a silence of "
                + "\(Fault.time(options.timing.detectionNanoseconds)) made a node suspect. The "
                + "policy for possible replays after a takeover was “\(options.policy.rawValue)”.")
        page.paragraph(contents)
        page.command("Repeat this run with", command)
        page.paragraph("Trace hash \(String(figures.traceHash, radix: 16))")
        page.figures([
            (grouped(figures.packets), "packets sent"),
            (grouped(figures.delivered + figures.received), "packets delivered"),
            ("\(faults.filter { $0.kind != .restart }.count)", "faults"),
            ("\(failovers.count)", "failovers"),
            (isComplete ? Fault.time(figures.outages.median) : "–", "median outage"),
            (isComplete ? Fault.time(figures.outages.maximum) : "–", "longest outage"),
        ])
    }

    private var tunnels: String {
        let few = figures.established < options.tunnels
        return "\(figures.established) IPsec tunnels"
            + (few ? " (of \(options.tunnels) that were asked for)" : "")
    }

    /// What was held where: given as options, or drawn.
    private var contents: String {
        let cards =
            options.cardContents == .ownTunnels
            ? "Each card held its node's own tunnels" : "Every card held all tunnels"
        let full =
            switch options.whenFull {
            case .refuse: "was refused"
            case .wait: "waited for room"
            case .serveFromHost: "was served from host memory"
            }
        let holders =
            switch options.backups {
            case nil: "all nodes"
            case 1: "its owner and one backup"
            case let count?: "its owner and \(count) backups"
            }
        return "\(cards) (mode \(options.cardContents.rawValue)), up to "
            + "\(grouped(options.cardCapacity)) sessions, of which a tunnel takes two; a tunnel "
            + "that found its owner's card full \(full) (when-full \(options.whenFull.rawValue)). "
            + "The entries of an identifier were in the common tables of \(holders) (backups "
            + "\(options.backups.map(String.init) ?? "all")), the keys of a node's own tunnels "
            + (options.tableHoldsOwn
                ? "in its table too (table with-own)." : "on its card only (table without-own).")
    }

    private func map(_ page: inout ReportPage) {
        page.heading("Who served what")
        page.paragraph(
            "Every tunnel belongs to a distribution identifier, and every identifier to one node "
                + "at a time. Each row is an identifier. Where it is white, nobody served it.")
        let joined = faults.filter { $0.kind == .join }.count
        page.legend(
            (1...options.nodes + joined).map { (colour(ofNode: $0), "node \($0)") }
                + [("#fff", "nobody")])
        let map = OwnershipMap(
            figures: figures, faults: faults, identifiers: options.identifiers,
            warmUp: Simulation.warmUpNanoseconds, end: end)
        page.figure(
            map.drawing(),
            caption: "Looked at every 10 ms. The black bars above the map are the faults, as long "
                + "as they lasted; the numbers are nodes; the list at the end says more.")
    }

    private func timeline(_ failovers: [Failover], _ page: inout ReportPage) {
        guard let longest = failovers.max(by: { $0.duration < $1.duration }) else {
            page.heading("Failovers")
            page.paragraph("No node was taken out of the cluster in this run.")
            return
        }
        page.heading(
            failovers.count == 1 ? "The failover" : "The longest of \(failovers.count) failovers")
        let timeline = FailoverTimeline(failover: longest, finder: finder)
        page.figure(
            timeline.drawing(),
            caption: "Every dot is a packet that came out of the cluster, in the colour and with "
                + "the number of the node that handled it. Between the dots of the old owner and "
                + "those of the new one, the tunnel's user waited.")
        var rows = [
            [
                "node", "because of", "began", "suspected", "decided", "in force", "first packet",
                "last tunnel", "tunnels",
            ]
        ]
        for failover in failovers {
            func after(_ time: UInt64?) -> String {
                guard let time, time >= failover.begin else { return "–" }
                return "+" + Fault.time(time - failover.begin)
            }
            let begin = Simulation.sinceWarmUp(failover.begin)
            rows.append([
                failover.removed.map(String.init).joined(separator: ", "),
                failover.cause?.shortName ?? "silence",
                begin < 0 ? "–" : Fault.time(UInt64(begin)), after(failover.suspected),
                after(failover.decided), after(failover.inForce), after(failover.firstDelivery),
                after(failover.lastTunnel), "\(failover.tunnels)",
            ])
        }
        page.table(rows, numbers: [2, 3, 4, 5, 6, 7, 8])
        page.paragraph(
            "The times behind “began” count from then. “First packet” and “last tunnel” are the "
                + "first and the last to deliver again of those moved tunnels that had delivered "
                + "before; “tunnels” is how many did within "
                + "\(Fault.time(FailoverFinder.patience)). A tunnel's outage, drawn below, counts "
                + "from its own last packet before: it is longer by up to the time between two "
                + "packets, or shorter if the old owner went on for a while."
                + comparison(failovers))
    }

    /// The longest outage beside the failover that the last tunnel waited for longest.
    private func comparison(_ failovers: [Failover]) -> String {
        let waits = failovers.compactMap { failover in
            failover.lastTunnel.map { $0 - min($0, failover.begin) }
        }
        guard isComplete, let most = waits.max() else { return "" }
        let outage = figures.outages.maximum
        let text =
            " The longest outage of this run was \(Fault.time(outage)), and the longest time until "
            + "the last tunnel \(Fault.time(most))."
        guard outage > most + 2 * options.packetInterval else { return text }
        return text
            + " Longer waits had other reasons than a failover, such as that nobody was left to "
            + "take over, or that packets were lost: see the map."
    }

    private func histogram(_ page: inout ReportPage) {
        page.heading("How long tunnels waited")
        guard isComplete else {
            page.paragraph("Not told: the run stopped before its end.")
            return
        }
        page.figure(
            OutageHistogram(outages: figures.tunnelOutages).drawing(),
            caption: "For each of the \(figures.tunnelOutages.count) tunnels the longest time "
                + "without a packet from its peer that came out of the cluster. Peers send about "
                + "every \(Fault.time(options.packetInterval)), so that nobody waits less.")
    }

    private var counters: [[String]] {
        var rows = [
            ["counter", "count", "of what"],
            ["Packets"],
            ["sent", grouped(figures.packets), "by peers and by the server behind the cluster"],
            ["delivered", grouped(figures.delivered), "from peers, by the cluster"],
            ["accepted", grouped(figures.received), "from the cluster, by peers"],
            ["without an owner", grouped(figures.unowned), "no node handled or held them"],
            ["refused by peers", grouped(figures.peerDrops), ""],
            ["held", grouped(figures.counters.held), "kept during planned moves"],
            ["sent again", grouped(figures.replayed), "by the attacker"],
            ["exposed", grouped(figures.exposed), "accepted though they may have been replays"],
            ["delivered twice", grouped(figures.duplicates), "replays among these"],
            ["Refused by gateways"],
        ]
        rows += figures.drops.nonzero.map {
            [$0.reason.name, grouped($0.count), $0.reason.explanation]
        }
        if figures.drops.nonzero.isEmpty { rows.append(["none", "0", ""]) }
        rows += [
            ["Cluster"],
            ["tunnels set up", grouped(figures.established), "of \(options.tunnels)"],
            ["reallocations", grouped(figures.reallocations), "summed over the nodes"],
            ["Cards of \(grouped(options.cardCapacity)) sessions"],
            ["sessions, most", grouped(figures.cards.peak), "on one card; a tunnel takes two"],
            ["sessions opened", grouped(figures.cards.opened), "on all cards"],
            ["tunnels loaded", grouped(figures.cards.loaded), "by reallocations"],
            ["updated in place", grouped(figures.cards.updated), "they were on the new card"],
            ["cleared", grouped(figures.cards.cleared), "from cards of former owners"],
            ["without room", grouped(figures.cards.refused), "at reallocations"],
            ["into host memory", grouped(figures.cards.hosted), "at reallocations"],
            ["packets", grouped(figures.counters.hostPackets), "handled from host memory"],
            ["Store and links"],
            [
                "HA link", grouped(figures.datagrams),
                "datagrams, \(grouped(figures.datagramBytes)) octets",
            ],
            [
                "store", grouped(figures.storeWrites),
                "transactions, \(grouped(figures.storeBytes)) octets of values",
            ],
            ["records refused", grouped(figures.recordsRefused), "of the store, not believed"],
            ["events", grouped(figures.events), "of the simulation"],
        ]
        return rows
    }
}
