// Watches: each has a connection of its own, and goes on by itself on the next one.
//
// etcd tells a watch nothing while nothing changes, so silence alone means nothing. But every
// answer to anything tells the store's revision, and the chosen member is probed when there are no
// other answers: a watch that stays behind that, and silent, is begun anew where it is.

internal import Cluster
internal import EtcdMessages
internal import NIOCore

/// A watch. It is touched in the event loop only.
final class Watch {
    let id: UInt64
    var assembly: WatchAssembly
    var link: EtcdLink?
    /// Its request was answered.
    var hasBegun = false
    /// The question was sent on some connection.
    var wasSent = false
    /// The end of the time in which it must begin.
    var patience: Scheduled<Void>?
    var retryAt = NIODeadline.uptimeNanoseconds(0)
    /// The store's revision and the time, when the watch was last seen to be behind.
    var behind: (revision: UInt64, since: NIODeadline)?
    /// How often it was begun anew in a row without anything new.
    var fruitless: Int64 = 0
    var isPaused = false

    init(_ id: UInt64, _ assembly: WatchAssembly) {
        self.id = id
        self.assembly = assembly
    }

    func stop() {
        patience?.cancel()
        link?.close()
        link = nil
    }
}

extension EtcdEngine {
    /// Without anything new, a watch is begun anew less often: what changes may be in a part of
    /// the store that it does not look at.
    private static let fruitlessMaximum: Int64 = 16

    func beginWatch(_ id: UInt64, prefix: String, from: UInt64) {
        let watch = Watch(
            id,
            WatchAssembly(
                keyPrefix: configuration.keyPrefix, prefix: prefix, from: from))
        watches.updateValue(watch, forKey: id)?.stop()
        watch.patience = loop.assumeIsolated().scheduleTask(
            in: .nanoseconds(Int64(clamping: configuration.requestNanoseconds))
        ) { [weak self, weak watch] in
            guard let self, let watch, !watch.hasBegun else { return }
            outbox.count { if watch.wasSent { $0.timedOut += 1 } else { $0.unsent += 1 } }
            forget(watch)
            outbox.post(
                .reply(.failed(watch.wasSent ? .outcomeUnknown : .unavailable), to: id))
        }
        openWatch(watch)
    }

    func endWatch(_ id: UInt64) { watches.removeValue(forKey: id)?.stop() }

    private func forget(_ watch: Watch) {
        if watches[watch.id] === watch { watches[watch.id] = nil }
        watch.stop()
    }

    /// Begins the watch, or goes on with it, at the chosen member.
    func openWatch(_ watch: Watch) {
        watch.link?.close()
        watch.link = nil
        watch.behind = nil
        watch.isPaused = false
        guard let chosen else { return }
        if watch.hasBegun { outbox.count { $0.resumptions += 1 } }
        watch.assembly.restart()
        watch.retryAt = now + Self.retry
        watch.link = open(chosen) { [weak self, weak watch] event in
            if let self, let watch { hear(event, watch) }
        }
    }

    private func hear(_ event: LinkEvent, _ watch: Watch) {
        switch event {
        case .opened:
            watch.wasSent = true
            watch.link?.ask(watch.assembly.question)
        case .line(let line): take(line, watch)
        case .answer(let status, let body):
            guard let link = watch.link else { return }
            do throws(EtcdError) {
                _ = try read(body, .watch, status, link.endpoint).get(or: link.endpoint)
                breakOff(watch, .malformed(link.endpoint, reason: "a watch that ends"))
            } catch {
                breakOff(watch, error)
            }
        case .closed(let error):
            outbox.count { $0.broken += 1 }
            breakOff(watch, error)
        }
    }

    /// The stream is of no use any more; it is begun anew later.
    private func breakOff(_ watch: Watch, _ error: EtcdError) {
        let place = watch.link?.place
        watch.link?.close()
        watch.link = nil
        watch.behind = nil
        if let place { distrust(place, error) }
    }

