// The text of traffic selectors in files and on command lines: "10.1.0.0/16", "10.1.0.5-10.1.0.9",
// "fd00::/8", "10.1.0.1", each with an optional "[protocol]", "[protocol/port]" or
// "[protocol/low-high]". Pure: no file, no clock.

public import ESP
internal import Wire

/// Why a text is not a traffic selector: one sentence that says what to do.
public struct TrafficSelectorTextError: Error, Equatable, CustomStringConvertible {
    /// The sentence.
    public let description: String

    init(_ description: String) { self.description = description }
}

extension TrafficSelector {
    /// Reads one selector.
    ///
    /// The protocol is a number or one of tcp, udp, icmp. ICMP's port is type × 256 + code
    /// (RFC 4301 §4.4.1.1). Without a protocol, every protocol and every port is covered.
    public init(parsing text: String) throws(TrafficSelectorTextError) {
        let parts = text.split(separator: "[", maxSplits: 1, omittingEmptySubsequences: false)
        let (first, last) = try Self.parseAddresses(String(parts[0]), in: text)
        var ipProtocol: UInt8 = 0
        var ports: ClosedRange<UInt16> = 0...UInt16.max
        if parts.count == 2 {
            guard parts[1].hasSuffix("]") else {
                throw TrafficSelectorTextError(
                    "\(quoted(text)) has '[' without ']' at its end: add it")
            }
            (ipProtocol, ports) = try Self.parseProtocol(String(parts[1].dropLast()), in: text)
        }
        guard
            let selector = TrafficSelector(
                first: first, last: last, ipProtocol: ipProtocol, firstPort: ports.lowerBound,
                lastPort: ports.upperBound)
        else {
            throw TrafficSelectorTextError(
                "\(quoted(text)) is not a range: both addresses need the same family, the smaller "
                    + "one first")
        }
        self = selector
    }

    private static func parseAddresses(
        _ addresses: String, in text: String
    ) throws(TrafficSelectorTextError) -> (IPAddress, IPAddress) {
        if addresses.contains("-") {
            let ends = addresses.split(separator: "-", omittingEmptySubsequences: false)
            guard ends.count == 2, let first = IPAddress(String(ends[0])),
                let last = IPAddress(String(ends[1]))
            else { throw notAnAddress(text) }
            return (first, last)
        }
        let parts = addresses.split(separator: "/", omittingEmptySubsequences: false)
        guard let address = IPAddress(String(parts[0])), parts.count <= 2 else {
            throw notAnAddress(text)
        }
        guard parts.count == 2 else { return (address, address) }
        guard let length = decimal(parts[1]).map(Int.init), length <= address.bitWidth else {
            throw TrafficSelectorTextError(
                "\(quoted(text)) has no prefix length from 0 to \(address.bitWidth): correct it")
        }
        let range = address.prefixRange(length: length)
        guard range.first == address else {
            throw TrafficSelectorTextError(
                "\(quoted(text)) has bits set behind its prefix: write \(range.first)/\(length), "
                    + "or \(address) for one address")
        }
        return range
    }

    private static func notAnAddress(_ text: String) -> TrafficSelectorTextError {
        TrafficSelectorTextError(
            "\(quoted(text)) is not a traffic selector: write 10.1.0.0/16, 10.1.0.5-10.1.0.9 or "
                + "fd00::/8, followed by [tcp/80] or the like if wanted")
    }

    private static func parseProtocol(
        _ words: String, in text: String
    ) throws(TrafficSelectorTextError) -> (UInt8, ClosedRange<UInt16>) {
        let parts = words.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        let known: [Substring: UInt8] = [
            "icmp": IPProtocol.icmp, "tcp": IPProtocol.tcp, "udp": IPProtocol.udp,
            "icmpv6": IPProtocol.icmpV6, "ipv6-icmp": IPProtocol.icmpV6,
        ]
        guard let ipProtocol = known[parts[0]] ?? decimal(parts[0]).flatMap(UInt8.init(exactly:))
        else {
            throw TrafficSelectorTextError(
                "\(quoted(text)) has an unknown protocol: use tcp, udp, icmp, icmpv6 or a number "
                    + "from 0 (any) to 255")
        }
        guard parts.count == 2 else { return (ipProtocol, 0...UInt16.max) }
        let ends = parts[1].split(separator: "-", omittingEmptySubsequences: false)
        let numbers = ends.compactMap(decimal)
        guard numbers.count == ends.count, ends.count <= 2, let low = numbers.first,
            let high = numbers.last, low <= high
        else {
            throw TrafficSelectorTextError(
                "\(quoted(text)) has no valid port: write one number or low-high, 0 to 65535")
        }
        return (ipProtocol, low...high)
    }

    /// Digits only: `UInt16.init` would take a sign too.
    private static func decimal(_ text: Substring) -> UInt16? {
        text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? UInt16(text) : nil
    }
}
