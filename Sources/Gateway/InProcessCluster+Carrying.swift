// What stands between the nodes of one process: everything arrives at once and in order, and time
// passes only when nothing is left to arrive.

import Cluster

extension InProcessCluster {
    /// After this long on the nodes' clock something is wrong with them.
    private static var patienceNanoseconds: UInt64 { 30_000_000_000 }
    /// The least step of the clock, so that time does not stand still.
    private static var stepNanoseconds: UInt64 { 1_000 }

    /// Lets time pass until all nodes have settled on one allocation and `isDone` holds.
    func settle(_ isDone: ([Member]) -> Bool) throws(InProcessClusterError) {
        let end = clock + Self.patienceNanoseconds
        carry()
        onStep?()
        while !(isAgreed && isDone(members)) {
            guard clock < end else {
                throw .unsettled(seconds: Self.patienceNanoseconds / 1_000_000_000)
            }
            var next = store.nextExpiry ?? .max
            for member in members {
                next = min(next, member.gateway.nextDeadline(nowNanoseconds: clock))
            }
            clock = max(next, clock + Self.stepNanoseconds)
            store.expire(nowNanoseconds: clock)
            for member in members
            where member.gateway.nextDeadline(nowNanoseconds: clock) <= clock {
                member.gateway.tick(nowNanoseconds: clock)
            }
            carry()
            onStep?()
        }
    }

    private var isAgreed: Bool {
        let record = members.first?.gateway.agreedRevision
        return members.allSatisfy {
            $0.gateway.agreedRevision == record && $0.gateway.isSettled(nowNanoseconds: clock)
        }
    }

    /// Carries requests, answers, changes and datagrams until nothing is under way.
    func carry() {
        var isQuiet = false
        while !isQuiet {
            isQuiet = true
            for member in members {
                for output in member.gateway.takeOutputs() {
                    isQuiet = false
                    carry(output, of: member)
                }
            }
            for member in members {
                if deliverChanges(to: member) { isQuiet = false }
                guard !member.mail.isEmpty else { continue }
                isQuiet = false
                // All at once, so that it decides on all of them: of many handovers it makes one
                // change of the record.
                let mail = member.mail
                member.mail = []
                member.gateway.receive(datagrams: mail, nowNanoseconds: clock)
            }
        }
    }

    private func carry(_ output: GatewayOutput, of member: Member) {
        switch output {
        case .datagram(let peer, let octets):
            // What is for a dead node is lost.
            if let place = place(of: peer) { members[place].mail.append(octets) }
        case .request(let id, let request):
            let reply = store.handle(request, nowNanoseconds: clock)
            if case .watch(_, let from) = request, case .watching = reply {
                member.watch = (id, from)
            }
            member.gateway.receive(reply, to: id, nowNanoseconds: clock)
        case .inner(let octets), .outer(let octets):
            released.append(octets)
        case .event(let event):
            news.append(event)
        // These nodes are given their tunnels, and speak no IKE.
        case .message, .keepalive, .report: break
        }
    }

    /// False when there was nothing new for its watch.
    private func deliverChanges(to member: Member) -> Bool {
        guard let (id, from) = member.watch, from <= store.revision else { return false }
        guard let changes = store.changes(prefix: StoreKey.prefix, from: from) else {
            member.watch = nil
            member.gateway.loseWatch(id, nowNanoseconds: clock)
            return true
        }
        member.watch = (id, store.revision + 1)
        guard !changes.isEmpty else { return false }
        member.gateway.receive(changes, ofWatch: id, nowNanoseconds: clock)
        return true
    }

    /// Delivers checkpoints that an owner just told: nobody has anything to decide about them.
    func deliverCheckpoints(of owner: Member) {
        for output in owner.gateway.takeOutputs() {
            guard case .datagram(let peer, let octets) = output else {
                carry(output, of: owner)
                continue
            }
            if let place = place(of: peer) { members[place].gateway.follow(octets, clock) }
        }
    }

    /// Takes over what the nodes agreed upon.
    func takeAllocation() throws(InProcessClusterError) {
        guard let agreed = members.first?.gateway.allocation else {
            preconditionFailure("settled nodes have an allocation")
        }
        allocation = agreed
    }
}
