// A node of our own as the peer of many tunnels, where strongSwan is not there.

internal import Foundation
internal import GatewayIO
internal import Glibc

/// One plain `spindle node` that begins by itself. Its ESP is an IP protocol of its own, in UDP for
/// every second tunnel.
final class SpindlePeer: LabPeer {
    private static let startSeconds = 20.0
    /// Events are found by asking: more often would load the machine that is measured.
    private static let askNanoseconds: UInt64 = 250_000_000
    private let tunnels: [LabPlan.Tunnel]
    private let places: [String: Int]
    private let process: pid_t
    private let name: String
    private let socket: String
    private var last: SpindlePeerState?
    private var asked: UInt64 = 0

    /// Starts the node of `number` and gives it its connections.
    init(
        _ number: Int, _ plan: LabPlan, _ processes: ProcessTable, program: String
    ) throws(LabError) {
        name = LabPlan.daemonName(number)
        tunnels = plan.tunnels(of: number)
        places = Dictionary(uniqueKeysWithValues: tunnels.map { ($0.name, $0.place) })
        let path = "\(Seclusion.folder)/\(name)"
        socket = path + ".control"
        try write(Self.configuration(tunnels, socket), to: path + ".yaml")
        process = try processes.start(
            name, in: name, [program, "node", "--config", path + ".yaml"])
        let end = monotonicNanoseconds() + UInt64(Self.startSeconds * 1e9)
        while (try? ask(ControlRequest(.status))) == nil {
            guard processes.isRunning(process), monotonicNanoseconds() < end else {
                throw LabError("\(name) does not start:\(ProcessTable.tail(name))")
            }
            usleep(5000)
        }
    }

    func initiate() throws(LabError) {
        for tunnel in tunnels {
            var request = ControlRequest(.initiate)
            request.connection = tunnel.name
            try ask(request)
        }
        _ = try takeEvents()
    }

    func rekey(_ tunnel: LabPlan.Tunnel) throws(LabError) {
        var request = ControlRequest(.rekey)
        request.connection = tunnel.name
        try ask(request)
    }

    func takeEvents() throws(LabError) -> [PeerEvent] {
        let now = monotonicNanoseconds()
        guard now - asked > Self.askNanoseconds else { return [] }
        asked = now
        let listed = try ask(ControlRequest(.list)).associations ?? []
        let state = SpindlePeerState(listed)
        defer { last = state }
        guard let last else { return [] }
        return state.changes(since: last).compactMap { name, kind in
            places[name].map { PeerEvent(time: now, tunnel: $0, kind: kind) }
        }
    }

    @discardableResult
    private func ask(_ request: ControlRequest) throws(LabError) -> ControlReply {
        let reply: ControlReply
        do throws(NodeError) {
            reply = try ControlConnection.ask(request, path: socket, seconds: 20) { _ in }
        } catch {
            throw LabError("\(name): \(error)")
        }
        if let error = reply.error {
            throw LabError("\(name): \(error)\(ProcessTable.tail(name))")
        }
        return reply
    }

    private static func configuration(_ tunnels: [LabPlan.Tunnel], _ socket: String) -> String {
        let addresses = Set(tunnels.map(\.outer)).sorted().map { "\"\($0)\"" }
        return """
            node:
              addresses: [\(addresses.joined(separator: ", "))]
              control_socket: \(socket)
            secrets: secrets.yaml
            connections:

            """ + tunnels.map(connection).joined()
    }

    private static func connection(_ tunnel: LabPlan.Tunnel) -> String {
        """
          \(tunnel.name):
            local: {identity: \(tunnel.identity), auth: psk}
            remote: {identity: gw.lab.example, auth: psk}
            local_address: "\(tunnel.outer)"
            remote_address: "\(tunnel.gateway)"
            proposals: [\(LabNode.ikeProposal)]
            force_encapsulation: \(tunnel.place / 2 % 2 == 0)
            children:
              \(tunnel.name):
                local: [\(tunnel.inner)/32]
                remote: [10.88.0.0/24]
                proposals: [\(LabNode.espProposal)]
            timers: {liveness: 3s}

        """
    }
}

/// The SAs of all connections at one time.
struct SpindlePeerState: Sendable {
    /// One connection's.
    struct Connection: Hashable, Sendable {
        /// IKE SAs by their initiators' SPIs.
        var associations: Set<String> = []
        /// Current pairs by their inbound SPIs.
        var pairs: Set<String> = []
    }

    var connections: [String: Connection] = [:]

    init(_ listed: [AssociationListing]) {
        for association in listed where association.isEstablished {
            connections[association.connection, default: Connection()].associations
                .insert(association.initiatorSPI)
            for pair in association.pairs where pair.isCurrent {
                connections[association.connection]?.pairs.insert(pair.inboundSPI)
            }
        }
    }

    init(_ connections: [String: Connection]) { self.connections = connections }

    /// What must have happened since, by connection. An IKE SA that has the pairs of one before is
    /// its successor (RFC 7296 §2.18); one that begins with other pairs was authenticated.
    func changes(since last: SpindlePeerState) -> [(String, PeerEvent.Kind)] {
        let names = Set(connections.keys).union(last.connections.keys).sorted()
        return names.flatMap { name in
            let now = connections[name] ?? Connection()
            let before = last.connections[name] ?? Connection()
            var kinds: [PeerEvent.Kind] = []
            let keeps = !now.pairs.isDisjoint(with: before.pairs)
            if now.associations.isEmpty, !before.associations.isEmpty {
                kinds.append(.ended)
            } else if !now.associations.subtracting(before.associations).isEmpty {
                kinds.append(keeps ? .rekeyedIKE : .authenticated)
            }
            let hasNewPairs = !now.pairs.subtracting(before.pairs).isEmpty
            if hasNewPairs, !before.pairs.isEmpty {
                kinds.append(.rekeyedChild)
            } else if hasNewPairs {
                kinds.append(.pairAdded)
            } else if now.pairs.isEmpty, !before.pairs.isEmpty {
                kinds.append(.pairEnded)
            }
            return kinds.map { (name, $0) }
        }
    }
}
