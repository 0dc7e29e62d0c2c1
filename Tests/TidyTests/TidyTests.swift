// Rules about the repository itself that a reader would otherwise have to check by eye.

import Foundation
import Testing

private let root = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

private struct SourceFile: CustomTestStringConvertible {
    let path: String
    let lines: [Substring]
    var testDescription: String { path }
}

private func swiftFiles(below folder: String) -> [SourceFile] {
    let base = root.appending(path: folder)
    let paths =
        FileManager.default.enumerator(atPath: base.path)?
        .compactMap { $0 as? String }.filter { $0.hasSuffix(".swift") } ?? []
    return paths.sorted().compactMap { path in
        guard let text = try? String(contentsOf: base.appending(path: path), encoding: .utf8)
        else { return nil }
        return SourceFile(
            path: "\(folder)/\(path)",
            lines: text.split(separator: "\n", omittingEmptySubsequences: false))
    }
}

/// What each room may import (docs/architecture.md). The pure rooms stand above the line.
private let arrows: [String: Set<String>] = [
    "Wire": [],
    "Crypto": ["COpenSSL"],
    "ESP": ["Wire", "Crypto", "Glibc"],
    "IKEStub": ["Crypto", "ESP", "Wire", "HeapModule"],
    "CryptoCardSim": ["ESP", "Wire", "Crypto"],
    "Cluster": ["Crypto", "ESP", "Wire"],
    "Gateway": ["Cluster", "CryptoCardSim", "ESP", "Wire", "Crypto", "IKEStub"],
    // ── edge and proof ──
    "SimKit": ["Cluster", "Crypto", "CryptoCardSim", "ESP", "Gateway", "IKEStub", "Wire"],
    "EtcdMessages": ["Cluster"],
    "EtcdStore": [
        "CLinux", "Cluster", "Crypto", "DequeModule", "EtcdMessages", "Glibc", "NIOCore",
        "NIOHTTP1", "NIOPosix", "NIOSSL", "NIOTLS", "Synchronization",
    ],
    "GatewayIO": [
        "CLinux", "Cluster", "CPcap", "Crypto", "CryptoCardSim", "ESP", "EtcdMessages", "Gateway",
        "IKEStub", "Wire", "Foundation", "Glibc", "Synchronization", "Yams",
    ],
    "Monitoring": [
        "CLinux", "Cluster", "CryptoCardSim", "ESP", "Gateway", "GatewayIO", "Glibc", "IKEStub",
        "NIOCore", "NIOHTTP1", "NIOPosix", "Synchronization", "Wire",
    ],
    "Verification": [
        "Crypto", "ESP", "GatewayIO", "IKEStub", "Wire", "Foundation", "CryptoCardSim",
    ],
    "Lab": ["CLinux", "GatewayIO", "SimKit", "Foundation", "Glibc"],
    "spindle": [
        "Cluster", "Crypto", "CryptoCardSim", "ESP", "EtcdMessages", "EtcdStore", "Gateway",
        "GatewayIO", "IKEStub", "Lab", "Logging", "Monitoring", "SimKit", "Verification", "Wire",
        "ArgumentParser", "Foundation", "Glibc", "Synchronization",
    ],
]

@Suite struct ImportArrows {
    @Test(arguments: arrows.keys.sorted())
    func everyImportIsAllowed(room: String) throws {
        let allowed = try #require(arrows[room])
        let files = swiftFiles(below: "Sources/\(room)")
        #expect(!files.isEmpty, "a room without files has no reason to be")
        for file in files {
            for line in file.lines {
                guard let module = importedModule(line) else { continue }
                #expect(allowed.contains(module), "\(file.path) imports \(module)")
            }
        }
    }

    @Test func everyRoomHasItsArrows() throws {
        let sources = root.appending(path: "Sources").path
        let rooms = try FileManager.default.contentsOfDirectory(atPath: sources)
            .filter { !$0.hasPrefix("C") || $0.dropFirst().first?.isUppercase != true }
        #expect(Set(rooms) == Set(arrows.keys))
    }

