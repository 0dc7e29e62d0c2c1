// What a report needs beyond figures: who suspected whom, what the store decided, when it took
// force, and every delivery. It listens, and changes nothing: the trace is the same with it.

import Cluster
import Crypto
import Gateway

/// Something that happened to the cluster as a whole.
public struct Milestone: Sendable {
    /// What.
    public enum Kind: Hashable, Sendable {
        /// A node told others for the first time that it suspects `node`.
        case suspected(node: Int)
        /// The store took a new allocation; `moved` are the identifiers with a new owner.
        case decided(epoch: UInt64, removed: [Int], added: [Int], moved: [UInt16])
        /// A node put an allocation into force, with so many identifiers more than before.
        case inForce(epoch: UInt64, gained: Int)
    }

    /// When, in nanoseconds of virtual time.
    public let time: UInt64
    /// Which node did it.
    public let node: Int
    /// What.
    public let kind: Kind

    /// What happened, for people.
    public var text: String {
        switch kind {
        case .suspected(let suspect): "node \(node) suspects node \(suspect)"
        case .decided(let epoch, let removed, let added, let moved):
            "node \(node) has epoch \(epoch) decided: "
                + (removed.map { "node \($0) is out, " } + added.map { "node \($0) is in, " })
                .joined()
                + "\(moved.count) identifiers change owner"
        case .inForce(let epoch, let gained):
            "epoch \(epoch) takes force at node \(node), which gains \(gained) identifiers"
        }
    }
}

/// An inner packet that came out of the cluster.
public struct Delivery: Sendable {
    /// When, in nanoseconds of virtual time.
    public let time: UInt64
    /// Whose.
    public let tunnel: UInt32
    /// Which node handled it.
    public let node: UInt16
}

/// Listens to one run.
final class RunRecorder {
    /// More are not kept: 64 MiB.
    static let deliveriesMaximum = 1 << 22

    private(set) var milestones: [Milestone] = []
    private(set) var deliveries: [Delivery] = []
    /// When nodes sent allocations to the store, by time.
    private(set) var offers: [(time: UInt64, node: Int)] = []
    /// By node: whom its last heartbeats called suspect.
    private var told: [[NodeID]]
    private var allocation: Allocation?

    init(nodes: Int) {
        told = Array(repeating: [], count: nodes)
    }

    func deliver(tunnel: Int, by node: NodeID, at time: UInt64) {
        guard deliveries.count < Self.deliveriesMaximum else { return }
        deliveries.append(Delivery(time: time, tunnel: UInt32(tunnel), node: node.value))
    }

    /// A node has told others whom it suspects.
    func tell(_ suspects: [NodeID], by node: NodeID, at time: UInt64) {
        let place = Int(node.value) - 1
        for suspect in suspects where !told[place].contains(suspect) {
            let kind = Milestone.Kind.suspected(node: Int(suspect.value))
            milestones.append(Milestone(time: time, node: Int(node.value), kind: kind))
        }
        told[place] = suspects
    }

    /// A node sends a transaction to the store.
    func offer(_ transaction: CoordinationTransaction, by node: NodeID, at time: UInt64) {
        for case .put(StoreKey.allocation.text, _, _) in transaction.operations {
            offers.append((time, Int(node.value)))
        }
    }

    /// The store has taken a transaction.
    func commit(
        _ transaction: CoordinationTransaction, by node: NodeID, seal: borrowing RecordSeal,
        at time: UInt64
    ) {
        for operation in transaction.operations {
            guard case .put(StoreKey.allocation.text, let value, _) = operation,
                let next = Self.allocation(in: value, seal)
            else { continue }
            note(next, by: node, at: time)
            allocation = next
        }
    }

    private static func allocation(
        in sealed: [UInt8], _ seal: borrowing RecordSeal
    ) -> Allocation? {
        sealed.withUnsafeBytes { octets in
            do throws(RecordError) {
                let plain = try seal.open(octets, key: .allocation)
                return try plain.withUnsafeBytes { octets throws(RecordError) in
                    try AllocationRecord(decoding: octets).allocation
                }
            } catch {
                return nil
            }
        }
    }

    private func note(_ next: Allocation, by node: NodeID, at time: UInt64) {
        let nodes = allocation?.nodes ?? []
        let removed = nodes.filter { !next.nodes.contains($0) }.map { Int($0.value) }
        let added = next.nodes.filter { !nodes.contains($0) }.map { Int($0.value) }
        let moved = next.owners.indices.filter { next.owners[$0] != allocation?.owners[$0] }
            .map { UInt16($0) }
        let kind = Milestone.Kind.decided(
            epoch: next.epoch, removed: removed, added: added, moved: moved)
        milestones.append(Milestone(time: time, node: Int(node.value), kind: kind))
    }

    func reallocate(_ report: ReallocationReport, at time: UInt64) {
        let kind = Milestone.Kind.inForce(epoch: report.epoch, gained: report.gained)
        milestones.append(Milestone(time: time, node: Int(report.node.value), kind: kind))
    }
}