    private func take(_ line: [UInt8], _ watch: Watch) {
        guard let link = watch.link else { return }
        do throws(MalformedAnswer) {
            let answer = try EtcdAnswer.read(line, as: .watch)
            if answer.compactRevision > 0 {
                return lose(watch, answer.compactRevision)
            }
            if answer.canceled || answer.refusal != nil {
                let message = answer.refusal?.message ?? "the watch was cancelled"
                let isLeaderless = answer.refusal?.isNoLeader == true
                return breakOff(
                    watch,
                    isLeaderless
                        ? .noLeader(link.endpoint) : .refused(link.endpoint, reason: message))
            }
            try check(answer)
            let foreign = watch.assembly.foreignKeys
            let changes = try watch.assembly.take(answer)
            outbox.count { $0.foreignKeys += UInt64(watch.assembly.foreignKeys - foreign) }
            watch.behind = nil
            if !answer.events.isEmpty {
                watch.fruitless = 0
                confirmWatch(watch.id)
            } else if answer.created {
                checkBeginning(watch, answer.revision)
            }
            tell(watch, changes)
        } catch {
            outbox.count { $0.malformed += 1 }
            breakOff(watch, .malformed(link.endpoint, reason: error.reason))
        }
    }

    private func tell(_ watch: Watch, _ changes: [CoordinationChange]) {
        guard !changes.isEmpty else { return }
        outbox.post(.changes(changes, ofWatch: watch.id))
        guard outbox.isFull else { return }
        watch.isPaused = true
        watch.link?.setReading(false)
    }

    // MARK: The beginning

    /// etcd says that a watch has begun before it looks whether the revision is still there, and
    /// cancels it then. A read of that revision answers at once.
    private func checkBeginning(_ watch: Watch, _ revision: UInt64) {
        guard !watch.hasBegun else { return }
        let start = watch.assembly.startRevision
        guard start <= revision else { return confirmWatch(watch.id) }
        enqueue(Job(watch.id, .check(watch: watch.id), .probe(at: start), .read))
    }

    /// The watch misses nothing.
    func confirmWatch(_ id: UInt64) {
        guard let watch = watches[id], !watch.hasBegun else { return }
        watch.hasBegun = true
        watch.patience?.cancel()
        outbox.post(.reply(.watching, to: id))
    }

    /// The watch wanted revisions that are gone.
    private func lose(_ watch: Watch, _ compactRevision: UInt64) {
        forget(watch)
        // See WatchAssembly: deletions in the revision itself are gone, too.
        outbox.post(
            watch.hasBegun
                ? .watchLost(watch.id)
                : .reply(.failed(.compacted(oldest: compactRevision + 1)), to: watch.id))
    }

    // MARK: From time to time

    func workOnWatches() {
        guard let chosen else { return }
        for watch in watches.values {
            guard let link = watch.link else {
                if now >= watch.retryAt { openWatch(watch) }
                continue
            }
            if watch.isPaused {
                guard !outbox.isFull else { continue }
                watch.isPaused = false
                watch.behind = nil
                link.setReading(true)
            }
            if isStalled(watch), link.place == chosen {
                outbox.count { $0.stalls += 1 }
                watch.fruitless = min(watch.fruitless + 1, Self.fruitlessMaximum)
                openWatch(watch)
            }
        }
    }

    /// Whether the watch has been silent and behind the store for too long.
    private func isStalled(_ watch: Watch) -> Bool {
        guard watch.assembly.next <= known else {
            watch.behind = nil
            return false
        }
        guard let behind = watch.behind else {
            watch.behind = (known, now)
            return false
        }
        guard watch.assembly.next <= behind.revision else {
            watch.behind = (known, now)
            return false
        }
        let limit = Int64(clamping: configuration.stallNanoseconds) * max(1, watch.fruitless)
        return now - behind.since >= .nanoseconds(limit)
    }
}
