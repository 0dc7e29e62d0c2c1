// Metrics and health over HTTP, asked for by curl and read by a python program that knows nothing
// of how they are made. What would fool us: a server that answers without its node (so the node
// counts how often it was asked), figures that are not the node's, and clients that behave.

import Foundation
import Gateway
import GatewayIO
import Testing
import Wire

@testable import Monitoring

/// A server, and a thread that stands for the node's loop.
private final class Site: Sendable {
    let server: MonitorServer

    init(_ more: @escaping @Sendable () -> [Metric] = { [] }) throws {
        server = try MonitorServer(
            MonitorAddress(address: IPAddress(v4: 0x7F00_0001), port: 0), more: more)
    }

    var url: String { "http://\(server.address)" }

    /// Answers what is asked until `body` is over; how often.
    func serve<Result>(
        _ reading: NodeReading, _ body: () throws -> Result
    ) throws -> (result: Result, questions: Int) {
        let loop = Loop(server, reading)
        loop.start()
        defer { loop.stop() }
        let result = try body()
        return (result, loop.stop())
    }
}

/// Waits as a node does, with poll(2).
private final class Loop: @unchecked Sendable {
    private let server: MonitorServer
    private let reading: NodeReading
    private let lock = NSLock()
    private var isOver = false
    private var questions = 0
    private let ended = DispatchSemaphore(value: 0)

    init(_ server: MonitorServer, _ reading: NodeReading) {
        self.server = server
        self.reading = reading
    }

    func start() {
        let thread = Thread { [self] in
            while !lock.withLock({ isOver }) {
                var file = pollfd(fd: server.file, events: Int16(POLLIN), revents: 0)
                guard poll(&file, 1, 10) > 0, server.takeQuestion() else { continue }
                lock.withLock { questions += 1 }
                server.answer(reading)
            }
            ended.signal()
        }
        thread.start()
    }

    @discardableResult
    func stop() -> Int {
        let wasOver = lock.withLock {
            defer { isOver = true }
            return isOver
        }
        if !wasOver { ended.wait() }
        return lock.withLock { questions }
    }
}

private func judge(_ name: String) -> String {
    URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Judges/\(name).py").path
}

/// Runs a program, which must end by itself within its own limits.
private func run(
    _ path: String, _ arguments: [String], input: Data = Data()
) throws -> (code: Int32, output: Data, complaint: String) {
    let process = Process()
    process.executableURL = URL(filePath: path)
    process.arguments = arguments
    let (inside, outside, errors) = (Pipe(), Pipe(), Pipe())
    process.standardInput = inside
    process.standardOutput = outside
    process.standardError = errors
    try process.run()
    // Small enough for no pipe to fill; larger ones are read by the judge at once.
    DispatchQueue.global().async {
        try? inside.fileHandleForWriting.write(contentsOf: input)
        try? inside.fileHandleForWriting.close()
    }
    let output = try outside.fileHandleForReading.readToEnd() ?? Data()
    let complaint = try errors.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return (process.terminationStatus, output, String(decoding: complaint, as: UTF8.self))
}

private func curl(_ arguments: String...) throws -> (status: Int, text: String) {
    let outcome = try run(
        "/usr/bin/curl",
        ["--silent", "--max-time", "8", "--write-out", "\n%{http_code}"] + arguments)
    let lines = String(decoding: outcome.output, as: UTF8.self)
        .split(separator: "\n", omittingEmptySubsequences: false)
    return (Int(lines.last ?? "") ?? 0, lines.dropLast().joined(separator: "\n"))
}

private struct Family: Decodable {
    struct Sample: Decodable {
        let labels: [String: String]
        let value: Double
    }

    let type: String
    let samples: [Sample]

    func value(_ labels: [String: String] = [:]) -> Double? {
        samples.first { $0.labels == labels }?.value
    }
}

