// The IKE side of a node: the endpoint that speaks, what the store knows of all IKE SAs, and steps
// whose results are on their way there.

import Cluster
import Crypto
import IKEStub
import Wire

/// What the store holds of an IKE SA, sealed as it came.
struct StoredIKE {
    var revision: UInt64
    /// Empty where this node is no backup of its identifier.
    var sealed: [UInt8]
    var peer: UInt64
    var flow: IKERecord.Flow
    var pairs: [IKERecord.Pair]
    var addresses: [IPAddress]
}

/// One change of a value in the store.
struct IKEWrite {
    let home: DistributionIdentifier
    let localSPI: UInt64
    /// nil: the value goes.
    let value: StoredIKE?
}

/// What one call to the endpoint led to. Its events wait until the store has its writes, so that
/// every successor gives the same answers (docs/decisions/0017-ike-state.md).
struct IKEStep {
    /// IKE SAs that took part. No later step of one of them overtakes this one.
    let involved: [UInt64]
    var events: [IKEEvent]
    var writes: [IKEWrite]
    /// Pairs whose entries go into the store with it, and those whose entries leave it.
    var installs: [SPI]
    /// Pairs that send from this step on, and those that did before.
    var sending: [(spi: SPI, replaced: SPI?)] = []
    /// Pairs of other nodes' identifiers, whose owners have not answered yet.
    var foreign: [SPI] = []
    /// The store's revision of the allocation whose owners were told.
    var toldUnder: UInt64 = 0
    var removals: [SPI]
    /// IKE SAs with which another node goes on.
    var departures: [UInt64]
    var request: UInt64?
    var triedAt: UInt64 = 0
    /// The store's revision of the allocation that the last try was conditional on.
    var triedUnder: UInt64 = 0

    func isOf(_ localSPI: UInt64) -> Bool { involved.contains(localSPI) }
}

/// A message that can't be acted upon yet.
struct HeldMessage {
    let identifier: DistributionIdentifier
    /// The IKE SA that it names; 0 in the first message of one.
    let localSPI: UInt64
    let octets: [UInt8]
    let path: IKEPath
}

/// The IKE side of a node.
struct IKESide {
    let endpoint: IKEEndpoint
    let environment: IKEEnvironment
    let resources: ClusterResources

    /// By identifier, then by local SPI: what the store holds.
    var records: [[UInt64: StoredIKE]]
    /// By inbound SPI: in which record a pair stands.
    private var holders: [SPI: (home: DistributionIdentifier, localSPI: UInt64)] = [:]
    /// By local SPI: whose owner speaks for an IKE SA of the endpoint. That is the identifier of
    /// its initiator's SPI, but for one that is tied to another yet.
    var homes: [UInt64: DistributionIdentifier] = [:]
    /// By identifier: the IKE SAs of the endpoint.
    var members: [Set<UInt64>]
    /// By identifier: its owner changes nothing any more, as it is about to hand it over.
    var isClosing: [Bool]
    /// In order.
    var steps: [IKEStep] = []
    /// Messages to IKE SAs with a step under way, and to identifiers that are being taken over.
    private(set) var held: [HeldMessage] = []
    /// Pairs that wait for a sign that their peers can decrypt.
    var silent: Set<SPI> = []
    /// Pairs that other nodes speak for, and that were chosen to send before the store said so.
    var begun: Set<SPI> = []
    /// Places of the pairs that this node speaks for, in the order of policies: a successor keeps
    /// that of its predecessor, which is gone sooner.
    var orders: [SPI: UInt64] = [:]
    /// Pairs that no node has: their peers must know.
    var doomed: [SPI] = []
    /// IKE SAs that have changed since their last record in ways that a successor can do without.
    var unsaved: Set<UInt64> = []
    /// IKE SAs of the store that are to be gone on with. `isExact`: with all that was done before.
    var arrivals: [(home: DistributionIdentifier, localSPI: UInt64, isExact: Bool)] = []

    /// Messages held at once; more are lost, and come again.
    private static let heldMaximum = 4096
    /// Messages held for one IKE SA: a request, an answer, and some fragments.
    private static let heldPerAssociation = 32

