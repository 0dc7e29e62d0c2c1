// Splits messages that are too long for one datagram (RFC 7383 §2.5).

internal import ESP
public import Crypto
public import Wire

extension IKEMessage {
    /// The longest message that fits an IP datagram of `datagramBytes`: 576 for IPv4 and 1280 for
    /// IPv6 always get through (RFC 7383 §2.5.1). `hasMarker`: UDP port 4500, where a non-ESP
    /// marker of 4 octets stands before each message.
    public static func lengthMaximum(
        datagramBytes: Int, _ family: IPAddress.Family, hasMarker: Bool
    ) -> Int {
        datagramBytes - (family == .v4 ? 20 : 40) - 8 - (hasMarker ? 4 : 0)
    }
}

extension MessageProtection {
    /// The message as one datagram of at most `lengthMaximum` octets where it fits, else as
    /// fragments that do; each takes an IV of its own from `iv`, called with 0, 1, 2, …
    ///
    /// Precondition: each fragment has room for an octet of content, and there are at most 65535.
    public borrowing func seal(
        _ message: IKEMessage, lengthMaximum: Int, iv: (Int) -> MessageIV
    ) throws(CryptoError) -> [[UInt8]] {
        let content = Payload.chain(message.payloads)
        let first = message.payloads.first?.type ?? 0
        let frame =
            IKEHeader.byteCount + PayloadHeader.byteCount + suite.ivBytes + suite.icvBytes
        if frame + content.count + suite.paddingBytes(content.count) + 1 <= lengthMaximum {
            return [try seal(message, content[...], first: first, fragment: nil, iv: iv(0))]
        }
        // Fragment number and total take 4 octets more.
        let room = lengthMaximum - frame - 4
        let piece = room - room % suite.alignment - 1
        precondition(piece > 0, "no room for content in \(lengthMaximum) octets")
        let total = (content.count + piece - 1) / piece
        precondition(total <= Int(UInt16.max))
        var datagrams: [[UInt8]] = []
        for index in 0..<total {
            let part = content[index * piece..<min((index + 1) * piece, content.count)]
            let position = FragmentPosition(number: UInt16(index + 1), total: UInt16(total))
            datagrams.append(
                try seal(
                    message, part, first: index == 0 ? first : 0, fragment: position,
                    iv: iv(index)))
        }
        return datagrams
    }
}
