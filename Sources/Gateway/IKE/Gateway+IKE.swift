// A node speaks IKE: messages and commands come in, steps of IKE SAs go to the store and then out.

import Cluster
public import Crypto
import CryptoCardSim
import ESP
public import IKEStub
public import Wire

extension Gateway {
    /// From now on this node speaks IKE for the identifiers that it owns. To be called once, before
    /// anything else. Random numbers of keys and nonces come from `random`.
    public mutating func speakIKE(
        _ configuration: IKEConfiguration, random: any RandomSource, nowNanoseconds now: UInt64
    ) {
        precondition(ike == nil, "a node has one IKE side")
        let pairs =
            self.configuration.whenFull == .refuse
            ? min(self.configuration.cardCapacity / 2, self.configuration.tableCapacity)
            : self.configuration.tableCapacity
        let resources = ClusterResources(distribution, capacity: pairs)
        let environment = IKEEnvironment(
            library: plane.library, configuration: configuration, random: random,
            resources: resources)
        plane.followsPeers = true
        ike = IKESide(
            environment, resources, count: distribution.identifierCount, now: now)
    }

    /// What this node knows about its peers; it may be replaced at any time, and IKE SAs go on
    /// under the new one.
    public var ikeConfiguration: IKEConfiguration? {
        get { ike?.environment.configuration }
        set { if let newValue { ike?.environment.configuration = newValue } }
    }

    // MARK: Input

    /// Takes an IKE message: the payload of a packet with the verdict `ike`, without the marker.
    public mutating func receive(
        message octets: UnsafeRawBufferPointer, path: IKEPath, nowNanoseconds now: UInt64
    ) {
        guard ike != nil,
            let header = octets.baseAddress.flatMap({ ISAKMPHeader(at: $0, count: octets.count) })
        else { return }
        let localSPI = header.localSPI(octets)
        let identifier =
            ike?.homes[localSPI]
            ?? distribution.identifier(ofInitiatorCookie: header.initiatorCookie)
        let message = {
            HeldMessage(
                identifier: identifier, localSPI: localSPI, octets: Array(octets), path: path)
        }
        switch plane.roles[Int(identifier.value)] {
        case .holding, .awaiting: ike?.hold(message())
        // Who has handed it over is silent: the successor holds the message too.
        case .foreign, .frozen: break
        case .owned, .loading:
            guard now < plane.servingUntil, ike?.isClosing[Int(identifier.value)] == false
            else { return }
            // A set-up that the store would not take is not begun.
            if localSPI == 0, client.isAway(nowNanoseconds: now) { return }
            arrive(identifier, localSPI, now)
            guard ike?.isBusy(localSPI) == false else {
                ike?.hold(message())
                return
            }
            let outcome = ike?.endpoint.receive(
                octets, path: path, now: now, seconds: secondsSince1970)
            if let outcome { take(outcome, now) }
        }
        pump(now)
    }

    /// Begins an IKE SA, with one pair of the policy `child`, if it is not nil. Returns the SPI
    /// that names it here; nil: there is no such connection or policy, or this node may not serve
    /// now.
    public mutating func initiate(
        _ connection: String, child: String?, path: IKEPath, nowNanoseconds now: UInt64
    ) -> UInt64? {
        guard let endpoint = ike?.endpoint, now < plane.servingUntil,
            plane.roles.contains(where: \.isOwner), !client.isAway(nowNanoseconds: now),
            let (localSPI, outcome) = endpoint.initiate(
                connection, child: child, path: path, now: now, seconds: secondsSince1970)
        else { return nil }
        take(outcome, now)
        pump(now)
        return localSPI
    }

    /// Asks something of an IKE SA; false: this node does not speak for it, or can't ask it that.
    @discardableResult
    public mutating func command(
        _ command: IKEEndpoint.Command, localSPI: UInt64, nowNanoseconds now: UInt64
    ) -> Bool {
        guard let home = ike?.homes[localSPI], now < plane.servingUntil,
            plane.owns(home), ike?.isClosing[Int(home.value)] == false,
            let outcome = ike?.endpoint.command(
                command, localSPI: localSPI, now: now, seconds: secondsSince1970)
        else { return false }
        take(outcome, now)
        pump(now)
        return true
    }

    // MARK: Time

    /// Adopts, repeats, rekeys, asks for signs of life: whatever is due.
    mutating func tickIKE(_ now: UInt64) {
        guard ike != nil else { return }
        submitSteps(now)
        clearUnclaimed(now)
        guard now < plane.servingUntil else { return }
        let doomed = ike?.doomed ?? []
        ike?.doomed = []
        for spi in doomed { deletePair(spi, now) }
        arriveSome(now)
        while let outcome = ike?.endpoint.advanceNext(to: now, seconds: secondsSince1970) {
            take(outcome, now)
        }
    }

