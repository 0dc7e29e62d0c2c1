// What an operator is told, in whole sentences: what happened, with whom, and why.

internal import ESP
internal import Wire

/// A line for the log, with what a program needs to count it.
public struct IKEReport: Sendable, CustomStringConvertible {
    /// How much it matters.
    public enum Level: String, Sendable { case info, warning }

    /// The kinds, for counters.
    public enum Kind: String, CaseIterable, Sendable {
        case established, rekeyed, closed, childCreated, childRekeyed, childClosed
        case noProposal, wrongGroup, authenticationFailed, identityUnknown
        case selectorsUnacceptable, noRoom, addressFailure, peerError, peerSilent, pathChanged
        case setUpFailed, syntax, temporaryFailure, tooManyAssociations, synchronized
    }

    /// What it is about.
    public let kind: Kind
    /// How much it matters.
    public let level: Level
    /// The connection's name; empty where no connection is known.
    public let connection: String
    /// Where the peer is.
    public let path: IKEPath
    /// The sentence.
    public let text: String

    /// `connection path: text`.
    public var description: String {
        (connection.isEmpty ? "" : "\(connection) ") + "\(path): \(text)"
    }
}

extension IKEAssociation {
    func report(
        _ kind: IKEReport.Kind, _ level: IKEReport.Level = .info, _ text: String,
        _ outcome: inout IKEOutcome
    ) {
        outcome.report(
            IKEReport(kind: kind, level: level, connection: connection, path: path, text: text))
    }
}

extension [Proposal] {
    /// Both sides of a failed negotiation are told in these words.
    var text: String { map(\.text).joined(separator: ", ") }
}

extension Proposal {
    var text: String {
        let words = transforms.map { transform -> String in
            switch transform.kind {
            case .encryption:
                [transform].cipher?.word ?? "cipher \(transform.id)/\(transform.keyBits ?? 0)"
            case .integrity: [transform].integrity?.word ?? "integrity \(transform.id)"
            case .pseudoRandomFunction: [transform].function?.word ?? "prf \(transform.id)"
            case .keyAgreement: [transform].group?.word ?? "group \(transform.id)"
            case .extendedSequenceNumbers: transform.id == 0 ? "noesn" : "esn"
            case nil: "type \(transform.type)/\(transform.id)"
            }
        }
        return words.joined(separator: "-")
    }
}

extension TrafficSelector {
    fileprivate var text: String {
        let isHost = first == last
        let addresses = isHost ? first.description : "\(first)-\(last)"
        let flow = ipProtocol == 0 ? "" : " protocol \(ipProtocol)"
        let ports = firstPort == 0 && lastPort == .max ? "" : " ports \(firstPort)-\(lastPort)"
        return addresses + flow + ports
    }
}

extension [TrafficSelector] {
    var text: String { isEmpty ? "nothing" : map(\.text).joined(separator: ", ") }
}
