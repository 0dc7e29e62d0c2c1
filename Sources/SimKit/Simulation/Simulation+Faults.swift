// What goes wrong, and how it ends.

import Cluster
import CryptoCardSim
import Gateway

extension Simulation {
    func begin(_ fault: Fault) {
        note { fault.description }
        let number = fault.node - 1
        switch fault.kind {
        case .crash: crash(number)
        case .restart, .join: start(number)
        case .multiCrash, .clusterRestart: for node in fault.nodes { crash(node - 1) }
        case .pause: nodes[number].stoppedUntil = now + fault.duration
        case .partition:
            changeCuts(fault, by: 1, bothWays: true)
            if fault.other == 0 { cutStore(number, by: 1) }
        case .oneWay: changeCuts(fault, by: 1, bothWays: false)
        case .storePartition, .storeCompaction: cutStore(number, by: 1)
        case .storeOutage: storeAwayUntil = max(storeAwayUntil, now + fault.duration)
        case .storeSlow: storeSlow.append((now + fault.duration, fault.amount))
        case .loss, .delay, .duplicate, .reorder, .burst:
            changeLinks(fault) { apply(fault, to: &$0) }
        case .drift: nodes[number].setRate(fault.amount, at: now)
        case .cardFull:
            let until = nodes[number].local(now + fault.duration)
            nodes[number].life?.gateway.inject(
                .bounded(more: Int(fault.amount), untilNanoseconds: until))
        case .cardReset: nodes[number].life?.gateway.inject(.reset)
        case .drain: setWeight(0, of: nodes[number].id)
        case .replayAttack:
            for place in 0..<fault.amount {
                let time = now + fault.duration * place / max(fault.amount, 1)
                queue.push(at: time, .replayed(Int(linkRandom.below(512))))
            }
        }
        checkAll()
    }

    func end(_ fault: Fault) {
        let number = fault.node - 1
        switch fault.kind {
        case .partition:
            changeCuts(fault, by: -1, bothWays: true)
            if fault.other == 0 { cutStore(number, by: -1) }
        case .oneWay: changeCuts(fault, by: -1, bothWays: false)
        case .storePartition: cutStore(number, by: -1)
        case .storeCompaction:
            store.compact(before: store.revision)
            cutStore(number, by: -1)
        case .storeOutage:
            // A new leader lets all leases begin again.
            if linkRandom.chance(1, in: 2) { store.extendLeases(nowNanoseconds: now) }
            tellWatchers(after: 0)
        case .loss, .delay, .duplicate, .reorder, .burst:
            changeLinks(fault) { link in
                link.lossPerMillion = 0
                link.duplicatePerMillion = 0
                link.reorderPerMillion = 0
                link.delayNanoseconds = self.options.linkDelay
            }
        case .drift: nodes[number].setRate(1_000_000, at: now)
        case .drain: setWeight(nil, of: nodes[number].id)
        default: break
        }
        note { "over: \(fault.description)" }
        checkAll()
    }

    private func apply(_ fault: Fault, to link: inout LinkModel) {
        switch fault.kind {
        case .loss: link.lossPerMillion = UInt32(clamping: fault.amount)
        case .delay: link.delayNanoseconds = options.linkDelay + fault.amount
        case .duplicate: link.duplicatePerMillion = UInt32(clamping: fault.amount)
        case .reorder: link.reorderPerMillion = UInt32(clamping: fault.amount)
        case .burst: link.heldUntil = now + fault.duration
        default: break
        }
    }

    /// One link between nodes, or all links there are.
    private func changeLinks(_ fault: Fault, _ change: (inout LinkModel) -> Void) {
        if fault.node == 0 {
            for place in links.indices { change(&links[place]) }
            change(&uplink)
            change(&downlink)
        } else {
            change(&links[(fault.node - 1) * nodes.count + fault.other - 1])
        }
    }

    private func changeCuts(_ fault: Fault, by count: Int, bothWays: Bool) {
        let node = fault.node - 1
        for other in nodes.indices where other != node {
            guard fault.other == 0 || fault.other - 1 == other else { continue }
            changeCut(node, other, count)
            if bothWays { changeCut(other, node, count) }
        }
    }

    private func changeCut(_ sender: Int, _ receiver: Int, _ count: Int) {
        let place = sender * nodes.count + receiver
        cuts[place] += count
        links[place].isCut = cuts[place] > 0
    }

    /// A broken connection loses what is under way, and its watch.
    private func cutStore(_ number: Int, by count: Int) {
        let node = nodes[number]
        node.isStoreCut += count
        if node.isStoreCut > 0 {
            node.watchRevision = nil
        } else if node.life != nil {
            queue.push(
                at: now, .watchBreaks(node: number, lives: node.lives, watch: node.watch))
        }
    }
}
