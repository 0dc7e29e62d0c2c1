// Which associations of one file can't stand beside each other.

public import ESP
import Wire

extension AssociationFile {
    /// Throws when two associations claim the same inner packets: for sending, two of one sender
    /// that are not successors of each other; for receiving, two of different peers.
    public func requireUnambiguousSelectors(
        for direction: Direction
    ) throws(AssociationFileError) {
        guard let (first, second) = firstAmbiguity(direction) else { return }
        throw AssociationFileError(
            .ambiguousSelectors, file: name, place: "esp[\(second)]",
            text: "its selectors overlap those of esp[\(first)], so that both claim the same "
                + "packets: make ts_src or ts_dst distinct, or all equal if one succeeds the other")
    }

    /// The first two entries found, the lower index first, whose selectors overlap. Entries without
    /// selectors don't count.
    package func firstAmbiguity(_ direction: Direction) -> (Int, Int)? {
        func clash(_ left: Int, _ right: Int) -> Bool {
            Self.clash(entries[left].parameters, entries[right].parameters, direction)
        }
        // A hub has many spokes with distinct selectors on one side and the same on the other.
        // Entries with equal destinations are compared by their sources, the groups by their
        // destinations, so that spokes aren't all compared with each other.
        var groups: [[Int]] = []
        var places: [[TrafficSelector]: Int] = [:]
        for index in entries.indices where entries[index].parameters.selectors != .any {
            let destination = entries[index].parameters.selectors.destination
            if let place = places[destination] {
                groups[place].append(index)
            } else {
                places[destination] = groups.count
                groups.append([index])
            }
        }
        for group in groups {
            let spans = group.flatMap { Self.spans(entries[$0].parameters.selectors.source, $0) }
            if let pair = Self.firstMeeting(of: spans, where: clash) { return Self.ordered(pair) }
        }
        let spans = groups.indices.flatMap { place in
            Self.spans(entries[groups[place][0]].parameters.selectors.destination, place)
        }
        var found: (Int, Int)?
        _ = Self.firstMeeting(of: spans) { one, other in
            for left in groups[one] {
                for right in groups[other] where clash(left, right) {
                    found = (left, right)
                    return true
                }
            }
            return false
        }
        return found.map(Self.ordered)
    }

    /// Equal selectors of one sender and receiver, in any order, are those of successors. A packet
    /// is received by its SPI, so there a tunnel may change one address or narrow its selectors
    /// when it is rekeyed; but what two peers both claim can't be answered.
    private static func clash(
        _ one: AssociationParameters, _ other: AssociationParameters, _ direction: Direction
    ) -> Bool {
        let isSameSender = one.source == other.source
        let isSameReceiver = one.destination == other.destination
        let areEqual =
            Set(one.selectors.source) == Set(other.selectors.source)
            && Set(one.selectors.destination) == Set(other.selectors.destination)
        let mayClash =
            switch direction {
            case .outbound: isSameSender && !(isSameReceiver && areEqual)
            case .inbound: isSameSender != isSameReceiver && !areEqual
            }
        return mayClash && one.selectors.overlaps(other.selectors)
    }

    private static func ordered(_ pair: (Int, Int)) -> (Int, Int) {
        (min(pair.0, pair.1), max(pair.0, pair.1))
    }

    /// A range of addresses and whose it is.
    private struct Span {
        let first: Position
        let last: Position
        let owner: Int
    }

    /// IPv4 addresses before IPv6 addresses.
    private struct Position: Comparable {
        let address: IPAddress

        static func < (left: Position, right: Position) -> Bool {
            left.address != right.address && IPAddress.isOrdered(left.address, right.address)
        }
    }

    /// An empty list is everything.
    private static func spans(_ selectors: [TrafficSelector], _ owner: Int) -> [Span] {
        guard !selectors.isEmpty else {
            let first = Position(address: IPAddress(v4: 0))
            let last = Position(address: IPAddress(high: .max, low: .max))
            return [Span(first: first, last: last, owner: owner)]
        }
        return selectors.map {
            Span(
                first: Position(address: $0.first), last: Position(address: $0.last), owner: owner)
        }
    }

    /// Sweeps over the addresses: the first two owners with a common one that satisfy `isWanted`.
    private static func firstMeeting(
        of spans: [Span], where isWanted: (Int, Int) -> Bool
    ) -> (Int, Int)? {
        var open: [Span] = []
        for span in spans.sorted(by: { ($0.first, $0.owner) < ($1.first, $1.owner) }) {
            open.removeAll { $0.last < span.first }
            for other in open where other.owner != span.owner && isWanted(other.owner, span.owner) {
                return (other.owner, span.owner)
            }
            open.append(span)
        }
        return nil
    }
}
