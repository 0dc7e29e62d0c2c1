// What is due without a message: repetitions, rekeying, liveness, ends of lives.

internal import Crypto
internal import ESP
internal import Wire

extension IKEAssociation {
    /// When ``advance(_:_:)`` has something to do, in nanoseconds of the owner's clock.
    func deadline(_ environment: IKEEnvironment) -> UInt64 {
        guard stage != .closed else { return .max }
        var next = min(times.end, syncDeadline)
        if let outstanding = requests.outstanding, !sync.isWaiting {
            next = min(next, outstanding.repeatAt)
        }
        guard stage == .established else { return next }
        next = min(next, times.rekey)
        for child in children {
            next = min(next, child.end, child.stage == .active ? child.rekey : .max)
        }
        if !requests.postponed.isEmpty { next = min(next, times.retry) }
        let timers = timers(environment)
        if timers.liveness != 0, requests.outstanding == nil, !sync.isWaiting {
            next = min(next, times.heard &+ timers.liveness)
        }
        if sendsKeepalives(timers) { next = min(next, times.sent &+ timers.keepalive) }
        return next
    }

    private func sendsKeepalives(_ timers: IKETimers) -> Bool {
        traits.contains(.localNAT) && path.hasMarker && timers.keepalive != 0
    }

    /// Does what is due at `step.now`.
    func advance(_ step: borrowing Step, _ outcome: inout IKEOutcome) throws(CryptoError) {
        guard stage != .closed else { return }
        if step.now >= times.end {
            reportEnd(&outcome)
            return close(step, &outcome)
        }
        if stage == .established { try advanceSync(step, &outcome) }
        guard repeatRequest(step, &outcome) else { return }
        guard stage == .established else { return try runTasks(step, &outcome) }
        if step.now >= times.rekey {
            times.rekey = .max
            requests.add(.rekeyIKE)
        }
        advanceChildren(step, &outcome)
        if step.now >= times.retry {
            times.retry = .max
            for task in requests.postponed { requests.add(task) }
            requests.postponed = []
        }
        let timers = timers(step.environment)
        if timers.liveness != 0, requests.outstanding == nil, !sync.isWaiting,
            requests.tasks.isEmpty,
            step.now >= lastHeard(step.environment) &+ timers.liveness
        {
            requests.add(.liveness)
        }
        try runTasks(step, &outcome)
        if sendsKeepalives(timers), step.now >= times.sent &+ timers.keepalive {
            times.sent = step.now
            outcome.events.append(.keepalive(path))
        }
    }

    private func reportEnd(_ outcome: inout IKEOutcome) {
        switch stage {
        case .established:
            report(.closed, .warning, "its life is over without a successor", &outcome)
        case .initSent, .authSent:
            report(.setUpFailed, .warning, "the set-up was not completed in time", &outcome)
        // A stranger that did not return, or an IKE SA that has a successor.
        case .initAnswered, .replaced, .closed: break
        }
    }

    /// Packets through the pairs are as good a sign of life as messages (RFC 7296 §2.4).
    private func lastHeard(_ environment: IKEEnvironment) -> UInt64 {
        for child in children {
            guard let received = environment.resources.lastReceived(child.inbound) else { continue }
            times.heard = max(times.heard, received)
        }
        return times.heard
    }

    /// Repeats the outstanding request, or gives the peer up. False: the IKE SA is closed.
    private func repeatRequest(_ step: borrowing Step, _ outcome: inout IKEOutcome) -> Bool {
        guard var outstanding = requests.outstanding, step.now >= outstanding.repeatAt,
            !sync.isWaiting
        else { return true }
        let timers = timers(step.environment)
        guard outstanding.repetitions < timers.retransmissionTries else {
            report(
                .peerSilent, .warning,
                "no answer after \(outstanding.repetitions) repetitions: taken for dead", &outcome)
            close(step, &outcome)
            return false
        }
        outstanding.repetitions += 1
        outstanding.repeatAt = step.after(outstanding.patience)
        outstanding.patience = timers.backoff(outstanding.patience)
        requests.outstanding = outstanding
        times.sent = step.now
        outcome.events.append(.send(outstanding.datagrams, path))
        return true
    }

    private func advanceChildren(_ step: borrowing Step, _ outcome: inout IKEOutcome) {
        let environment = step.environment
        for child in children {
            if child.stage == .lingering {
                if step.now >= child.end {
                    children.removeAll { $0.inbound == child.inbound }
                    startSuccessor(of: child.inbound, &outcome)
                    drop(child, environment, &outcome)
                    outcome.noteChange(of: localSPI)
                }
                continue
            }
            if step.now >= child.end {
                report(
                    .childClosed, .warning,
                    "\(child.policy) \(child.inbound) has outlived its keys", &outcome)
                setRekey(.max, of: child.inbound)
                setEnd(.max, of: child.inbound)
                requests.add(.deleteChildren([child.inbound]))
                outcome.noteChange(of: localSPI)
            } else if step.now >= child.rekey {
                setRekey(.max, of: child.inbound)
                if child.stage == .active { requests.add(.rekeyChild(child.inbound)) }
            }
        }
    }

    /// So many packets went through a pair that it needs new keys: its time has come, once. What is
    /// refused then is tried again as after any other rekeying.
    func noteSoftLifetime(of spi: SPI, now: UInt64, _ outcome: inout IKEOutcome) {
        guard stage == .established,
            let index = children.firstIndex(where: { $0.inbound == spi && $0.stage == .active }),
            !children[index].isNearlyUsed
        else { return }
        children[index].isNearlyUsed = true
        outcome.noteChange(of: localSPI)
        if !isRekeying(spi) { children[index].rekey = min(children[index].rekey, now) }
    }

    private func isRekeying(_ spi: SPI) -> Bool {
        if case .createChild(let offer) = requests.outstanding?.exchange, offer.replaces == spi {
            return true
        }
        return requests.tasks.contains(.rekeyChild(spi))
            || requests.tasks.contains(.renewChild(spi))
    }

    private func setRekey(_ time: UInt64, of spi: SPI) {
        guard let index = children.firstIndex(where: { $0.inbound == spi }) else { return }
        children[index].rekey = time
    }

    private func setEnd(_ time: UInt64, of spi: SPI) {
        guard let index = children.firstIndex(where: { $0.inbound == spi }) else { return }
        children[index].end = time
    }
}
