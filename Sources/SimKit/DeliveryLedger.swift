// Which inner packets reached the other side, recorded exactly: no packet may arrive twice.

/// All inner packets delivered, by tunnel, direction and serial number.
public struct DeliveryLedger: Sendable {
    private var runs: NumberRuns
    /// By tunnel.
    private var again: [UInt32]
    /// Different packets delivered.
    public private(set) var count: UInt64 = 0
    /// Deliveries of packets that had been delivered before.
    public private(set) var duplicates: UInt64 = 0

    /// An empty record of tunnels 0..<`tunnels`.
    public init(tunnels: Int) {
        runs = NumberRuns(lists: tunnels * 2)
        again = Array(repeating: 0, count: tunnels)
    }

    /// Records one delivery; false: the packet was delivered before. `isToPeer`: from the protected
    /// net to the tunnel's far end.
    public mutating func note(tunnel: Int, isToPeer: Bool, serial: UInt64) -> Bool {
        let list = tunnel &* 2 &+ (isToPeer ? 1 : 0)
        guard runs.insert(serial, tag: 0, list: list) == nil else {
            duplicates &+= 1
            again[tunnel] &+= 1
            return false
        }
        count &+= 1
        return true
    }

    /// Deliveries of one tunnel's packets, both directions, after their first.
    public func duplicates(_ tunnel: Int) -> Int { Int(again[tunnel]) }

    /// Different packets delivered in one direction.
    public func count(_ tunnel: Int, isToPeer: Bool) -> Int {
        runs.count(tunnel * 2 + (isToPeer ? 1 : 0))
    }

    /// The highest serial delivered; nil: none.
    public func highest(_ tunnel: Int, isToPeer: Bool) -> UInt64? {
        runs.highest(tunnel * 2 + (isToPeer ? 1 : 0))
    }

    /// True when the packet was delivered.
    public func hasDelivered(_ tunnel: Int, isToPeer: Bool, serial: UInt64) -> Bool {
        runs.contains(serial, list: tunnel * 2 + (isToPeer ? 1 : 0))
    }
}
