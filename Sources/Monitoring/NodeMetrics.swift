// What of a node is worth a curve. Names are as Prometheus wants them: base units, and `_total` for
// what only rises. docs/operations.md says which of them should wake somebody up.

internal import Cluster
internal import CryptoCardSim
internal import ESP
internal import Gateway
internal import GatewayIO
internal import IKEStub

extension NodeReading {
    /// All metrics of the node.
    func metrics() -> [Metric] {
        stateMetrics() + roomMetrics() + packetMetrics() + refusalMetrics() + linkMetrics()
            + memberMetrics() + identifierMetrics()
    }

    private func stateMetrics() -> [Metric] {
        var info = Metric(
            "spindle_node_info", .gauge, "Which node, and which process of it.")
        info.add(1, ("node", gateway.node.description), ("incarnation", gateway.incarnation))
        var metrics = [
            info,
            .flag(
                "spindle_alone", "1 for a node that is no member of a cluster.", isAlone),
            .flag(
                "spindle_serving", "1 while the node may handle packets; 0: it is fenced.",
                !gateway.isFenced),
            .seconds(
                "spindle_serving_left_seconds",
                "For how long the node may serve if it hears nothing more.",
                nanoseconds: gateway.servingLeftNanoseconds),
            .seconds(
                "spindle_session_left_seconds", "For how long the store surely keeps its key.",
                nanoseconds: gateway.sessionLeftNanoseconds),
            .flag("spindle_store_away", "1 while the store does not answer.", gateway.isStoreAway),
            .flag(
                "spindle_store_followed", "1 while no change of the store can have been missed.",
                gateway.isComplete),
            .one(
                "spindle_store_revision", .gauge, "Revision up to which the store is followed.",
                gateway.revision),
            .flag(
                "spindle_replaced", "1 when another process has this node's number.",
                gateway.isReplaced),
            .one("spindle_epoch", .gauge, "Epoch of the allocation in force.", gateway.epoch),
            .one(
                "spindle_moves", .gauge, "Identifiers on their way, in the whole cluster.",
                gateway.moves),
            .one(
                "spindle_moves_away", .gauge, "Identifiers that this node is handing over.",
                gateway.movesAway),
        ]
        guard !isAlone else { return metrics }
        var roles = Metric(
            "spindle_identifiers", .gauge, "Identifiers for which this node plays a part.")
        roles.add(gateway.roles.owned, ("role", "owned"))
        roles.add(gateway.roles.loading, ("role", "loading"))
        roles.add(gateway.roles.awaiting, ("role", "awaiting"))
        roles.add(gateway.roles.frozen, ("role", "frozen"))
        roles.add(gateway.roles.holding, ("role", "holding"))
        metrics += [
            roles,
            .one(
                "spindle_generation_highest", .gauge,
                "Highest generation of its own identifiers; 65534 is the last.",
                gateway.highestGeneration),
            .one(
                "spindle_leases_unpublished", .gauge, "Identifiers whose leases wait to be told.",
                gateway.unpublished),
            .one(
                "spindle_leases_overrun", .gauge,
                "Identifiers that may use numbers beyond those published.", gateway.overrunning),
        ]
        return metrics
    }

    private func roomMetrics() -> [Metric] {
        [
            .one("spindle_tunnels", .gauge, "Tunnels in the common table.", gateway.tunnels),
            .one(
                "spindle_tunnel_capacity", .gauge, "Tunnels that the common table has room for.",
                gateway.tunnelCapacity),
            .one(
                "spindle_card_sessions", .gauge, "Sessions on the card, two for most tunnels.",
                gateway.sessions),
            .one(
                "spindle_card_session_capacity", .gauge, "Sessions that the card has room for.",
                gateway.sessionCapacity),
            .one(
                "spindle_host_sessions", .gauge, "Sessions in host memory, as the card was full.",
                gateway.hostSessions),
            .one(
                "spindle_ike_associations", .gauge, "IKE SAs that this node speaks for.",
                gateway.ikeAssociations),
            .one("spindle_pairs", .gauge, "Pairs of CHILD SAs, and manual tunnels.", pairs),
            .one(
                "spindle_packets_held", .gauge, "Packets held now, for planned moves.",
                gateway.heldPackets),
        ]
    }

