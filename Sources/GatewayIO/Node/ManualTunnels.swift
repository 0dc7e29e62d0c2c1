// Manually keyed tunnels of a live node. Their keys outlive every process, so that their sequence
// numbers must, too (RFC 4301 §4.5, RFC 8221 §3): they are served with a state directory only, and
// keys whose numbers are forgotten are refused.

internal import Cluster
internal import Crypto
internal import ESP
internal import Wire

/// An association that we receive through, and the one that answers through.
struct ManualTunnel {
    /// Why associations of a file make no tunnels.
    struct Fault: Error {
        /// Of the entry.
        let index: Int
        let text: String
    }

    let inbound: AssociationEntry
    /// Nil: the tunnel only receives.
    let outbound: AssociationEntry?

    /// Pairs the associations of a file: the two of a tunnel mirror each other's addresses, ports,
    /// mode and selectors. Where several do, they go together in the order of the file.
    static func tunnels(
        of entries: [AssociationEntry], addresses: [IPAddress]
    ) throws(Fault) -> [ManualTunnel] {
        let isInbound = entries.map { addresses.contains($0.parameters.destination) }
        var unpaired = entries.indices.filter { !isInbound[$0] }
        var tunnels: [ManualTunnel] = []
        for index in entries.indices where isInbound[index] {
            let inbound = entries[index].parameters
            let place = unpaired.firstIndex { inbound.mirrors(entries[$0].parameters) }
            let outbound = place.map { entries[unpaired.remove(at: $0)] }
            tunnels.append(ManualTunnel(inbound: entries[index], outbound: outbound))
        }
        if let lonely = unpaired.first {
            throw Fault(
                index: lonely,
                text: "no association of the file receives what answers it: add one whose src, "
                    + "dst, ports, mode, ts_src and ts_dst mirror it")
        }
        return tunnels
    }
}

extension AssociationParameters {
    fileprivate func mirrors(_ other: AssociationParameters) -> Bool {
        source == other.destination && destination == other.source && mode == other.mode
            && udp?.source == other.udp?.destination && udp?.destination == other.udp?.source
            && Set(selectors.source) == Set(other.selectors.destination)
            && Set(selectors.destination) == Set(other.selectors.source)
    }
}

/// What the store remembers of manually keyed tunnels, and how that goes with the file of now.
struct ManualTunnels {
    private static let known = "node/manual/"
    private static let used = "node/used/"
    private static let entries = StoreKey.prefix + "entry/"
    private static let printBytes = 16

    /// A tunnel with names for what it is made of.
    struct Item {
        let tunnel: ManualTunnel
        /// Stands for keys and settings of both associations.
        let whole: [UInt8]
        /// Each stands for the keys of one association and its SPI.
        let keys: [[UInt8]]

        var spi: SPI { tunnel.inbound.spi }
        fileprivate var value: [UInt8] { whole + keys.flatMap { $0 } }
    }

    let items: [Item]
    /// Those that the store does not have yet.
    private(set) var new: [Item] = []

    /// Names everything under the cluster key.
    init(
        _ file: AssociationFile?, addresses: [IPAddress], _ journal: StateJournal
    ) throws(NodeError) {
        guard let file else {
            items = []
            return
        }
        do {
            var items: [Item] = []
            for tunnel in try ManualTunnel.tunnels(of: file.entries, addresses: addresses) {
                let inbound = try Self.whole(tunnel.inbound, .inbound, journal)
                let outbound =
                    try tunnel.outbound.map { try Self.whole($0, .outbound, journal) } ?? []
                var keys = [try Self.keys(tunnel.inbound, journal)]
                if let outbound = tunnel.outbound { keys.append(try Self.keys(outbound, journal)) }
                var both = inbound + outbound
                let whole = try journal.fingerprint(
                    "spindle manual tunnel 1", SecretBytes(moving: &both))
                items.append(
                    Item(
                        tunnel: tunnel, whole: Array(whole.prefix(Self.printBytes)), keys: keys))
            }
            self.items = items
        } catch let error as StateError {
            throw .state(error)
        } catch {
            throw .library("\(file.name): \(error)")
        }
    }

