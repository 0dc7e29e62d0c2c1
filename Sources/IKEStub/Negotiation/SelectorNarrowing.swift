// The responder narrows what the initiator asks for to what its policy allows (RFC 7296 §2.9).

internal import ESP
internal import Wire

extension TrafficSelector {
    /// What lies in both; nil when nothing does.
    func intersection(_ other: TrafficSelector) -> TrafficSelector? {
        guard first.family == other.first.family,
            ipProtocol == 0 || other.ipProtocol == 0 || ipProtocol == other.ipProtocol
        else { return nil }
        return TrafficSelector(
            first: IPAddress.isOrdered(first, other.first) ? other.first : first,
            last: IPAddress.isOrdered(last, other.last) ? last : other.last,
            ipProtocol: ipProtocol == 0 ? other.ipProtocol : ipProtocol,
            firstPort: max(firstPort, other.firstPort), lastPort: min(lastPort, other.lastPort))
    }

    /// True when everything in `other` is in this one.
    func contains(_ other: TrafficSelector) -> Bool { intersection(other) == other }

    /// All of IPv4 and all of IPv6.
    static let all: [TrafficSelector] = [IPAddress(v4: 0), IPAddress(high: 0, low: 0)].map {
        let (first, last) = $0.prefixRange(length: 0)
        guard let selector = TrafficSelector(first: first, last: last) else {
            preconditionFailure("a prefix is a range in order")
        }
        return selector
    }

    /// A single address, any protocol and port.
    init(host address: IPAddress) {
        guard let selector = TrafficSelector(first: address, last: address) else {
            preconditionFailure("a range of one address is in order")
        }
        self = selector
    }
}

/// The part of `asked` that `allowed` allows: every selector lies in one of both lists. Empty: the
/// lists don't meet (TS_UNACCEPTABLE). What one selector of the result contains is not repeated.
func narrowed(_ asked: [TrafficSelector], to allowed: [TrafficSelector]) -> [TrafficSelector] {
    var result: [TrafficSelector] = []
    for one in asked {
        for other in allowed {
            guard let common = one.intersection(other),
                !result.contains(where: { $0.contains(common) }),
                result.count < AssociationSelectors.listMaximum
            else { continue }
            result.removeAll { common.contains($0) }
            result.append(common)
        }
    }
    return result
}

/// True when a responder's `answer` keeps inside what was `asked`.
func isNarrowing(_ answer: [TrafficSelector], of asked: [TrafficSelector]) -> Bool {
    !answer.isEmpty && answer.allSatisfy { one in asked.contains { $0.contains(one) } }
}
