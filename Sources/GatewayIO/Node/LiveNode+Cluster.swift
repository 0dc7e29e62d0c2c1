// What a live node does as a member of a cluster.

internal import Cluster
internal import Crypto
internal import ESP
internal import Gateway
internal import Glibc
internal import Wire

extension LiveNode {
    /// Opens what a member needs: its gateway, which asks the store at once, and its two segments.
    static func join(
        _ cluster: ClusterConfiguration, _ configuration: NodeConfiguration, _ store: Store,
        _ library: CryptoLibrary
    ) throws(NodeError) -> (member: ClusterMember, edge: ClusterEdge, start: UInt64) {
        let outside = try SegmentDevice(name: cluster.outside.device)
        let start = worldNanoseconds()
        let member = try ClusterMember(
            cluster, capacity: configuration.cardCapacity, station: outside.address,
            store: try store(), ike: configuration.ike, library: library, now: start)
        let edge = try ClusterEdge(
            cluster, configuration, member.gateway.distribution, outsideDevice: outside)
        return (member, edge, start)
    }

    /// Who owns what, as this node sees it now.
    var owners: OwnerView {
        let member = member
        return OwnerView(
            isOwner: { member.gateway.owns($0) },
            station: { identifier in
                guard let owner = member.gateway.allocation?.owner(of: identifier),
                    owner != member.gateway.node
                else { return nil }
                return member.gateway.endpoint(of: owner)?.station
            })
    }

    func announceMember(_ addresses: String) {
        guard let cluster else { return }
        log(
            .info,
            "node \(cluster.node) of a cluster at \(addresses): peers by "
                + "\(cluster.outside.device.name), protected network by "
                + "\(cluster.inside.device.name)")
        cluster.begun = now + 1_000_000_000
        do throws(NodeError) {
            cluster.thread = try ControlThread(files: member.news) { [unowned self] in
                cluster.lock.lock()
                defer { cluster.lock.unlock() }
                return control(cluster)
            }
        } catch {
            // It serves nothing then: the others never hear of it.
            log(.warning, "\(error)")
        }
    }

    // MARK: Control

    /// What the control thread does each time: others are heard, what is due is done, and filters
    /// follow. Returns the milliseconds until something is due.
    private func control(_ cluster: ClusterEdge) -> Int32 {
        var now = now
        member.gateway.secondsSince1970 = Self.seconds()
        // What others sent counts before what they did not.
        member.carry(now)
        if member.gateway.nextDeadline(nowNanoseconds: now) <= now {
            noteLateness(now)
            now = self.now
            member.gateway.tick(nowNanoseconds: now)
            member.carry(now)
            cluster.lateness.expect(member.gateway.nextDeadline(nowNanoseconds: now))
        }
        follow(cluster)
        for fault in member.takeFaults() { log(.warning, fault) }
        if !member.outputs.isEmpty || !cluster.lines.isEmpty { cluster.call() }
        return milliseconds(until: member.gateway.nextDeadline(nowNanoseconds: now), self.now)
    }

    // MARK: Time

    /// What is due at the edge, and what changed there.
    func advanceMember(_ now: UInt64) {
        guard let cluster else { return }
        warnOfPriority(cluster)
        let owners = owners
        cluster.outside.tick(owners, nowNanoseconds: now)
        cluster.inside.tick(owners, nowNanoseconds: now)
        switch cluster.right.note(now < member.gateway.servingUntilNanoseconds, now) {
        case .began: log(.info, "serving: the others vouch for this node")
        case .ended:
            log(.warning, "not serving: neither enough members nor the store vouch for this node")
        case nil: break
        }
    }

    /// Once, when the thread is known to have got no priority.
    private func warnOfPriority(_ cluster: ClusterEdge) {
        guard !cluster.hasWarned, let thread = cluster.thread, now > cluster.begun else { return }
        cluster.hasWarned = true
        guard !thread.isRaised else { return }
        log(
            .warning,
            "no right to a higher priority (CAP_SYS_NICE): on a busy host this node is late, and "
                + "the others take it for dead")
    }

