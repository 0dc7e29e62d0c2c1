// What the nodes send to each other and to the store, and what comes back.

import Cluster
import ESP
import Gateway
import Wire

extension Simulation {
    /// Carries out what a node wants done, and plans its next tick.
    func drain(_ number: Int) {
        let node = nodes[number]
        guard let life = node.life else { return }
        for output in life.gateway.takeOutputs() {
            switch output {
            case .datagram(let to, let octets): send(octets, from: number, to: Int(to.value) - 1)
            case .request(let id, let request):
                sendToStore(.request(id: id, request), number)
            case .inner(let octets):
                checker.released += 1
                octets.withUnsafeBytes { deliverInner($0, at: number) }
            case .outer(let octets):
                checker.released += 1
                octets.withUnsafeBytes { sendOuter($0, from: number) }
            case .event(let event): take(event, at: number)
            case .message(let octets, let path): sendMessage(octets, path, from: number)
            case .keepalive(let path): sendKeepalive(path)
            case .report(let report): note { "node \(node.id): \(report)" }
            }
        }
        recorder?.tell(life.gateway.toldSuspects, by: node.id, at: now)
        checkControl(number)
        planTick(number)
    }

    // MARK: HA link

    private func send(_ octets: [UInt8], from sender: Int, to receiver: Int) {
        guard receiver < nodes.count else { return }
        let place = sender * nodes.count + receiver
        let arrivals = links[place].arrivals(sentAt: now, &linkRandom)
        figures.datagrams += 1
        figures.datagramBytes += UInt64(octets.count)
        if let first = arrivals.first { deliver(octets, to: receiver, at: first) }
        if let second = arrivals.second { deliver(octets, to: receiver, at: second) }
    }

    private func deliver(_ octets: [UInt8], to receiver: Int, at time: UInt64) {
        let message = keep(.datagram(octets))
        queue.push(
            at: time, .datagram(node: receiver, lives: nodes[receiver].lives, message: message))
    }

    func takeDatagram(_ number: Int, _ lives: UInt32, _ message: Int) {
        let node = nodes[number]
        guard let life = node.life, node.lives == lives else {
            free(message)
            return
        }
        if node.stoppedUntil > now {
            queue.push(
                at: node.stoppedUntil, .datagram(node: number, lives: lives, message: message))
            return
        }
        guard case .datagram(let octets) = free(message) else { return }
        octets.withUnsafeBytes {
            life.gateway.receive(datagram: $0, nowNanoseconds: node.local(now))
        }
        drain(number)
    }

    // MARK: Messages

    private func keep(_ message: Message) -> Int {
        if let place = freeMessages.popLast() {
            messages[place] = message
            return place
        }
        messages.append(message)
        return messages.count - 1
    }

    @discardableResult
    private func free(_ place: Int) -> Message {
        let message = messages[place]
        messages[place] = .none
        freeMessages.append(place)
        return message
    }

    // MARK: Store

    /// One way between a node and the store, the same both ways.
    private func storeDelay() -> UInt64 {
        options.linkDelay + linkRandom.below(options.jitter + 1)
    }

    private func sendToStore(_ message: Message, _ number: Int) {
        let node = nodes[number]
        guard node.isStoreCut == 0 else { return }
        if case .request(_, .transaction(let transaction)) = message {
            recorder?.offer(transaction, by: node.id, at: now)
        }
        queue.push(
            at: now + storeDelay(),
            .storeReceives(node: number, lives: node.lives, message: keep(message)))
    }

    func serveRequest(_ number: Int, _ lives: UInt32, _ message: Int) {
        guard case .request(let id, let request) = free(message) else { return }
        guard now >= storeAwayUntil else {
            // Half of the time the client learns at once, else never.
            if linkRandom.chance(1, in: 2) {
                answer(.reply(id: id, .failed(.unavailable)), to: number, lives, after: 0)
            }
            return
        }
        let slow = storeSlow.filter { $0.until > now }.map(\.extra).max() ?? 0
        let extra = slow == 0 ? 0 : linkRandom.below(slow + 1)
        store.expire(nowNanoseconds: now)
        let before = store.revision
        let reply = store.handle(request, nowNanoseconds: now)
        trace.mix(store.revision, UInt64(number))
        if case .watch(_, let from) = request, case .watching = reply {
            nodes[number].watchRevision = from
            nodes[number].watch = id
        }
        if case .transaction(let transaction) = request, case .committed = reply {
            figures.storeWrites += 1
            recorder?.commit(transaction, by: nodes[number].id, seal: seal, at: now)
            figures.storeBytes += transaction.operations.reduce(0) { sum, operation in
                if case .put(_, let value, _) = operation { sum + UInt64(value.count) } else { sum }
            }
        }
        answer(.reply(id: id, reply), to: number, lives, after: options.storeDelay + extra)
        if store.revision != before || nodes[number].watchRevision != nil {
            tellWatchers(after: options.storeDelay + extra / 2)
        }
    }

    private func answer(_ message: Message, to number: Int, _ lives: UInt32, after: UInt64) {
        guard nodes[number].isStoreCut == 0 else { return }
        queue.push(
            at: now + after + storeDelay(),
            .storeAnswers(node: number, lives: lives, message: keep(message)))
    }

