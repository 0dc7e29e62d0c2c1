// Proposals as text, choosing one of them, and narrowing selectors.

import ESP
import IKEStub
import Testing
import Wire

@Suite struct ProposalText {
    @Test(arguments: [
        "aes256gcm16-prfsha384-x25519", "aes128-sha256-prfsha256-modp2048",
        "aes128gcm16-aes256gcm16-prfsha256-prfsha384-ecp256-ecp384",
        "chacha20poly1305-prfsha512-ecp521",
    ])
    func whatIsWrittenIsRead(text: String) throws {
        #expect(try ProposalPolicy(text, for: .ike).description == text)
    }

    @Test func integrityNamesThePRF() throws {
        let policy = try ProposalPolicy("aes256-sha512-modp4096", for: .ike)
        #expect(policy.functions == [.hmacSHA512])
    }

    @Test(arguments: [
        ("", ProposalTextFault.unknownWord("")),
        ("aes256gcm16-x25519", .missing("PRF")),
        ("aes256gcm16-prfsha256", .missing("key agreement group")),
        ("prfsha256-x25519", .missing("cipher")),
        ("aes256-prfsha256-x25519", .missing("integrity algorithm")),
        ("aes256-aes256gcm16-sha256-x25519", .mixedCiphers),
        (
            "aes256gcm16-sha256-x25519",
            .notAllowed("an integrity algorithm beside a cipher that authenticates")
        ),
        ("aes256gcm16-prfsha256-x25519-esn", .notAllowed("esn")),
        ("aes256gcm16-prfsha256-x25519-aes256gcm16", .repeated("aes256gcm16")),
        ("AES256gcm16-prfsha256-x25519", .unknownWord("AES256gcm16")),
        ("aes512gcm16-prfsha256-x25519", .unknownWord("aes512gcm16")),
    ])
    func whatIsWrongIsNamed(text: String, fault: ProposalTextFault) {
        #expect(throws: fault) { try ProposalPolicy(text, for: .ike) }
    }

    @Test func childrenHaveNoPRF() {
        #expect(throws: ProposalTextFault.notAllowed("a PRF")) {
            try ProposalPolicy("aes256gcm16-prfsha256", for: .child)
        }
    }
}
