// `spindle verify`: options, the table, and the exit code.

import ArgumentParser
import Verification

struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Run known answers of RFCs, NIST, Wycheproof and captures through the engine.",
        discussion: """
            Takes files, or directories with *.json and *.rsp files: this project's own vectors, \
            Wycheproof (AES-GCM, AES-CCM, ChaCha20-Poly1305, AES-GMAC, HMAC), NIST CAVP for GCM \
            (gcmEncryptExtIV*.rsp, gcmDecrypt*.rsp), and captures with keys (NAME.json with \
            NAME.pcap and NAME.verify.json). The kind is found from the content.

            Only cases with lengths that ESP does not have are skipped; the table says how many \
            and why. A file of another kind or a damaged one is an error.

            Example:
              spindle verify vectors/ wycheproof/testvectors_v1/aes_gcm_test.json

            Exits with 0 if something passed and nothing failed, else with 1.
            """)

    @Argument(help: "Files and directories.", completion: .file())
    var paths = ["vectors/"]

    @Flag(help: "Print one JSON object instead of a table.")
    var json = false

    func run() throws {
        let report = try Verifier().verify(paths: paths)
        if json {
            try printJSON(VerificationSummary(report))
        } else {
            printTable(report)
        }
        for error in report.errors { complain("spindle: \(error)") }
        if !json {
            print("\(report.passed) passed, \(report.failed) failed, \(report.skipped) skipped")
        }
        if !report.isSuccess { throw ExitCode.failure }
    }

    private func printTable(_ report: VerificationReport) {
        print("  passed  failed  skipped  file")
        for file in report.files {
            let skipped = file.skipped.values.reduce(0, +)
            print(
                [right(file.passed, 8), right(file.failed, 8), right(skipped, 9)].joined()
                    + "  \(printable(file.path)) (\(file.kind))")
            for (reason, count) in file.skipped.sorted(by: { $0.key < $1.key }) {
                print("                           \(count) skipped: \(reason)")
            }
            for failure in file.failures {
                print("                           FAILED \(failure.name): \(failure.difference)")
            }
            let hidden = file.failed - file.failures.count
            if hidden > 0 { print("                           and \(hidden) more failures") }
        }
    }

    private func right(_ number: Int, _ width: Int) -> String {
        let digits = String(number)
        return String(repeating: " ", count: max(0, width - digits.count)) + digits
    }

    /// A name may hold line breaks or terminal controls; quoted and escaped, it cannot act.
    private func printable(_ text: String) -> String {
        let isPlain = text.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control }
        return isPlain ? text : text.debugDescription
    }
}

/// The JSON object: the sums first, then what they are made of.
private struct VerificationSummary: Encodable {
    let passed: Int
    let failed: Int
    let skipped: Int
    let errors: [String]
    let files: [FileReport]

    init(_ report: VerificationReport) {
        passed = report.passed
        failed = report.failed
        skipped = report.skipped
        errors = report.errors
        files = report.files
    }
}