    /// When `tickIKE` has something to do.
    func nextIKEDeadline(_ now: UInt64) -> UInt64 {
        // Without the right to serve nothing is done: heartbeats ask again.
        guard let ike, now < plane.servingUntil else { return .max }
        return ike.arrivals.isEmpty ? ike.endpoint.deadline ?? .max : now
    }

    // MARK: Packets that say something

    /// Packets came in through pairs: their peers live, and can decrypt what such pairs send.
    mutating func noteHeard(
        _ packets: UnsafeMutableBufferPointer<PacketDescriptor>,
        _ verdicts: UnsafeMutableBufferPointer<PacketVerdict>, _ now: UInt64
    ) {
        guard let resources = ike?.resources else { return }
        var last: SPI?
        var ready: [SPI] = []
        for index in packets.indices where verdicts[index] == .delivered {
            guard let spi = packets[index].location?.spi, spi != last else { continue }
            last = spi
            resources.noteReceived(spi, at: now)
            if ike?.silent.contains(spi) == true { ready.append(spi) }
        }
        for spi in ready {
            guard ike?.silent.remove(spi) != nil, let endpoint = ike?.endpoint else { continue }
            if let localSPI = endpoint.localSPI(ofChild: spi) {
                take(endpoint.noteReceived(spi, localSPI: localSPI), now)
            } else {
                // Another node speaks for it.
                beginSending(through: spi, insteadOf: nil, now)
            }
        }
        if !ready.isEmpty { pump(now) }
        if !plane.moved.isEmpty { followMoved(now) }
    }

    private mutating func followMoved(_ now: UInt64) {
        for (spi, source, port) in exchange(&plane.moved, with: []) {
            guard let endpoint = ike?.endpoint, let localSPI = endpoint.localSPI(ofChild: spi)
            else { continue }
            take(
                endpoint.noteReceived(
                    spi, localSPI: localSPI, from: source, port: port, now: now), now)
        }
        pump(now)
    }

    /// Asks for new keys of pairs that carried many packets.
    mutating func renewWorn(_ now: UInt64) {
        for spi in exchange(&plane.worn, with: []) {
            guard let endpoint = ike?.endpoint, let localSPI = endpoint.localSPI(ofChild: spi)
            else { continue }
            take(
                endpoint.noteSoftLifetime(
                    spi, localSPI: localSPI, now: now, seconds: secondsSince1970), now)
        }
        pump(now)
    }

    /// Lets numbers be chosen for what this node owns.
    mutating func noteRights() {
        guard let resources = ike?.resources, let allocation = record?.allocation else { return }
        resources.room =
            configuration.whenFull == .refuse
            ? (plane.card.capacity - plane.card.count) / 2 : .max
        for place in plane.roles.indices {
            let identifier = DistributionIdentifier(UInt16(place))
            let isOwn = plane.roles[place].isOwner
            // What this node determines for another's identifier, the other goes on with under its
            // own generation, which must be higher.
            let generation =
                isOwn ? plane.generations[place] : allocation.generation(of: identifier) - 1
            resources.note(identifier, generation: generation, isOwn: isOwn)
        }
    }

    // MARK: What there is

    /// The IKE SAs that this node speaks for, the oldest first.
    public borrowing func associations() -> [IKESummary] { ike?.endpoint.summaries() ?? [] }

    /// How many.
    public var associationCount: Int { ike?.endpoint.count ?? 0 }

    /// One of them.
    public borrowing func association(localSPI: UInt64) -> IKESummary? {
        ike?.endpoint.summary(of: localSPI)
    }

    /// What of IKE was not acted upon.
    public borrowing func ikeCounters() -> IKECounters { ike?.endpoint.counters ?? IKECounters() }

    /// Lends the keys of an IKE SA to whoever was asked to show them; false: it has none yet.
    public borrowing func withIKEKeys(
        of localSPI: UInt64, _ body: (IKESuite, borrowing IKEKeys) -> Void
    ) throws(CryptoError) -> Bool {
        try ike?.endpoint.withKeys(of: localSPI, body) ?? false
    }

    /// Tunnels that no IKE SA of the store has made, by inbound SPI, ascending.
    public borrowing func orphans() -> [SPI] {
        var made: Set<SPI> = []
        for records in ike?.records ?? [] {
            for record in records.values { made.formUnion(record.pairs.map(\.spi)) }
        }
        return plane.table.entries().map { plane.table.status(of: $0).spi }
            .filter { !made.contains($0) }.sorted()
    }

    /// The local SPIs of the IKE SAs that this node speaks for, ascending.
    package borrowing func ikeLocalSPIs() -> [UInt64] { ike?.homes.keys.sorted() ?? [] }

    /// The local SPIs of all IKE SAs in the store, as far as this node knows them, ascending.
    package borrowing func ikeRecordSPIs() -> [UInt64] {
        ike?.records.flatMap(\.keys).sorted() ?? []
    }
}