    init(_ environment: IKEEnvironment, _ resources: ClusterResources, count: Int, now: UInt64) {
        endpoint = IKEEndpoint(environment, now: now)
        self.environment = environment
        self.resources = resources
        records = Array(repeating: [:], count: count)
        members = Array(repeating: [], count: count)
        isClosing = Array(repeating: false, count: count)
    }

    /// True while a step of the IKE SA is under way.
    func isBusy(_ localSPI: UInt64) -> Bool { steps.contains { $0.isOf(localSPI) } }

    /// True while a step that changes values of the identifier is under way.
    func isBusy(_ identifier: DistributionIdentifier) -> Bool {
        steps.contains { step in step.writes.contains { $0.home == identifier } }
    }

    // MARK: Messages that wait

    mutating func hold(_ message: HeldMessage) {
        guard held.count < Self.heldMaximum else { return }
        let ofSame = held.count { $0.localSPI == message.localSPI && $0.localSPI != 0 }
        if ofSame < Self.heldPerAssociation { held.append(message) }
    }

    mutating func takeHeld(where isWanted: (HeldMessage) -> Bool) -> [HeldMessage] {
        guard held.contains(where: isWanted) else { return [] }
        let taken = held.filter(isWanted)
        held.removeAll(where: isWanted)
        return taken
    }

    // MARK: IKE SAs of the endpoint

    mutating func enter(_ localSPI: UInt64, home: DistributionIdentifier) {
        if let old = homes[localSPI] { members[Int(old.value)].remove(localSPI) }
        homes[localSPI] = home
        members[Int(home.value)].insert(localSPI)
    }

    mutating func leave(_ localSPI: UInt64) {
        guard let home = homes.removeValue(forKey: localSPI) else { return }
        for pair in record(home, localSPI)?.pairs ?? []
        where endpoint.localSPI(ofChild: pair.spi) == nil { orders[pair.spi] = nil }
        members[Int(home.value)].remove(localSPI)
        unsaved.remove(localSPI)
    }

    // MARK: Values of the store

    func record(_ home: DistributionIdentifier, _ localSPI: UInt64) -> StoredIKE? {
        records[Int(home.value)][localSPI]
    }

    /// Lets go of what a node needs only to go on with the IKE SAs of an identifier.
    mutating func shedRecords(of home: DistributionIdentifier) {
        for spi in records[Int(home.value)].keys {
            records[Int(home.value)][spi]?.sealed = []
        }
    }

    /// What the store says of a pair.
    func stored(_ spi: SPI) -> (pair: IKERecord.Pair, flow: IKERecord.Flow)? {
        guard let holder = holders[spi], let record = record(holder.home, holder.localSPI),
            let pair = record.pairs.first(where: { $0.spi == spi })
        else { return nil }
        return (pair, record.flow)
    }

    mutating func setRecord(
        _ home: DistributionIdentifier, _ localSPI: UInt64, _ value: StoredIKE?
    ) {
        let old = records[Int(home.value)][localSPI]
        resources.noteAddresses(value?.addresses ?? [], insteadOf: old?.addresses ?? [])
        for pair in old?.pairs ?? []
        where value?.pairs.contains(where: { $0.spi == pair.spi }) != true {
            begun.remove(pair.spi)
            // A record of its successor may have come first.
            if let holder = holders[pair.spi], holder == (home, localSPI) {
                holders[pair.spi] = nil
            }
        }
        for pair in value?.pairs ?? [] { holders[pair.spi] = (home, localSPI) }
        records[Int(home.value)][localSPI] = value
    }
}

extension ISAKMPHeader {
    /// The SPI of the end that a datagram with this header goes to: it names the IKE SA there. 0 in
    /// a request for a new one.
    func localSPI(_ datagram: UnsafeRawBufferPointer) -> UInt64 {
        // The flag I: the sender began the IKE SA (RFC 7296 §3.1).
        datagram[19] & 0x08 == 0 ? initiatorCookie : responderCookie
    }
}
