// What many associations share: lifetime and header policies, and selector lists too long for a
// record. All slabs of one node share one catalogue, so that a record moves between the common
// table and the card as it is.

import Wire

/// Policies that differ per connection, not per association.
struct AssociationProfile: Hashable {
    var lifetimes: Lifetimes
    var headers: TunnelHeaderPolicy
}

/// The same policies as the packet path reads them: decisions taken once, per policy.
struct PacketPolicy {
    /// Which bits of the outer traffic class come from the inner one, and the others' values.
    let classMask: UInt8
    let classValue: UInt8
    /// 0: copied.
    let hopLimit: UInt8
    let dontFragment: TunnelHeaderPolicy.DontFragment
    let decrementsInnerHopLimit: Bool
    let tfcBytes: UInt16
    /// The longest outer packet over IPv4 and over IPv6.
    let totalMaximumV4: UInt32
    let totalMaximumV6: UInt32
    let lifetimes: Lifetimes

    init(_ profile: AssociationProfile) {
        let headers = profile.headers
        classMask = (headers.dscp == nil ? 0xFC : 0) | (headers.ecn == .normal ? 0x03 : 0)
        classValue = (headers.dscp ?? 0) << 2
        hopLimit = headers.hopLimit ?? 0
        dontFragment = headers.dontFragment
        decrementsInnerHopLimit = headers.decrementsInnerHopLimit
        tfcBytes = headers.tfcBytes
        totalMaximumV4 = UInt32(headers.pathMTU)
        // An IPv6 header does not count into the length field.
        totalMaximumV6 =
            headers.pathMTU == .max
            ? 65_535 + UInt32(IPPacket.ipv6HeaderBytes) : UInt32(headers.pathMTU)
        lifetimes = profile.lifetimes
    }
}

/// A selector list with the number of records that use it.
struct SelectorList {
    let source: UnsafeMutableBufferPointer<TrafficSelector>
    let destination: UnsafeMutableBufferPointer<TrafficSelector>
    var users: Int

    init(_ selectors: AssociationSelectors) {
        source = .allocate(capacity: selectors.source.count)
        _ = source.initialize(from: selectors.source)
        destination = .allocate(capacity: selectors.destination.count)
        _ = destination.initialize(from: selectors.destination)
        users = 1
    }

    func deallocate() {
        source.deallocate()
        destination.deallocate()
    }

    var selectors: AssociationSelectors {
        AssociationSelectors(source: Array(source), destination: Array(destination))
    }

    @inline(never)
    func admits(_ base: UnsafeRawPointer, count: Int) -> Bool {
        guard let packet = try? IPPacket(at: base, count: count) else { return false }
        let flow = InnerFlow(packet, base)
        let addresses = innerAddresses(packet, base)
        return Self.covers(source, addresses.source, flow, flow.sourcePort)
            && Self.covers(destination, addresses.destination, flow, flow.destinationPort)
    }

    private static func covers(
        _ list: UnsafeMutableBufferPointer<TrafficSelector>, _ address: IPAddress,
        _ flow: InnerFlow, _ port: UInt16
    ) -> Bool {
        if list.isEmpty { return true }
        for index in list.indices where list[index].covers(address, flow, port: port) {
            return true
        }
        return false
    }
}

/// Shared policies and selector lists of one node's slabs. Not Sendable: one owner thread.
public final class AssociationCatalogue {
    /// The packet path's view; valid until the next change of the catalogue.
    struct Pointers {
        let policies: UnsafeMutablePointer<PacketPolicy>
        let selectors: UnsafeMutablePointer<SelectorList>
    }

    /// Policies are a matter of configuration; more of them than this is a configuration error.
    public static let profilesMaximum = 65_535