    func takeReply(_ number: Int, _ lives: UInt32, _ message: Int) {
        let node = nodes[number]
        guard let life = node.life, node.lives == lives, node.isStoreCut == 0 else {
            free(message)
            return
        }
        if node.stoppedUntil > now {
            queue.push(
                at: node.stoppedUntil, .storeAnswers(node: number, lives: lives, message: message))
            return
        }
        guard case .reply(let id, let reply) = free(message) else { return }
        life.gateway.receive(reply, to: id, nowNanoseconds: node.local(now))
        drain(number)
    }

    /// Hands every watch what it has not seen, in order.
    func tellWatchers(after delay: UInt64) {
        for number in nodes.indices {
            let node = nodes[number]
            guard node.life != nil, node.isStoreCut == 0, let from = node.watchRevision,
                from <= store.revision
            else { continue }
            guard let changes = store.changes(prefix: StoreKey.prefix, from: from) else {
                node.watchRevision = nil
                queue.push(
                    at: now + storeDelay(),
                    .watchBreaks(node: number, lives: node.lives, watch: node.watch))
                continue
            }
            node.watchRevision = store.revision + 1
            guard !changes.isEmpty else { continue }
            node.watchArrival = max(node.watchArrival, now + delay + storeDelay())
            queue.push(
                at: node.watchArrival,
                .watchDelivers(
                    node: number, lives: node.lives,
                    message: keep(.changes(watch: node.watch, changes))))
        }
    }

    func takeChanges(_ number: Int, _ lives: UInt32, _ message: Int) {
        let node = nodes[number]
        guard let life = node.life, node.lives == lives, node.isStoreCut == 0 else {
            free(message)
            return
        }
        if node.stoppedUntil > now {
            queue.push(
                at: node.stoppedUntil,
                .watchDelivers(node: number, lives: lives, message: message))
            return
        }
        guard case .changes(let watch, let changes) = free(message) else { return }
        life.gateway.receive(changes, ofWatch: watch, nowNanoseconds: node.local(now))
        drain(number)
    }

    func breakWatch(_ number: Int, _ lives: UInt32, _ watch: UInt64) {
        let node = nodes[number]
        guard let life = node.life, node.lives == lives else { return }
        if node.stoppedUntil > now {
            queue.push(
                at: node.stoppedUntil,
                .watchBreaks(node: number, lives: lives, watch: watch))
            return
        }
        life.gateway.loseWatch(watch, nowNanoseconds: node.local(now))
        drain(number)
    }

    func expireStore() {
        let before = store.revision
        if now >= storeAwayUntil {
            store.expire(nowNanoseconds: now)
            if store.revision != before { tellWatchers(after: 0) }
        }
        queue.push(at: now + 50_000_000, .storeExpires)
    }

    /// What an operator writes: the weight of a node, or nothing again.
    func setWeight(_ weight: UInt16?, of node: NodeID) {
        let key = StoreKey.weight(node)
        let operation: CoordinationTransaction.Operation
        if let weight {
            let nonce = (0..<12).map { _ in UInt8(truncatingIfNeeded: nodeRandom.next()) }
            let value = WeightRecord(weight: weight).encode().withUnsafeBytes {
                seal.seal($0, key: key, nonce: nonce)
            }
            operation = .put(key: key.text, value: value, lease: nil)
        } else {
            operation = .delete(key: key.text)
        }
        _ = store.handle(
            .transaction(CoordinationTransaction(conditions: [], operations: [operation])),
            nowNanoseconds: now)
        tellWatchers(after: 0)
    }

    // MARK: News

    private func take(_ event: GatewayEvent, at number: Int) {
        switch event {
        case .established(let spi):
            announce(spi, by: number)
        case .refused(let spi, let reason):
            // Its next try is planned already.
            note { "node \(nodes[number].id): SPI \(spi) is refused: \(reason)" }
        case .reallocated(let report):
            note {
                "node \(report.node): epoch \(report.epoch), gained \(report.gained), lost "
                    + "\(report.lost), loaded \(report.loaded), updated \(report.updated), "
                    + "in host memory \(report.hosted), refused \(report.refused), "
                    + "cleared \(report.cleared)"
            }
            figures.reallocations += 1
            figures.cards.add(report)
            recorder?.reallocate(report, at: now)
        case .recordRefused(let key, let reason):
            note { "node \(nodes[number].id): \(key) refused: \(reason)" }
            figures.recordsRefused += 1
        case .lingering, .cleared, .ikeEstablished, .ikeClosed, .ikeAdopted: hear(event, at: number)
        case .generationsLow(let identifier, let left):
            note {
                "node \(nodes[number].id): identifier \(identifier) has \(left) generations left"
            }
        case .generationsSpent(let identifier, let cleared):
            fail("identifier \(identifier) is used up, and \(cleared) tunnels with it")
        case .tableRefused(let spi, let reason):
            fail("node \(nodes[number].id): no room for SPI \(spi) in the table: \(reason)")
        }
    }
}
