// The Traffic Selector payloads (RFC 7296 §3.13).

public import ESP
internal import Wire

/// The selectors of one side, at least one of them. What this implementation can't express is kept
/// apart, and never widens the list.
public struct SelectorList: Hashable, Sendable {
    /// One selector.
    public enum Entry: Hashable, Sendable {
        /// TS_IPV4_ADDR_RANGE or TS_IPV6_ADDR_RANGE.
        case selector(TrafficSelector)
        /// Another type; or OPAQUE ports (first 65535, last 0: packets without ports only), which
        /// a `TrafficSelector` can't express. `body` is what stands behind the length.
        case other(type: UInt8, ipProtocol: UInt8, body: [UInt8])
    }

    /// In the order of the message: the first may name the packet that asked for the SA (§2.9).
    public let entries: [Entry]

    /// A list to send. Precondition: 1 to 255 selectors.
    public init(_ selectors: [TrafficSelector]) {
        precondition((1...255).contains(selectors.count))
        entries = selectors.map { .selector($0) }
    }

    /// What can be agreed to. May be empty when ``hasUnknown``: then nothing can, not anything.
    public var selectors: [TrafficSelector] {
        entries.compactMap { entry in
            if case .selector(let selector) = entry { selector } else { nil }
        }
    }

    /// True when the sender also asked for something that is not in ``selectors``.
    public var hasUnknown: Bool { selectors.count < entries.count }

    init(_ reader: inout MessageReader) throws(MessageFault) {
        let place = reader.offset
        let count = Int(try reader.next8(.payloadBody))
        _ = try reader.next(3, .payloadBody)
        // An association without selectors allows all packets; nobody may ask for that so.
        guard count > 0 else { throw .malformed(.selectorCount, at: place) }
        var entries: [Entry] = []
        while reader.left > 0 {
            guard entries.count < count else { throw .malformed(.selectorCount, at: place) }
            entries.append(try Entry(&reader))
        }
        guard entries.count == count else { throw .malformed(.selectorCount, at: place) }
        self.entries = entries
    }

    func write(_ writer: inout MessageWriter) {
        writer.put([UInt8(entries.count), 0, 0, 0])
        for entry in entries { entry.write(&writer) }
    }
}

/// TS_IPV4_ADDR_RANGE and TS_IPV6_ADDR_RANGE.
private func addressFamily(_ type: UInt8) -> IPAddress.Family? {
    switch type {
    case 7: .v4
    case 8: .v6
    default: nil
    }
}

extension SelectorList.Entry {
    fileprivate init(_ reader: inout MessageReader) throws(MessageFault) {
        let start = reader.offset
        let type = try reader.next8(.selectorLength)
        let ipProtocol = try reader.next8(.selectorLength)
        let length = Int(try reader.next16(.selectorLength))
        var body = try reader.part(length - 4, .selectorLength)
        guard let family = addressFamily(type) else {
            self = .other(type: type, ipProtocol: ipProtocol, body: body.rest())
            return
        }
        guard length == (family == .v4 ? 16 : 40) else {
            throw .malformed(.selectorLength, at: start + 2)
        }
        var whole = body
        let firstPort = try body.next16(.selectorLength)
        let lastPort = try body.next16(.selectorLength)
        let first = try body.nextAddress(family, .selectorLength)
        let last = try body.nextAddress(family, .selectorLength)
        guard IPAddress.isOrdered(first, last) else { throw .malformed(.selectorRange, at: start) }
        if firstPort == .max, lastPort == 0 {
            self = .other(type: type, ipProtocol: ipProtocol, body: whole.rest())
            return
        }
        guard
            let selector = TrafficSelector(
                first: first, last: last, ipProtocol: ipProtocol, firstPort: firstPort,
                lastPort: lastPort)
        else { throw .malformed(.selectorRange, at: start) }
        self = .selector(selector)
    }

    fileprivate func write(_ writer: inout MessageWriter) {
        switch self {
        case .selector(let selector):
            let type: UInt8 = selector.first.family == .v4 ? 7 : 8
            writer.putMeasured([type, selector.ipProtocol]) { writer in
                writer.put16(selector.firstPort)
                writer.put16(selector.lastPort)
                writer.put(selector.first)
                writer.put(selector.last)
            }
        case .other(let type, let ipProtocol, let body):
            writer.putMeasured([type, ipProtocol]) { $0.put(body) }
        }
    }
}
