// A cluster of nodes in one process that all see every packet (patent: "all nodes see all data
// packets arriving at the cluster"). Entries, checkpoints and allocations are communicated by
// calling the other nodes; crash, join and drain are commands.

public import Cluster
public import Crypto
import CryptoCardSim
public import ESP
import Wire

/// Why a command to the cluster was refused. Nothing was changed.
public enum InProcessClusterError: Error, CustomStringConvertible {
    /// No live node has this number.
    case unknownNode(NodeID)
    /// The allocation can't change this way.
    case allocation(ClusterError)
    /// The common table can't take the entry.
    case table(CommonTableError)

    /// One line: what is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .unknownNode(let node): "node \(node) is not alive: choose one that is"
        case .allocation(let error): error.description
        case .table(let error): error.description
        }
    }
}

/// Nodes in one process. Not Sendable: one thread drives it.
public final class InProcessCluster {
    /// A place for a value that can't be copied into an array.
    final class Member {
        var gateway: Gateway
        private let memory: UnsafeMutableRawPointer
        private static let memoryBytes = 1 << 18

        init(_ gateway: consuming Gateway) {
            self.gateway = gateway
            memory = .allocate(byteCount: Self.memoryBytes, alignment: 64)
        }

        deinit { memory.deallocate() }

        /// This node's copy of a packet on the segment. Precondition: at most 256 KiB.
        func segment(for packet: UnsafeRawBufferPointer) -> PacketDescriptor {
            precondition(packet.count <= Self.memoryBytes)
            if let base = packet.baseAddress {
                memory.copyMemory(from: base, byteCount: packet.count)
            }
            return PacketDescriptor(
                buffer: memory, capacity: Self.memoryBytes, offset: 0, length: packet.count)
        }
    }

    /// What became of a packet: the owner and its verdict.
    public struct Outcome: Equatable, Sendable {
        /// Who handled it; nil when it belongs to no one.
        public let node: NodeID?
        /// The owner's verdict.
        public let verdict: PacketVerdict
    }

    private let library: CryptoLibrary
    private let template: GatewayConfiguration
    var members: [Member] = []
    /// Counters of nodes that died, so that sums stay true.
    public internal(set) var departed: [NodeSummary] = []
    /// The allocation in force.
    public internal(set) var allocation: Allocation

    private let packet: UnsafeMutableBufferPointer<PacketDescriptor> = .allocate(capacity: 1)
    private let verdict: UnsafeMutableBufferPointer<PacketVerdict> = .allocate(capacity: 1)

    /// `nodes` nodes, numbered from 1, like `template` but for the number.
    public init(
        nodes: Int, template: GatewayConfiguration, library: CryptoLibrary
    ) throws(InProcessClusterError) {
        self.library = library
        self.template = template
        let names = (0..<nodes).compactMap { NodeID(exactly: $0 + 1) }
        do {
            allocation = try Allocation(
                nodes: names, identifierCount: template.distribution.identifierCount)
        } catch {
            throw .allocation(error)
        }
        verdict.initialize(repeating: .other)
        for name in names { members.append(makeMember(name)) }
        for member in members { try start(member.gateway.node) }
    }

    deinit {
        packet.deallocate()
        verdict.deallocate()
    }

    func makeMember(_ node: NodeID) -> Member {
        var configuration = template
        configuration.node = node
        return Member(Gateway(configuration, library: library))
    }

    /// Gives a new node the allocation in force.
    func start(_ node: NodeID) throws(InProcessClusterError) {
        let member = try member(node)
        do {
            var report = try member.gateway.prepare(allocation, nowNanoseconds: 0)
            member.gateway.switchOver()
            member.gateway.clearLost(&report, nowNanoseconds: 0)
        } catch {
            throw .allocation(error)
        }
    }

    private func member(_ node: NodeID) throws(InProcessClusterError) -> Member {
        guard let member = members.first(where: { $0.gateway.node == node }) else {
            throw .unknownNode(node)
        }
        return member
    }

    /// The live nodes, ascending.
    public var nodes: [NodeID] { members.map { $0.gateway.node } }

    // MARK: Entries

    /// Installs an inbound association, as if node `determining` had agreed upon it: the entry goes
    /// to its owner, if that is another node (foreign entry), into the owner's card and table, and
    /// to the tables of all others (Fig. 4). Returns why the owner's card refused, if it did.
    public func install(
        _ association: borrowing SecurityAssociation, determining: NodeID,
        nowNanoseconds now: UInt64
    ) throws(InProcessClusterError) -> (owner: NodeID, refusal: String?) {
        let place = try member(determining).gateway.place(of: association.parameters.spi)
        let owner: NodeID
        switch place {
        case .own: owner = determining
        case .foreign(_, let node): owner = node
        }
        do {
            let refusal = try member(owner).gateway.add(association, nowNanoseconds: now)
            for member in members where member.gateway.node != owner {
                try member.gateway.learn(association, nowNanoseconds: now)
            }
            return (owner, refusal?.description)
        } catch let error as CommonTableError {
            throw .table(error)
        } catch let error as InProcessClusterError {
            throw error
        } catch {
            preconditionFailure("only the errors above are thrown: \(error)")
        }
    }

    // MARK: Packets

    /// Shows a packet to every node, each in a copy of its own; the owner's result is put into
    /// `descriptor`'s buffer. After an authenticated packet the owner's checkpoint goes to the
    /// common tables of the others.
    public func receive(
        _ descriptor: inout PacketDescriptor, nowNanoseconds now: UInt64
    ) -> Outcome {
        var outcome = Outcome(node: nil, verdict: .other)
        let seen = UnsafeRawBufferPointer(
            start: descriptor.buffer + descriptor.offset, count: descriptor.length)
        var owner: (member: Member, result: PacketDescriptor)?
        for member in members {
            let copy = member.segment(for: seen)
            packet.initializeElement(at: 0, to: copy)
            member.gateway.receive(packet, verdicts: verdict, nowNanoseconds: now)
            switch verdict[0] {
            case .foreign: continue
            case .natKeepalive, .other: outcome = Outcome(node: nil, verdict: verdict[0])
            case .delivered, .dropped, .ike:
                precondition(owner == nil, "two nodes handled one packet")
                outcome = Outcome(node: member.gateway.node, verdict: verdict[0])
                owner = (member, packet[0])
            }
        }
        guard let owner else { return outcome }
        if outcome.verdict == .delivered {
            precondition(owner.result.length <= descriptor.capacity)
            descriptor.buffer.copyMemory(
                from: owner.result.buffer + owner.result.offset, byteCount: owner.result.length)
            descriptor.offset = 0
            descriptor.length = owner.result.length
        }
        if let location = owner.result.location { publish(location.spi, from: owner.member) }
        return outcome
    }

    /// The checkpoint of an inbound window (RFC 6027 §3.5), here after every packet: a successor
    /// knows exactly what was accepted.
    private func publish(_ spi: SPI, from owner: Member) {
        guard let checkpoint = owner.gateway.checkpoint(of: spi) else { return }
        for member in members { member.gateway.learn(checkpoint) }
    }
}
