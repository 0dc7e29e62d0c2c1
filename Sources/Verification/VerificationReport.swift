// What a run of known answers found, as values for tables, JSON and tests.

/// One case that went wrong.
public struct CaseFailure: Codable, Equatable, Sendable {
    /// The case's name or number in its file.
    public let name: String
    /// What was expected and what came instead.
    public let difference: String
}

/// What became of the cases of one file.
public struct FileReport: Codable, Equatable, Sendable {
    /// The file, as it was found.
    public let path: String
    /// What kind of file it is, in words.
    public let kind: String
    /// Cases whose every check held.
    public internal(set) var passed = 0
    /// Cases with at least one check that did not hold.
    public internal(set) var failed = 0
    /// Cases that ask for something ESP does not have: how many for which reason.
    public internal(set) var skipped: [String: Int] = [:]
    /// The first failures, at most ``failuresMaximum``.
    public internal(set) var failures: [CaseFailure] = []

    /// More failures than these are only counted.
    public static let failuresMaximum = 20

    init(path: String, kind: String) {
        self.path = path
        self.kind = kind
    }

    /// Counts one case; `difference` is nil when all is well.
    mutating func record(_ name: String, _ difference: String?) {
        guard let difference else {
            passed += 1
            return
        }
        failed += 1
        if failures.count < Self.failuresMaximum {
            failures.append(CaseFailure(name: name, difference: difference))
        }
    }

    /// Counts one case that ESP has no use for.
    mutating func skip(_ reason: String) { skipped[reason, default: 0] += 1 }
}

/// What became of all files.
public struct VerificationReport: Codable, Equatable, Sendable {
    /// In the order in which they were run.
    public internal(set) var files: [FileReport] = []
    /// Files that could not be run, one line each.
    public internal(set) var errors: [String] = []

    /// Cases that passed.
    public var passed: Int { files.reduce(0) { $0 + $1.passed } }
    /// Cases that failed.
    public var failed: Int { files.reduce(0) { $0 + $1.failed } }
    /// Cases that were skipped.
    public var skipped: Int { files.reduce(0) { $0 + $1.skipped.values.reduce(0, +) } }
    /// True when something passed, and nothing failed or could not be run.
    public var isSuccess: Bool { passed > 0 && failed == 0 && errors.isEmpty }
}
