// `spindle check`: is a node's configuration right, and what would it do?

import ArgumentParser
import GatewayIO

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Check a node's configuration, and say in words what the node would do.",
        discussion: """
            Reads the file and the files that it names: keys, certificates, associations. Nothing \
            is sent or changed. docs/configuration.md lists the settings.

            Every fault is a line with file, line, column, setting, what is wrong and what to do; \
            so is every warning: an expired certificate, a weak algorithm, selectors of two peers \
            that overlap.

            Example:
              spindle check --config docs/examples/site-to-site.yaml

            Exits with 0 if the node can run, with warnings or without, else with 1.
            """)

    @Option(help: "The configuration, in YAML.", completion: .file())
    var config = "/etc/spindle/node.yaml"

    @Flag(help: "Print one JSON object.")
    var json = false

    func run() throws {
        let file: NodeConfigurationFile
        do throws(ConfigurationFaults) {
            file = try NodeConfigurationFile(path: config)
        } catch {
            try report(faults: error.faults, warnings: error.warnings, explanation: [])
            throw ExitCode.failure
        }
        try report(
            faults: [], warnings: file.warnings, explanation: file.configuration.explanation())
    }

    private func report(
        faults: [ConfigurationFault], warnings: [ConfigurationFault], explanation: [String]
    ) throws {
        if json {
            return try printJSON(
                CheckReport(
                    faults: faults.map(CheckReport.Line.init),
                    warnings: warnings.map(CheckReport.Line.init), explanation: explanation))
        }
        explanation.forEach { print($0) }
        for warning in warnings { complain("warning: \(warning)") }
        complain(faults: faults)
    }
}

/// Writes each fault, and how many there are, to standard error; nothing without faults.
func complain(faults: [ConfigurationFault]) {
    guard !faults.isEmpty else { return }
    for fault in faults { complain("error: \(fault)") }
    complain("spindle: \(faults.count == 1 ? "1 fault" : "\(faults.count) faults") to correct")
}

/// The JSON object.
private struct CheckReport: Encodable {
    struct Line: Encodable {
        let code: String
        let file: String
        let line: Int
        let column: Int
        let setting: String
        let text: String

        init(_ fault: ConfigurationFault) {
            code = fault.code.rawValue
            file = fault.file
            line = fault.line
            column = fault.column
            setting = fault.place
            text = fault.text
        }
    }

    let faults: [Line]
    let warnings: [Line]
    let explanation: [String]
}
