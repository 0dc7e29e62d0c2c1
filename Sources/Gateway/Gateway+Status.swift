// A node's answer to an operator's question. It changes nothing, and is made from what the node
// knows anyway: it may be asked in the middle of a failover.

import Cluster
import CryptoCardSim

extension Gateway {
    /// This node now, and the cluster as it sees it.
    public borrowing func status(nowNanoseconds now: UInt64) -> GatewayStatus {
        let owned = plane.roles.indices.filter { plane.roles[$0].isOwner }
        return GatewayStatus(
            node: node, incarnation: hexadecimal(incarnation),
            epoch: record?.allocation.epoch ?? 0, revision: client.revision,
            isComplete: client.isComplete, isStoreAway: client.isAway(nowNanoseconds: now),
            isReplaced: isReplaced, servingLeftNanoseconds: left(plane.servingUntil, now),
            sessionLeftNanoseconds: left(client.sessionUntil, now),
            identifierCount: distribution.identifierCount, roles: roleCounts(),
            lowestGeneration: owned.map { plane.generations[$0] }.min() ?? 0,
            highestGeneration: owned.map { plane.generations[$0] }.max() ?? 0,
            moves: record?.successors.count { $0 != nil } ?? 0,
            movesAway: moves.outgoing.count { $0 != .idle }, wishes: balance.wishes.count,
            isRebalancing: balance.isDemanded, unpublished: unpublishedCount,
            overrunning: publishing.isOverrun.count { $0 },
            heldPackets: plane.held.packets.count, tunnels: plane.table.count,
            tunnelCapacity: plane.table.capacity, sessions: plane.card.count,
            sessionCapacity: plane.card.capacity, hostSessions: plane.host.count,
            ikeAssociations: associationCount, members: memberStatuses(now))
    }

    /// All identifiers, ascending; empty before the first allocation.
    public borrowing func identifierStatuses() -> [IdentifierStatus] {
        guard let record else { return [] }
        return record.allocation.owners.indices.map { place in
            let identifier = DistributionIdentifier(UInt16(place))
            return IdentifierStatus(
                identifier: identifier.value, owner: record.allocation.owner(of: identifier),
                successor: record.successors[place],
                generation: record.allocation.generation(of: identifier),
                tunnels: plane.table.count(of: identifier),
                packetsPerSecond: packetsPerSecond(of: identifier),
                packets: balance.packets[place] + UInt64(plane.packetCounts[place]))
        }
    }

    private borrowing func roleCounts() -> GatewayStatus.Roles {
        var counts = GatewayStatus.Roles()
        for role in plane.roles {
            switch role {
            case .foreign: break
            case .owned: counts.owned += 1
            case .loading: counts.loading += 1
            case .awaiting: counts.awaiting += 1
            case .frozen: counts.frozen += 1
            case .holding: counts.holding += 1
            }
        }
        return counts
    }

    private borrowing func memberStatuses(_ now: UInt64) -> [GatewayStatus.Member] {
        var nodes = Set(memberKeys.present)
        nodes.formUnion(record?.allocation.nodes ?? [])
        nodes.insert(node)
        let newest = membership.links.compactMap(\.last?.revision).reduce(client.revision, max)
        let suspects = membership.suspects(nowNanoseconds: now)
        return nodes.sorted().map { peer in
            var member = GatewayStatus.Member(peer)
            if let record {
                member.isMember = record.allocation.nodes.contains(peer)
                member.identifiers = record.allocation.owners.count { $0 == peer }
                member.arriving = record.successors.count { $0 == peer }
            }
            member.isPresent = memberKeys.present.contains(peer)
            member.weight = weights[peer] ?? 1
            member.isSuspect = suspects.contains(peer)
            if peer == node {
                describeItself(&member, newest, now)
            } else if let link = membership.link(to: peer) {
                describe(&member, link, newest, now)
            }
            return member
        }
    }

    private borrowing func describeItself(
        _ member: inout GatewayStatus.Member, _ newest: UInt64, _ now: UInt64
    ) {
        member.isServing = now < plane.servingUntil
        member.isDraining = isDraining(node)
        member.isWithinLease = !publishing.isOverrunning
        member.isComplete = client.isComplete
        member.isStoreAway = client.isAway(nowNanoseconds: now)
        member.epoch = record?.allocation.epoch ?? 0
        member.revision = client.revision
        member.lag = newest - client.revision
    }

    private borrowing func describe(
        _ member: inout GatewayStatus.Member, _ link: PeerLink, _ newest: UInt64, _ now: UInt64
    ) {
        let timing = configuration.timing
        member.link =
            if link.isHealthy(timing, now) {
                .healthy
            } else if link.isTwoWay(timing, now) {
                .young
            } else if link.numberHeard > 0, now < link.heardAt + timing.detectionNanoseconds {
                .oneWay
            } else {
                .silent
            }
        guard let last = link.last else { return }
        member.isServing = last.flags.contains(.serving)
        member.isDraining = last.flags.contains(.draining)
        member.isWithinLease = last.flags.contains(.withinLease)
        member.isComplete = last.flags.contains(.tableComplete)
        member.isStoreAway = last.flags.contains(.storeAway)
        member.epoch = last.epoch
        member.revision = last.revision
        member.lag = newest - last.revision
        member.silenceNanoseconds = now - min(now, link.heardAt)
    }

    private func left(_ until: UInt64, _ now: UInt64) -> UInt64 { until - min(until, now) }

    private func hexadecimal(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