@Suite(.timeLimit(.minutes(2))) struct MonitorTests {
    @Test func metricsAreTheNodes() throws {
        let site = try Site {
            var odd = Metric("spindle_odd", .gauge, "A \\ and\na line.")
            odd.add(7, ("name", "a \"quoted\" \\ text\nin two lines"))
            return [odd]
        }
        let reading = try NodeReading.ofMember()
        let (answer, questions) = try site.serve(reading) { try curl(site.url + "/metrics") }
        #expect(answer.status == 200 && questions == 1)
        let judged = try run(
            "/usr/bin/python3", [judge("exposition")], input: Data(answer.text.utf8))
        try #require(judged.code == 0, "\(judged.complaint)")
        let families = try JSONDecoder().decode([String: Family].self, from: judged.output)
        // The judge leaves labels as they are written.
        let written = #"a \"quoted\" \\ text\nin two lines"#
        #expect(families["spindle_odd"]?.value(["name": written]) == 7)
        let state = reading.gateway
        #expect(families["spindle_epoch"]?.value() == Double(state.epoch))
        #expect(families["spindle_serving"]?.value() == 1)
        #expect(families["spindle_identifiers"]?.value(["role": "owned"]) == 8)
        #expect(families["spindle_tunnels"]?.value() == Double(state.tunnels))
        #expect(families["spindle_identifier_owner"]?.samples.count == 16)
        #expect(families["spindle_identifier_packets_total"]?.samples.count == 8)
        #expect(families["spindle_packets_dropped_total"]?.samples.count == 30)
        #expect(families["spindle_packets_dropped_total"]?.value(["reason": "replayed"]) == 0)
        #expect(families["spindle_member_identifiers"]?.value(["member": "2"]) == 8)
        #expect(families["spindle_member_link_healthy"]?.samples.count == 1)
        #expect((families["process_resident_memory_bytes"]?.value() ?? 0) > 1_000_000)
        let left = families["spindle_serving_left_seconds"]?.value() ?? -1
        #expect(abs(left - Double(state.servingLeftNanoseconds) / 1e9) < 1e-9)
    }

    @Test func healthSaysWhy() throws {
        let site = try Site()
        let (good, questions) = try site.serve(try .ofMember()) { try curl(site.url + "/healthz") }
        #expect(good == (200, "serving\n") && questions == 1)
        // What is fresh is not asked for again: a moment later it is.
        usleep(150_000)
        let fenced = try site.serve(try .ofStranger()) { try curl(site.url + "/healthz") }
        #expect(fenced.result == (503, "not serving: not in the allocation yet\n"))
    }

    @Test func aNodeThatHangsIsNotHealthy() throws {
        let site = try Site()
        for path in ["/healthz", "/metrics"] {
            let start = ContinuousClock.now
            let answer = try curl(site.url + path)
            #expect(answer == (503, "the node's loop did not answer within a second\n"))
            #expect(ContinuousClock.now - start < .seconds(4))
        }
        // It comes back, and so does health.
        let back = try site.serve(try .ofMember()) { try curl(site.url + "/healthz") }
        #expect(back.result.status == 200)
    }

    /// Many ask, and the node is asked once in a while.
    @Test func manyQuestionsAreOne() throws {
        let site = try Site()
        let (count, questions) = try site.serve(try .ofMember()) {
            let start = ContinuousClock.now
            var count = 0
            while ContinuousClock.now - start < .seconds(1) {
                let answer = try curl(site.url + "/healthz")
                #expect(answer.status == 200)
                count += 1
            }
            return count
        }
        #expect(questions <= 12 && questions >= 1 && count > questions, "\(count) \(questions)")
    }

    @Test func headHasNoBody() throws {
        let site = try Site()
        let (answer, _) = try site.serve(try .ofMember()) {
            try curl("--head", site.url + "/metrics")
        }
        #expect(answer.status == 200)
        #expect(answer.text.contains("text/plain; version=0.0.4; charset=utf-8"))
        #expect(!answer.text.contains("# HELP"))
    }

    private struct Attacks: Decodable {
        let garbage, tls, longHeader, manyHeaders, longPath, body, post, nothing, path: String
        let crowded, after: String
        let two: Int
        let slowSeconds: Double
    }

    @Test func badClientsAreCutOff() throws {
        let site = try Site()
        let (judged, _) = try site.serve(try .ofMember()) {
            try run(
                "/usr/bin/python3", [judge("attacks"), "\(site.server.address.port)"])
        }
        try #require(judged.code == 0, "\(judged.complaint)")
        let attacks = try JSONDecoder().decode(Attacks.self, from: judged.output)
        #expect(attacks.garbage == "400" && attacks.tls == "400")
        for answer in [attacks.longHeader, attacks.manyHeaders, attacks.longPath] {
            #expect(["400", "closed"].contains(answer))
        }
        #expect(["413", "closed"].contains(attacks.body))
        #expect(attacks.post == "405" && attacks.path == "404" && attacks.nothing == "closed")
        #expect(attacks.two == 1, "one answer, and the end")
        #expect(attacks.slowSeconds < 7)
        #expect(attacks.crowded == "closed" && attacks.after == "200")
    }

    @Test func aPortInUseIsSaid() throws {
        let site = try Site()
        #expect {
            _ = try MonitorServer(site.server.address)
        } throws: { error in
            "\(error)"
                == "metrics can't be served at \(site.server.address): Address already in use; "
                + "choose another node.monitor"
        }
    }
}
