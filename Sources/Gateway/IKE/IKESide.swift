// The IKE side of a node: the endpoint that speaks, what the store knows of all IKE SAs, and steps
// whose results are on their way there.

import Cluster
import Crypto
import IKEStub
import Wire

/// What the store holds of an IKE SA, sealed as it came.
struct StoredIKE {
    var revision: UInt64
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
    let number: UInt64
    /// IKE SAs that took part. No later step of one of them overtakes this one.
    let involved: [UInt64]
    var events: [IKEEvent]
    var writes: [IKEWrite]
    /// Pairs whose entries go into the store with it, and those whose entries leave it.
    var installs: [SPI]
    /// Pairs of other nodes' identifiers, which their owners have not taken yet.
    var foreign: [SPI] = []
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
    /// By local SPI: whose owner speaks for an IKE SA of the endpoint. That is the identifier of
    /// its initiator's SPI, but for one that is tied to another yet.
    var homes: [UInt64: DistributionIdentifier] = [:]
    /// By identifier: the IKE SAs of the endpoint.
    var members: [Set<UInt64>]
    /// By identifier: its owner changes nothing any more, as it is about to hand it over.
    var isClosing: [Bool]
    /// By identifier: this ownership began with the exact state of the one before.
    var isExact: [Bool]
    /// In order.
    var steps: [IKEStep] = []
    private(set) var lastStep: UInt64 = 0
    /// Messages to IKE SAs with a step under way, and to identifiers that are being taken over.
    private(set) var held: [HeldMessage] = []
    /// Pairs that wait for a sign that their peers can decrypt.
    var silent: Set<SPI> = []
    /// IKE SAs that have changed since their last record in ways that a successor can do without.
    var unsaved: Set<UInt64> = []
    /// IKE SAs of the store that are to be gone on with.
    var arrivals: [(home: DistributionIdentifier, localSPI: UInt64)] = []

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
        isExact = isClosing
    }

    /// True while a step of the IKE SA is under way.
    func isBusy(_ localSPI: UInt64) -> Bool { steps.contains { $0.isOf(localSPI) } }

    /// True while a step that changes values of the identifier is under way.
    func isBusy(_ identifier: DistributionIdentifier) -> Bool {
        steps.contains { step in step.writes.contains { $0.home == identifier } }
    }

    mutating func nextStep() -> UInt64 {
        lastStep += 1
        return lastStep
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
        members[Int(home.value)].remove(localSPI)
        unsaved.remove(localSPI)
    }

    // MARK: Values of the store

    func record(_ home: DistributionIdentifier, _ localSPI: UInt64) -> StoredIKE? {
        records[Int(home.value)][localSPI]
    }

    mutating func setRecord(
        _ home: DistributionIdentifier, _ localSPI: UInt64, _ value: StoredIKE?
    ) {
        let old = records[Int(home.value)][localSPI]
        resources.noteAddresses(value?.addresses ?? [], insteadOf: old?.addresses ?? [])
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
