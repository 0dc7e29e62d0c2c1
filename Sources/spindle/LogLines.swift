// The log of a node: one line for each thing that happened, with the time in UTC and how much it
// matters, to standard error. Whoever collects it (journald, a file) needs nothing else.

import ArgumentParser
import Foundation
import GatewayIO
import Logging

/// Writes lines.
struct LogLines: LogHandler {
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]

    init(logLevel: Logger.Level) { self.logLevel = logLevel }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { $1 }
        let fields = all.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
        complain("\(UTCTime.now) \(event.level.rawValue) \(event.message)\(fields)")
    }
}

/// From where on lines are written.
enum LogThreshold: String, ExpressibleByArgument, CaseIterable {
    case debug, info, warning

    var level: Logger.Level {
        switch self {
        case .debug: .debug
        case .info: .info
        case .warning: .warning
        }
    }
}

extension LiveNode.LogLevel {
    var level: Logger.Level {
        switch self {
        case .debug: .debug
        case .info: .info
        case .warning: .warning
        }
    }
}