    /// Says when this node did not look after its heartbeats in time.
    func noteLateness(_ now: UInt64) {
        guard let cluster, let late = cluster.lateness.note(now) else { return }
        log(
            .warning,
            "late by \(late / 1_000_000) ms, \(cluster.lateness.count) times so far: the host or "
                + "this process was busy or stopped; the others may take it for dead")
    }

    /// Filters follow the allocation.
    func follow(_ cluster: ClusterEdge) {
        do throws(NodeError) {
            let hadNothing = cluster.isDeaf
            guard try cluster.follow(member.gateway, datagramSockets) else { return }
            // Peers may still think of whoever had the address before.
            if hadNothing {
                cluster.outside.announce(nowNanoseconds: now)
                cluster.inside.announce(nowNanoseconds: now)
            }
        } catch {
            log(.warning, "\(error)")
        }
    }

    // MARK: The end

    /// Hands over what this node has; the others go on.
    func beginLeaving() {
        log(.info, "leaving: handing over to the other members")
        member.gateway.leave(nowNanoseconds: now)
        carry()
    }

    /// True when nothing is left to hand over, or nobody is there to take it.
    var hasLeft: Bool {
        guard let allocation = member.gateway.allocation else { return true }
        let isAlone = member.gateway.presentNodes.allSatisfy { $0 == member.gateway.node }
        return isAlone || !allocation.owners.contains(member.gateway.node)
    }

    // MARK: Packets

    /// ESP over IP, and what else comes from the outer segment.
    func receiveSegment(_ cluster: ClusterEdge) {
        for _ in 0..<Self.turnsMaximum {
            let count = cluster.outside.receive(into: room, owners, nowNanoseconds: now)
            open { _ in }
            note(cluster.outside.takeNews())
            if count == 0 { return }
        }
    }

    /// Packets of the protected network, which all nodes hear: those of this node's tunnels go on.
    func forward(_ cluster: ClusterEdge) {
        for _ in 0..<Self.turnsMaximum {
            let owners = owners
            let count = cluster.inside.receive(
                into: room, owners, nowNanoseconds: now,
                isForeign: { cluster.isPlain($0) && member.gateway.isForeign($0) })
            admit(cluster, owners)
            seal()
            note(cluster.inside.takeNews())
            if count == 0 { return }
        }
    }

    /// Leaves in the batch what may go into tunnels.
    private func admit(_ cluster: ClusterEdge, _ owners: OwnerView) {
        let now = now
        var pieces: [[UInt8]] = []
        var rows: [(row: UnsafeRawBufferPointer, header: OffloadHeader)] = []
        room.filter { packet in
            switch cluster.admit(packet, owners, nowNanoseconds: now) {
            case .passes: return true
            case .ends: return false
            case .row(let header):
                rows.append((UnsafeRawBufferPointer(packet), header))
                return false
            case .pieces(let cut):
                pieces += cut
                return false
            }
        }
        cluster.inside.flush()
        guard !rows.isEmpty || !pieces.isEmpty else { return }
        seal()
        // What was captured lies in the places of pieces; in those of arrivals there is room.
        for (row, header) in rows {
            guard var cutter = PacketCutter(row, header) else { continue }
            while true {
                if room.free == 0 { seal() }
                let slot = room.count
                guard let length = cutter.next(room.address(slot)) else { break }
                room.append(slot: slot, before: 0, count: length)
            }
            seal()
        }
        for piece in pieces {
            if room.free == 0 { seal() }
            let slot = room.count
            piece.withUnsafeBytes { room.place(slot).copyMemory(from: $0) }
            room.append(slot: slot, before: 0, count: piece.count)
        }
    }

    private func note(_ news: [SegmentNews]) {
        for item in news {
            switch item {
            case .conflict(let conflict):
                log(
                    .warning,
                    "\(conflict.claimant) claims the cluster address \(conflict.address)")
            case .error: cluster?.icmpErrors += 1
            }
        }
    }
}