    private func packetMetrics() -> [Metric] {
        func counter(_ name: String, _ help: String, _ value: UInt64) -> Metric {
            .one("spindle_\(name)_total", .counter, help, value)
        }
        return [
            counter(
                "packets_delivered", "Inner packets given to the protected network.",
                counters.delivered),
            counter("packets_sealed", "Packets sent to peers in ESP.", counters.sealed),
            counter("ike_messages", "IKE messages of this node's identifiers.", counters.ike),
            counter(
                "packets_foreign", "Packets of other nodes that came to this program.",
                counters.foreign),
            counter("packets_held", "Packets held for planned moves.", counters.held),
            counter(
                "packets_hold_overflow", "Packets that could not be held, as too many were.",
                counters.holdOverflows),
            counter(
                "packets_exposed", "Packets accepted after takeovers that may be replays.",
                counters.exposed),
            counter(
                "packets_host", "Packets handled from host memory, as the card was full.",
                counters.hostPackets),
            counter(
                "load_moves", "Identifiers that this node had moved because of load.",
                counters.loadMoves),
            counter("card_sessions_opened", "Sessions opened on the card.", card.opened),
            counter("card_sessions_closed", "Sessions closed on the card.", card.closed),
            counter(
                "card_sessions_refused", "Sessions that found the card full.", card.refusedFull),
            counter("card_sessions_lost", "Sessions that the card lost.", card.lost),
            counter("card_packets", "Packets that the card worked on.", card.packets),
        ]
    }

    /// Reasons that did not occur are there too: a curve that begins with its first event hides it.
    private func refusalMetrics() -> [Metric] {
        var packets = Metric(
            "spindle_packets_dropped_total", .counter, "Refused packets, by reason.")
        for reason in DropReason.allCases {
            packets.add(counters.drops[reason], ("reason", reason.name))
        }
        var messages = Metric(
            "spindle_ike_dropped_total", .counter, "IKE messages not acted upon, by reason.")
        for reason in IKEDropReason.allCases {
            messages.add(ike[reason], ("reason", reason.rawValue))
        }
        return [packets, messages]
    }

    private func linkMetrics() -> [Metric] {
        guard !isAlone else { return [] }
        var refused = Metric(
            "spindle_link_refused_total", .counter, "Datagrams of the HA link refused, by reason.")
        for refusal in HALinkRefusal.allCases {
            refused.add(link[refusal], ("reason", String(describing: refusal)))
        }
        return [
            .one(
                "spindle_link_sent_total", .counter, "Datagrams sent by the HA link.", link.sent),
            .one(
                "spindle_link_received_total", .counter, "Datagrams accepted from the HA link.",
                link.received),
            refused,
        ]
    }

    private func memberMetrics() -> [Metric] {
        guard !isAlone else { return [] }
        var present = Metric(
            "spindle_member_present", .gauge, "1: the store has its key.")
        var allocated = Metric("spindle_member_allocated", .gauge, "1: it is in the allocation.")
        var owned = Metric("spindle_member_identifiers", .gauge, "Identifiers that it owns.")
        var weight = Metric("spindle_member_weight", .gauge, "Its share of the load; 0: drained.")
        var healthy = Metric("spindle_member_link_healthy", .gauge, "1: both hear each other.")
        var suspect = Metric("spindle_member_suspect", .gauge, "1: this node suspects it.")
        var lag = Metric("spindle_member_lag_revisions", .gauge, "How far its copy is behind.")
        var silence = Metric("spindle_member_silence_seconds", .gauge, "Since it was last heard.")
        for member in gateway.members {
            let label = ("member", member.node.description)
            present.add(member.isPresent ? 1 : 0, label)
            allocated.add(member.isMember ? 1 : 0, label)
            owned.add(member.identifiers, label)
            weight.add(member.weight, label)
            suspect.add(member.isSuspect ? 1 : 0, label)
            if let link = member.link { healthy.add(link == .healthy ? 1 : 0, label) }
            if let revisions = member.lag { lag.add(revisions, label) }
            if let time = member.silenceNanoseconds { silence.add(nanoseconds: time, label) }
        }
        return [present, allocated, owned, weight, healthy, suspect, lag, silence]
    }

    /// Owners of all identifiers; of packets, only what this node handled: with many identifiers
    /// and nodes there would be more curves than packets.
    private func identifierMetrics() -> [Metric] {
        guard !isAlone else { return [] }
        var owner = Metric(
            "spindle_identifier_owner", .gauge, "Number of the node that owns the identifier.")
        var generation = Metric(
            "spindle_identifier_generation", .gauge, "Generation of the ownership.")
        var tunnels = Metric(
            "spindle_identifier_tunnels", .gauge, "Tunnels of an own identifier.")
        var packets = Metric(
            "spindle_identifier_packets_total", .counter,
            "Packets that this node handled for the identifier, both ways.")
        for identifier in identifiers {
            let label = ("identifier", String(identifier.identifier))
            owner.add(identifier.owner.value, label)
            let isOwn = identifier.owner == gateway.node
            if isOwn {
                generation.add(identifier.generation, label)
                tunnels.add(identifier.tunnels, label)
            }
            if isOwn || identifier.packets > 0 { packets.add(identifier.packets, label) }
        }
        return [owner, generation, tunnels, packets]
    }
}