    private var profiles: UnsafeMutableBufferPointer<AssociationProfile>
    private var policies: UnsafeMutableBufferPointer<PacketPolicy>
    private var profileCount = 0
    private var profileUsers: [Int] = []
    private var freeProfiles: [UInt16] = []
    private var profileIndex: [AssociationProfile: UInt16] = [:]
    private var lists: UnsafeMutableBufferPointer<SelectorList>
    private var listCount = 0
    private var freeLists: [UInt32] = []
    private var listIndex: [AssociationSelectors: UInt32] = [:]

    /// An empty catalogue.
    public init() {
        profiles = .allocate(capacity: 16)
        policies = .allocate(capacity: 16)
        lists = .allocate(capacity: 16)
    }

    deinit {
        let free = Set(freeLists)
        for index in 0..<listCount where !free.contains(UInt32(index)) {
            lists[index].deallocate()
        }
        lists.deallocate()
        profiles.deallocate()
        policies.deallocate()
    }

    /// The arrays hold at least 16 places, so the addresses exist.
    var pointers: Pointers {
        Pointers(
            policies: policies.baseAddress.unsafelyUnwrapped,
            selectors: lists.baseAddress.unsafelyUnwrapped)
    }

    /// The number of a policy, used once more; nil when `profilesMaximum` are in use.
    func intern(_ profile: AssociationProfile) -> UInt16? {
        if let known = profileIndex[profile] {
            profileUsers[Int(known)] += 1
            return known
        }
        guard hasRoom(for: profile) else { return nil }
        let index: UInt16
        if let free = freeProfiles.popLast() {
            index = free
            profileUsers[Int(free)] = 1
        } else {
            if profileCount == profiles.count {
                profiles = Self.doubled(profiles)
                policies = Self.doubled(policies)
            }
            index = UInt16(profileCount)
            profileCount += 1
            profileUsers.append(1)
        }
        // Both are trivial values: a freed place is simply written again.
        profiles.initializeElement(at: Int(index), to: profile)
        policies.initializeElement(at: Int(index), to: PacketPolicy(profile))
        profileIndex[profile] = index
        return index
    }

    /// False when the policy is new and `profilesMaximum` are in use.
    func hasRoom(for profile: AssociationProfile) -> Bool {
        profileIndex[profile] != nil || !freeProfiles.isEmpty
            || profileCount < Self.profilesMaximum
    }

    func retain(profile index: UInt16) { profileUsers[Int(index)] += 1 }

    func release(profile index: UInt16) {
        profileUsers[Int(index)] -= 1
        guard profileUsers[Int(index)] == 0 else { return }
        profileIndex[profiles[Int(index)]] = nil
        freeProfiles.append(index)
    }

    /// The number of a list, used once more.
    func intern(_ selectors: AssociationSelectors) -> UInt32 {
        if let known = listIndex[selectors] {
            lists[Int(known)].users += 1
            return known
        }
        let index: UInt32
        if let free = freeLists.popLast() {
            index = free
        } else {
            if listCount == lists.count { lists = Self.doubled(lists) }
            index = UInt32(listCount)
            listCount += 1
        }
        lists.initializeElement(at: Int(index), to: SelectorList(selectors))
        listIndex[selectors] = index
        return index
    }

    func retain(list index: UInt32) { lists[Int(index)].users += 1 }

    func release(list index: UInt32) {
        lists[Int(index)].users -= 1
        guard lists[Int(index)].users == 0 else { return }
        listIndex[lists[Int(index)].selectors] = nil
        lists[Int(index)].deallocate()
        freeLists.append(index)
    }

    func selectors(list index: UInt32) -> AssociationSelectors { lists[Int(index)].selectors }

    func profile(_ index: UInt16) -> AssociationProfile { profiles[Int(index)] }

    private static func doubled<Element>(
        _ old: UnsafeMutableBufferPointer<Element>
    ) -> UnsafeMutableBufferPointer<Element> {
        let new = UnsafeMutableBufferPointer<Element>.allocate(capacity: old.count * 2)
        _ = new.moveInitialize(fromContentsOf: old)
        old.deallocate()
        return new
    }
}