    /// The parser of this test is a place to be fooled too.
    @Test func importLinesAreRead() {
        #expect(importedModule("import Wire") == "Wire")
        #expect(importedModule("public import struct Wire.SPI") == "Wire")
        #expect(importedModule("@testable import ESP  // why") == "ESP")
        #expect(importedModule("// import Wire") == nil)
        #expect(importedModule("    let important = 1") == nil)
    }

    private func importedModule(_ line: Substring) -> String? {
        let words = line.split(separator: " ")
        guard let place = words.firstIndex(of: "import"), words.count > place + 1,
            words[..<place].allSatisfy({
                $0.hasPrefix("@") || ["public", "internal", "private", "package"].contains($0)
            })
        else { return nil }
        let kinds: Set<Substring> = ["struct", "class", "enum", "func", "protocol"]
        let next = kinds.contains(words[place + 1]) ? place + 2 : place + 1
        guard words.count > next else { return nil }
        return words[next].split(separator: ".").first.map(String.init)
    }
}

@Suite struct Sizes {
    @Test(arguments: ["Sources", "Tests", "Fuzz"])
    func filesAndLinesAreShort(folder: String) {
        for file in swiftFiles(below: folder) {
            #expect(file.lines.count <= 501, "\(file.path) has \(file.lines.count) lines")
            for (number, line) in file.lines.enumerated() where line.count > 100 {
                Issue.record("\(file.path):\(number + 1) has \(line.count) columns")
            }
        }
    }

    @Test(arguments: ["Sources", "Tests", "Fuzz"])
    func functionsAreShort(folder: String) {
        for file in swiftFiles(below: folder) {
            var start: (line: Int, indent: Int)?
            for (number, line) in file.lines.enumerated() {
                let indent = line.prefix { $0 == " " }.count
                let code = line.dropFirst(indent)
                if start == nil, opensFunction(code) { start = (number, indent) }
                guard let open = start, number > open.line, indent == open.indent,
                    code.hasPrefix("}")
                else { continue }
                let length = number - open.line + 1
                #expect(length <= 70, "\(file.path):\(open.line + 1) is \(length) lines long")
                start = nil
            }
        }
    }

    private func opensFunction(_ code: Substring) -> Bool {
        let words = code.split(separator: " ")
        // A body on the same line is short.
        guard !code.hasPrefix("//"), !code.hasSuffix("}") else { return false }
        return words.contains("func") || words.contains { $0.hasPrefix("init") && $0.contains("(") }
    }
}

@Suite struct Leftovers {
    @Test(arguments: ["Sources", "Tests", "Fuzz"])
    func nothingIsUnfinished(folder: String) {
        // Put together here, so that this file does not find itself.
        let words = ["TO" + "DO", "FIX" + "ME", "X" + "XX", "fatal" + "Error("]
        for file in swiftFiles(below: folder) {
            for (number, line) in file.lines.enumerated() {
                for word in words where line.contains(word) {
                    Issue.record("\(file.path):\(number + 1) contains \(word)")
                }
            }
        }
    }

    @Test func pureRoomsHaveNoEscapeHatches() {
        let rooms = ["Wire", "Crypto", "ESP", "IKEStub", "CryptoCardSim", "Cluster", "Gateway"]
        for room in rooms {
            for file in swiftFiles(below: "Sources/\(room)") {
                for (number, line) in file.lines.enumerated() {
                    let code = line.prefix { $0 != "/" }
                    for word in ["@unchecked", "nonisolated(unsafe)", "print(", "try!"]
                    where code.contains(word) {
                        Issue.record("\(file.path):\(number + 1) uses \(word)")
                    }
                }
            }
        }
    }

    @Test func everySourceFileSaysWhatItIsFor() {
        for file in swiftFiles(below: "Sources") {
            #expect(file.lines.first?.hasPrefix("//") == true, "\(file.path) has no head comment")
        }
    }
}
