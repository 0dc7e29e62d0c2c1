// Whatever a user gets wrong: one line that names the file or the option and says what to do, exit
// code 1 (2 for wrong usage), no trap, and a file that is already there stays as it was.

import Foundation
import Testing

@Suite struct BadInputTests {
    private static let good = CaptureSet.inRepository("scapy-tunnel44-aes256gcm16")

    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    /// A replay into a file that exists: refused with one line that contains all of `words`.
    private func refuses(
        _ arguments: [String], code: Int32 = 1, naming words: String...,
        location: SourceLocation = #_sourceLocation
    ) throws {
        let precious = Data("precious".utf8)
        let out = try Scratch()
        let path = try out.write(precious, as: "out.pcap")
        let outcome = try Program.spindle(arguments + ["--write", path])
        let run = Comment(rawValue: outcome.testDescription)
        #expect(outcome.code == code, run, sourceLocation: location)
        #expect(outcome.output.isEmpty, run, sourceLocation: location)
        // Wrong usage found before anything is read comes with a reminder of the right one.
        if !outcome.complaint.contains("\nUsage: spindle ") {
            #expect(outcome.complaints.count == 1, run, sourceLocation: location)
            #expect(outcome.complaint.hasPrefix("spindle: "), run, sourceLocation: location)
        } else {
            #expect(code == 2, run, sourceLocation: location)
        }
        for word in words {
            #expect(
                outcome.complaints.first?.contains(word) == true, "\(word) in \(run)",
                sourceLocation: location)
        }
        #expect(try out.read("out.pcap") == precious, run, sourceLocation: location)
        #expect(try out.contents() == ["out.pcap"], run, sourceLocation: location)
    }

    // MARK: Captures

    @Test func capturesThatAreNone() throws {
        let sas = Self.good.sas
        let empty = try scratch.write(Data(), as: "empty")
        let garbage = try scratch.write(
            Data((0..<5000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }), as: "garbage")
        let missing = scratch.path("missing")
        var unknown = Capture(linkType: 105)
        unknown.records = [Record(nanoseconds: 0, octets: [1, 2, 3])]
        let wireless = try scratch.write(unknown.file(), as: "wireless")
        for command in ["replay", "seal"] {
            try refuses([command, missing, "--sas", sas], naming: missing, "check the path")
            try refuses(
                [command, scratch.path, "--sas", sas], naming: scratch.path, "is a directory")
            try refuses([command, empty, "--sas", sas], naming: empty, "empty")
            try refuses([command, garbage, "--sas", sas], naming: garbage, "not a pcap")
            try refuses(
                [command, wireless, "--sas", sas], naming: wireless, "(105)", "capture one")
        }
    }

    /// A pipe can't be read a second time: to be told, not waited for.
    @Test func capturesFromAPipe() throws {
        let pipe = scratch.path("pipe")
        try #require(mkfifo(pipe, 0o600) == 0)
        // Somebody who writes, so that nobody hangs.
        let both = open(pipe, O_RDWR)
        defer { close(both) }
        try refuses(["replay", pipe, "--sas", Self.good.sas], naming: pipe, "into a file first")
    }

    /// Where the records of a pcap file end, from its header on.
    private static func pcapEnds(_ file: Data) -> Set<Int> {
        var ends: Set<Int> = [24]
        var end = 24
        while end + 16 <= file.count {
            let length = file[end + 8..<end + 12].reversed().reduce(0) { $0 << 8 | Int($1) }
            end += 16 + length
            ends.insert(end)
        }
        return ends
    }

    /// Where the blocks of a pcapng file end.
    private static func pcapngEnds(_ file: Data) -> [Int] {
        var ends: [Int] = []
        var end = 0
        while end + 8 <= file.count {
            end += file[end + 4..<end + 8].reversed().reduce(0) { $0 << 8 | Int($1) }
            ends.append(end)
        }
        return ends
    }

    /// Every shorter version of a small file: whole up to a record's end, else refused.
    private func refusesEveryPrefix(of file: Data, whole: Set<Int>) throws {
        for length in 1..<file.count where !whole.contains(length) {
            let path = try scratch.write(file.prefix(length), as: "cut")
            try refuses(["replay", path, "--sas", Self.good.sas], naming: path)
        }
        for length in whole where length <= file.count {
            let path = try scratch.write(file.prefix(length), as: "whole")
            let outcome = try Program.spindle("replay", path, "--sas", Self.good.sas)
            #expect(outcome.code == 0 && outcome.complaint.isEmpty, "\(outcome.testDescription)")
        }
    }

    private func small() throws -> Capture {
        var small = try Capture(contentsOf: Self.good.capture)
        small.records = small.records.prefix(2).map {
            Record(nanoseconds: $0.nanoseconds, octets: Array($0.octets.prefix(50)))
        }
        return small
    }

    @Test func everyTruncationOfPcap() throws {
        let file = try small().file()
        try #require(file.count == 156)
        try refusesEveryPrefix(of: file, whole: Self.pcapEnds(file))
    }

    @Test(.enabled(if: Judges.areInstalled, Judges.absence))
    func everyTruncationOfPcapng() throws {
        let path = try scratch.write(small().file(), as: "small.pcap")
        let converted = scratch.path("small.pcapng")
        let outcome = try Program.run("/usr/bin/editcap", ["-F", "pcapng", path, converted])
        try #require(outcome.code == 0, "\(outcome.testDescription)")
        let file = try scratch.read("small.pcapng")
        let ends = Self.pcapngEnds(file)
        try #require(ends.count == 4 && ends.last == file.count)
        // Behind the section header alone no interface is described yet.
        try refusesEveryPrefix(of: file, whole: Set(ends.dropFirst()))
    }

    /// A whole capture without packets is no mistake.
    @Test func anEmptyCaptureIsFine() throws {
        let path = try scratch.write(Capture().file(), as: "none.pcap")
        let report = try Report.replay(
            path, sas: Self.good.sas, nodes: 3, write: scratch.path("out"))
        #expect(report.packets.total == 0 && report.delivered == 0)
        #expect(try Capture(contentsOf: scratch.path("out")).records.isEmpty)
        try refuses(
            ["replay", path, "--sas", Self.good.sas, "--fail", "1@1"], code: 2,
            naming: "--fail 1@1", "0 packets")
    }

    // MARK: Usage

    @Test(
        arguments: [
            ["--fail", "2"], ["--fail", "2@"], ["--fail", "@5"], ["--fail", "2@0"],
            ["--fail", "0@5"], ["--fail", "x@5"], ["--fail", "2@5@6"], ["--fail", "65536@5"],
            ["--fail", "2@99999999999999999999"], ["--fail", "2@-5"], ["--fail", ""],
            ["--join", "0@5"], ["--join", "4"], ["--nodes", "0"], ["--nodes", "-1"],
            ["--nodes", "257"], ["--nodes", "three"], ["--nodes", "99999999999999999999"],
            ["--card-capacity", "0"], ["--card-capacity", "-1"],
            ["--card-capacity", "1048577"], ["--identifiers", "0"],
            ["--identifiers", "-16"], ["--identifiers", "100"], ["--identifiers", "8192"],
            ["--identifiers", "8"], ["--fail", "2@61"], ["--join", "4@61"], ["--unheard-of"],
            ["--mode", "both"], ["--mode", ""], ["--when-full", "refuse"], ["--when-full", "no"],
        ])
    func wrongOptions(_ option: [String]) throws {
        let arguments = ["replay", Self.good.capture, "--sas", Self.good.sas]
        // "--nodes=-1": a value may begin with a dash only this way.
        let joined = option.count == 2 && option[1].hasPrefix("-")
        let given = joined ? ["\(option[0])=\(option[1])"] : option
        try refuses(arguments + given, code: 2, naming: option[0])
    }

    @Test func missingArguments() throws {
        try refuses(["replay", Self.good.capture], code: 2, naming: "--sas")
        try refuses(["replay", "--sas", Self.good.sas], code: 2, naming: "capture")
        try refuses(["seal", Self.good.capture], code: 2, naming: "--sas")
        let outcome = try Program.spindle("reply")
        #expect(outcome.code == 2 && outcome.complaints.first?.contains("'reply'") == true)
    }

    @Test(
        arguments: [
            ["--spi", "xyz"], ["--spi", "123456789"], ["--spi", "12345678"],
            ["--dummy-every", "0"],
            ["--generation", "65536"], ["--generation", "x"],
        ])
    func wrongOptionsOfSeal(_ option: [String]) throws {
        let inner = Self.good.path(".inner-a.pcap")
        try refuses(
            ["seal", inner, "--sas", Self.good.sas] + option, code: 2, naming: option[0])
    }

    // MARK: Events that can't be

    @Test(
        arguments: [
            ["--fail", "4@5"], ["--fail", "2@5", "--fail", "2@9"],
            ["--fail", "2@5", "--fail", "2@5"], ["--join", "3@5"],
            ["--join", "4@5", "--join", "4@6"],
            ["--fail", "1@5", "--fail", "2@6", "--fail", "3@7"],
        ])
    func eventsThatCanNotBe(_ events: [String]) throws {
        let arguments = ["replay", Self.good.capture, "--sas", Self.good.sas, "--nodes", "3"]
        let last = events.suffix(2).joined(separator: " ")
        try refuses(arguments + events, naming: "\(last): ")
    }

    /// The last node may go when another comes at the same time.
    @Test func theLastNodeMayBeReplaced() throws {
        let count = try Capture(contentsOf: Self.good.capture).records.count
        let report = try Report.replay(
            Self.good.capture, sas: Self.good.sas, nodes: 1,
            events: [.join(2, count / 2), .fail(1, count / 2)], write: scratch.path("out"))
        #expect(report.delivered == count && report.dropped.isEmpty)
    }

    // MARK: Outputs

    /// The output would replace what it is made of: by its name, another spelling, or a link.
    @Test func anInputIsNeverTheOutput() throws {
        for command in ["replay", "seal"] {
            let own = try Scratch()
            let packets = command == "replay" ? Self.good.capture : Self.good.path(".inner-a.pcap")
            let inputs = [
                try Data(contentsOf: URL(filePath: packets)),
                try Data(contentsOf: URL(filePath: Self.good.sas)),
            ]
            let capture = try own.write(inputs[0], as: "in.pcap")
            let sas = try own.write(inputs[1], as: "sas.json")
            for (input, kind) in [(capture, "the capture"), (sas, "the SA file")] {
                let (hard, symbolic) = (own.path("hard"), own.path("symbolic"))
                try #require(link(input, hard) == 0 && symlink(input, symbolic) == 0)
                for output in [
                    input, "\(own.path)/./\(URL(filePath: input).lastPathComponent)", hard,
                    symbolic,
                ] {
                    let outcome = try Program.spindle(
                        command, capture, "--sas", sas, "--write", output)
                    #expect(outcome.code == 2, "\(outcome.testDescription)")
                    #expect(outcome.complaints.count == 1 && outcome.output.isEmpty)
                    #expect(
                        outcome.complaint.hasPrefix(
                            "spindle: --write \(output) is the same file as \(kind) \(input), "),
                        "\(outcome.testDescription)")
                }
                try #require(unlink(hard) == 0 && unlink(symbolic) == 0)
            }
            #expect(try own.read("in.pcap") == inputs[0] && own.read("sas.json") == inputs[1])
            #expect(try own.contents() == ["in.pcap", "sas.json"])
        }
    }

    @Test func outputsThatCanNotBeWritten() throws {
        let arguments = ["replay", Self.good.capture, "--sas", Self.good.sas, "--write"]
        var outputs = [
            scratch.path("no/such/directory.pcap"), scratch.path, "/dev/full", "/sys/spindle.pcap",
        ]
        if geteuid() != 0 {
            let locked = try scratch.write(Data("precious".utf8), as: "locked")
            try FileManager.default.setAttributes(
                [.posixPermissions: 0o444], ofItemAtPath: locked)
            outputs.append(locked)
        }
        let before = try scratch.contents()
        for output in outputs {
            let outcome = try Program.spindle(arguments + [output])
            #expect(outcome.code == 1, "\(outcome.testDescription)")
            #expect(outcome.complaints.count == 1, "\(outcome.testDescription)")
            #expect(outcome.complaint.hasPrefix("spindle: \(output): "))
            #expect(outcome.output.isEmpty)
        }
        #expect(try scratch.contents() == before)
    }

    /// A report that could not be printed is no success.
    @Test func aFullDiskBehindStandardOutput() throws {
        for option in ["", "--json"] {
            let outcome = try Program.run(
                "/bin/sh",
                [
                    "-c", "exec \"$0\" replay \"$1\" --sas \"$2\" \(option) > /dev/full",
                    Program.path(of: "spindle"), Self.good.capture, Self.good.sas,
                ])
            #expect(outcome.code == 1, "\(outcome.testDescription)")
            #expect(outcome.complaint.hasPrefix("spindle: standard output: "))
        }
    }
}
