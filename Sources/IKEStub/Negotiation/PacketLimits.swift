// How many packets a pair of CHILD SAs may carry before it gets new keys.

internal import ESP

extension ChildSuite {
    /// Without extended numbers, rekeying begins a sixteenth of all numbers before the last one,
    /// which is never passed (RFC 4303 §3.3.3): half a minute at ten million packets in a
    /// second.
    ///
    /// With them, ciphers of 128-bit blocks get new keys after 2^34 packets, and stop after 2^35:
    /// at 1500 octets each that is 2^41.6 blocks, which can be told from chance with a probability
    /// below 2^-45 (their square, halved, over 2^128). Others stop before our IVs' counters of 48
    /// bits could end (docs/decisions/0004-ivs.md).
    ///
    /// The peer's packets are its own to count. Where it does not, we rekey a little later.
    func packetLimits(_ direction: Direction) -> Lifetimes {
        let soft: UInt64
        var hard = UInt64.max
        if !usesESN {
            soft = 1 << 32 - 1 << 28
        } else if hasBlocks {
            (soft, hard) = (1 << 34, 1 << 35)
        } else {
            (soft, hard) = (1 << 46, 1 << 47)
        }
        var limits = Lifetimes()
        switch direction {
        case .outbound: (limits.softPackets, limits.hardPackets) = (soft, hard)
        case .inbound: limits.softPackets = soft + soft / 32
        }
        return limits
    }

    /// Of 128 bits.
    private var hasBlocks: Bool {
        switch transform.encryption {
        case .chaCha20Poly1305, .null: false
        default: true
        }
    }
}
