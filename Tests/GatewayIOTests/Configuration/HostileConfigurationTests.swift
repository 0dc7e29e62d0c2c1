import Foundation
import GatewayIO
import IKEStub
import TestSupport
import Testing

@Suite struct HostileConfigurationTests {
    private func codes(_ text: String) -> [ConfigurationFault.Code] {
        ConfigurationText(text).faults.map(\.code)
    }

    /// Each level names the one before nine times: 9^20 nodes, were they written out, and the last
    /// one is a key, which the reader of YAML compares with others.
    @Test(.timeLimit(.minutes(1))) func aliasesAreRefusedBeforeTheyGrow() {
        var text = "a0: &a0 [x]\n"
        for level in 1...20 {
            let names = [String](repeating: "*a\(level - 1)", count: 9).joined(separator: ",")
            text += "a\(level): &a\(level) [\(names)]\n"
        }
        #expect(codes(text + "? *a20\n: 1\n? [*a20]\n: 2\n") == [.syntax])
        // Comments and breaks that are not ASCII hide nothing.
        #expect(codes("a: &a x\n# \u{85}b: *a\n") == [.syntax])
        #expect(codes("a: &a x\n#\r? *a\n") == [.syntax])
        #expect(codes("{a: &a x,b:*a}") != [])
    }

    @Test func whatOnlyLooksLikeAnAliasIsTaken() throws {
        let text = ConfigurationText.simple.adding("# R&D *and* &more *of it").text
            .replacingOccurrences(of: "p1.lab.example", with: "\"*.lab.example\"")
        var configuration = ConfigurationText.simple
        configuration.text = text
        _ = try configuration.parse()
    }

    @Test(.timeLimit(.minutes(1))) func deepNestingIsRefused() {
        for depth in [17, 100, 999, 1001, 100_000] {
            for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")] {
                let text =
                    String(repeating: open, count: depth) + "x"
                    + String(repeating: close, count: depth)
                #expect(codes(text).first == .syntax, "\(depth) \(open)")
            }
        }
    }

    /// The reader of YAML has a limit of its own, and words that name its functions.
    @Test(arguments: [20, 1001, 5000]) func deepNestingIsSaidInOurWords(depth: Int) throws {
        let text = "node:\n  addresses: " + String(repeating: "[", count: depth)
        let fault = try #require(ConfigurationText(text + "x").faults.first)
        let whole = text + "x" + String(repeating: "]", count: depth)
        let closed = try #require(ConfigurationText(whole).faults.first)
        #expect(closed.text == "nested more than 16 levels deep: no setting is")
        #expect(closed.line == 2 && closed.column > 14, "\(closed)")
        #expect(!fault.text.contains("_") && !fault.text.contains("()"), "\(fault)")
    }

    /// What would fool us: a mark that is taken off, and columns that still count it.
    @Test func aByteOrderMarkIsNoPartOfTheText() throws {
        let mark: [UInt8] = [0xEF, 0xBB, 0xBF]
        var simple = ConfigurationText.simple
        simple.files["secrets.yaml"]?.insert(contentsOf: mark, at: 0)
        let file = try simple.parse(octets: mark + Array(simple.text.utf8))
        #expect(file.configuration.ike.presharedKeys.count == 1)
        for text in ["nodes: {}", "node: [", "a: %", "node: \u{1B}", "\u{FEFF}node: {}"] {
            let plain = ConfigurationText(text).faults
            do throws(ConfigurationFaults) {
                _ = try ConfigurationText(text).parse(octets: mark + Array(text.utf8))
                Issue.record("\(text.debugDescription) is taken")
            } catch {
                guard !text.hasPrefix("\u{FEFF}") else { continue }
                #expect(error.faults == plain)
            }
        }
    }

    @Test func octetsThatAreNoTextAreRefusedWithTheirPlace() {
        func summary(_ octets: [UInt8]) -> [String] {
            do throws(ConfigurationFaults) {
                _ = try ConfigurationText("").parse(octets: octets)
                return []
            } catch {
                return error.faults.map(\.summary)
            }
        }
        #expect(summary(Array("node:\n  ü: ".utf8) + [0xFF]) == ["2:6  syntax"])
        #expect(summary(Array("node:\n  ü: \u{0}".utf8)) == ["2:6  syntax"])
        #expect(summary(Array("node: \u{1B}[31m".utf8)) == ["1:7  syntax"])
        #expect(
            summary([UInt8](repeating: UInt8(ascii: "#"), count: 1 << 20 + 1)) == [
                "1:1  outOfRange"
            ])
    }

    /// Whatever is in a file, a fault is one line that can't act on a terminal.
    @Test func changedExamplesNeverTrap() throws {
        var random = SeededGenerator()
        func next(_ bound: Int) -> Int { Int(random.next() % UInt64(bound)) }
        let folder = repository.appending(path: "docs/examples")
        var texts = [ConfigurationText.simple, .member].map { Array($0.text.utf8) }
        var simple = ConfigurationText.member
        simple.files["cluster-node.secrets.yaml"] = simple.files["secrets.yaml"]
        for name in ["cluster-node", "psk-responder", "road-warrior", "site-to-site"] {
            texts.append(Array(try Data(contentsOf: folder.appending(path: "\(name).yaml"))))
        }
        let pieces = [
            "*", "&a", "%any", "[", "]", "{", "}", ": ", "- ", "\n", "\n  ", "\"", "'", "#", "!!x ",
            "~", "\u{85}", "|", ">", "? ", "<<: ", "\t", "0", "-", "4294967296", "\\x00", "---\n",
        ].map { Array($0.utf8) }
        for _ in 0..<3000 {
            var octets = texts[next(texts.count)]
            for _ in 0...next(4) {
                let place = next(octets.count)
                switch next(4) {
                case 0: octets[place] = UInt8(next(256))
                case 1: octets.remove(at: place)
                case 2: octets.replaceSubrange(place..<place, with: pieces[next(pieces.count)])
                default:
                    let end = min(octets.count, place + next(60))
                    octets.replaceSubrange(place..<end, with: pieces[next(pieces.count)])
                }
                if octets.isEmpty { octets = [0x61] }
            }
            do throws(ConfigurationFaults) {
                _ = try simple.parse(octets: octets)
            } catch {
                #expect(!error.faults.isEmpty)
                for fault in error.faults {
                    let isPlain = "\(fault)".unicodeScalars.allSatisfy {
                        $0.properties.generalCategory != .control
                    }
                    #expect(isPlain && fault.line > 0, "\(fault)")
                }
            }
        }
    }
}