    private static func whole(
        _ entry: AssociationEntry, _ direction: Direction, _ journal: StateJournal
    ) throws -> [UInt8] {
        let association = try entry.association(direction: direction, createdNanoseconds: 0)
        return try journal.fingerprint("spindle manual association 1", association.encode())
    }

    /// The same whatever stands beside the keys.
    private static func keys(
        _ entry: AssociationEntry, _ journal: StateJournal
    ) throws -> [UInt8] {
        var entry = entry
        let nowhere = IPAddress(v4: 0)
        entry.parameters = AssociationParameters(
            spi: entry.spi, direction: .outbound, mode: .tunnel,
            transform: entry.parameters.transform, source: nowhere, destination: nowhere)
        let association = try entry.association(direction: .outbound, createdNanoseconds: 0)
        let name = try journal.fingerprint("spindle manual keys 1", association.encode())
        return Array(name.prefix(printBytes))
    }

    // MARK: The store

    /// Takes out of a store what the file has no more, before a gateway sees it, and finds out what
    /// is new. Throws where keys would be used twice.
    mutating func reconcile(
        _ store: inout CoordinationStore, file: String
    ) throws(NodeError) {
        let before = Self.pairs(&store, Self.known)
        let used = Set(Self.pairs(&store, Self.used).map(\.key))
        let stored = Self.storedEntries(&store)
        new = []
        var gone = Dictionary(uniqueKeysWithValues: before.map { ($0.key, $0.value) })
        for item in items {
            let name = Self.known + item.spi.description
            let known = gone[name]
            if known == item.value, stored[item.spi.description] != nil {
                gone[name] = nil
                continue
            }
            let isUsed = item.keys.contains { used.contains(Self.used + Self.hexadecimal($0)) }
            let isChanged = known.map { Self.keys(of: $0).contains(where: item.keys.contains) }
            if isUsed || isChanged == true {
                let isOther = isChanged == true && known != item.value && !isUsed
                throw .state(
                    .keysUsed(
                        file: file, spi: item.spi.description,
                        change: isOther ? .otherwise : .before))
            }
            new.append(item)
        }
        var operations: [CoordinationTransaction.Operation] = []
        for (name, value) in gone.sorted(by: { $0.key < $1.key }) {
            operations.append(.delete(key: name))
            for key in Self.keys(of: value) {
                operations.append(
                    .put(key: Self.used + Self.hexadecimal(key), value: [1], lease: nil))
            }
            let spi = String(name.dropFirst(Self.known.count))
            if let entry = stored[spi] { operations.append(.delete(key: entry)) }
        }
        // An entry without a name in the book is one that a start put there that did not come to
        // serve it.
        for item in new where gone[Self.known + item.spi.description] == nil {
            if let entry = stored[item.spi.description] { operations.append(.delete(key: entry)) }
        }
        for operation in operations {
            _ = store.handle(
                .transaction(CoordinationTransaction(operations: [operation])), nowNanoseconds: 0)
        }
    }

    /// What the store has to remember of a tunnel before a packet goes through it.
    static func note(_ item: Item) -> CoordinationTransaction.Operation {
        .put(key: known + item.spi.description, value: item.value, lease: nil)
    }

    private static func pairs(
        _ store: inout CoordinationStore, _ prefix: String
    ) -> [CoordinationPair] {
        guard case .pairs(let pairs, _) = store.handle(.read(prefix: prefix), nowNanoseconds: 0)
        else { preconditionFailure("a store in memory can be read") }
        return pairs
    }

    /// Keys of the tunnels' entries by SPI.
    private static func storedEntries(_ store: inout CoordinationStore) -> [String: String] {
        var found: [String: String] = [:]
        for pair in pairs(&store, entries) {
            if let slash = pair.key.lastIndex(of: "/") {
                found[String(pair.key[pair.key.index(after: slash)...])] = pair.key
            }
        }
        return found
    }

    /// The names of keys in a value of the book.
    private static func keys(of value: [UInt8]) -> [[UInt8]] {
        stride(from: printBytes, to: value.count - printBytes + 1, by: printBytes).map {
            Array(value[$0..<($0 + printBytes)])
        }
    }

    private static func hexadecimal(_ octets: [UInt8]) -> String {
        octets.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
