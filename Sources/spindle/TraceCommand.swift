// `spindle trace`: why packets were dropped, and by whom.

import ArgumentParser
import Foundation
import GatewayIO

struct TraceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace",
        abstract: "Show the last packets that a running node refused, and why.",
        discussion: """
            A node keeps the last 16 packets of each reason, so that a flood of one hides no \
            other; of a flood, it notes about one packet in a millisecond. The counters of spindle \
            status have them all. A packet belongs to the node that owns its identifier, and no \
            other one sees it: with --spi the node says which that is.

            Examples:
              spindle trace --follow
              spindle trace --spi c0ffee01
            """)

    @OptionGroup var control: ControlOptions

    @Option(help: "Only packets of the tunnel with this inbound SPI, in hexadecimal digits.")
    var spi: String?

    @Option(name: .customShort("n"), help: "The most packets to show.")
    var count = 50

    @Flag(help: "Go on with each packet that is refused from now on, until Ctrl-C.")
    var follow = false

    @Flag(help: "Print one JSON object a packet.")
    var json = false

    func validate() throws {
        guard count >= 1 else { throw ValidationError("-n must be at least 1") }
        guard let spi else { return }
        guard UInt32(spi, radix: 16) != nil, !spi.hasPrefix("+") else {
            throw ValidationError("--spi: \(spi) is no SPI: write 1 to 8 hexadecimal digits")
        }
    }

    func run() throws {
        var request = ControlRequest(.trace)
        request.spi = spi
        request.count = count
        var reply = try control.ask(request)
        if let owner = reply.report { complain(owner) }
        try show(reply.refusals ?? [])
        if !follow, !json, reply.refusals?.isEmpty ?? true { complain("no refused packets") }
        request.count = nil
        while follow {
            usleep(200_000)
            request.after = reply.lastRefusal
            reply = try control.ask(request)
            try show(reply.refusals ?? [])
        }
    }

    private func show(_ refusals: [RefusalListing]) throws {
        for refusal in refusals {
            guard json else {
                print(Self.line(refusal))
                continue
            }
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            print(String(decoding: try encoder.encode(refusal), as: UTF8.self))
        }
        // Whoever reads along through a pipe wants it now.
        if follow { fflush(nil) }
    }

    private static func line(_ refusal: RefusalListing) -> String {
        let addresses = [refusal.source, refusal.destination].compactMap { $0 }
            .joined(separator: " → ")
        var parts = [
            refusal.time, refusal.isInbound ? "from the peer" : "to the peer",
            addresses.isEmpty ? "no address" : addresses, "\(refusal.octets) octets",
        ]
        if let spi = refusal.spi { parts.append("SPI \(spi)") }
        if let sequence = refusal.sequence { parts.append("number \(sequence)") }
        if let identifier = refusal.identifier, let owner = refusal.owner {
            parts.append("identifier \(identifier) of node \(owner)")
        }
        return parts.joined(separator: ", ") + ": \(refusal.reason), \(refusal.explanation)"
    }
}
