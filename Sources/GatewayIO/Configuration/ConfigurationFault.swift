// Everything that can be wrong with a node's configuration, each fault as one line that a user
// reads.

/// One thing that is wrong, or one that is allowed but should be known.
public struct ConfigurationFault: Error, Hashable, Sendable {
    /// What kind of mistake it is.
    public enum Code: String, Sendable {
        /// A file that can't be read: the configuration, or one that it names.
        case file
        /// A file with secrets that others may read or that is not ours.
        case permissions
        /// Not YAML, or YAML of a kind that is not read here.
        case syntax
        /// A key that stands twice in one mapping.
        case duplicateKey
        /// A key that is not known: perhaps misspelt.
        case unknownKey
        /// A key that is needed is absent.
        case missingKey
        /// For example a list where a text is expected.
        case wrongType
        /// A word that is not one of those allowed.
        case unknownWord
        /// A number or a duration outside of its range, or a text that is too long.
        case outOfRange
        /// Not an IP address, not one that can stand here, or not a place of etcd.
        case address
        /// Not a traffic selector, or not one that can stand here.
        case selector
        /// Not an identity.
        case identity
        /// Not a proposal.
        case proposal
        /// A pre-shared key, or a cluster key, that can't be one.
        case secret
        /// A certificate, authority or revocation list that can't be used.
        case certificate
        /// A private key that can't be used, or another one than the certificate's.
        case key
        /// An association file that can't be used.
        case associations
        /// A name of something that is not configured.
        case unknownName
        /// Settings that exclude each other.
        case contradiction
        /// Two parts that claim the same addresses or packets.
        case clash
        /// A warning: a choice that protects less than it could.
        case weak
        /// A warning: a certificate outside of its time.
        case expired
        /// A warning: allowed, but hardly meant.
        case unusual
    }

    /// What kind of mistake it is.
    public let code: Code
    /// The file, as the caller or the configuration named it.
    public let file: String
    /// The line, from 1; 0 for the file as a whole.
    public let line: Int
    /// The column in characters, from 1; 0 for the file as a whole.
    public let column: Int
    /// The setting: `connections.office.children.net.local[0]`; empty where there is none.
    public let place: String
    /// What is wrong and what to do. Holds no secret.
    public let text: String

    package init(
        _ code: Code, file: String, line: Int = 0, column: Int = 0, place: String = "",
        text: String
    ) {
        self.code = code
        self.file = file
        self.line = line
        self.column = column
        self.place = place
        self.text = Self.escaped(text)
    }

    /// Other rooms' errors repeat words of the file as they are; on a terminal they must not act.
    private static func escaped(_ text: String) -> String {
        text.unicodeScalars.map { scalar in
            scalar.properties.generalCategory == .control
                ? scalar.escaped(asASCII: true) : String(scalar)
        }.joined()
    }
}

extension ConfigurationFault: CustomStringConvertible {
    /// One line, as compilers write it: file, line, column, setting, what is wrong, what to do.
    public var description: String {
        let position = line == 0 ? "" : ":\(line):\(column)"
        return "\(printable(path: file))\(position): \(place.isEmpty ? "" : "\(place): ")\(text)"
    }
}

/// All that is wrong with a configuration. Never empty.
public struct ConfigurationFaults: Error, Hashable, Sendable, CustomStringConvertible {
    /// By file and line, the configuration itself first.
    public let faults: [ConfigurationFault]
    /// What would be a warning if nothing were wrong.
    public let warnings: [ConfigurationFault]

    /// One line for each fault.
    public var description: String {
        faults.map(\.description).joined(separator: "\n")
    }
}

/// Collects faults and warnings, so that the user sees all of them at once.
final class FaultLog {
    private(set) var faults: [ConfigurationFault] = []
    private(set) var warnings: [ConfigurationFault] = []

    func refuse(_ fault: ConfigurationFault) { faults.append(fault) }

    func warn(_ warning: ConfigurationFault) { warnings.append(warning) }

    /// In the order of the lines; those of `name` first.
    static func ordered(
        _ faults: [ConfigurationFault], first name: String
    ) -> [ConfigurationFault] {
        func rank(_ fault: ConfigurationFault) -> (Int, String, Int, Int) {
            (fault.file == name ? 0 : 1, fault.file, fault.line, fault.column)
        }
        // Stable: faults of one place stay as they were found.
        return faults.enumerated().sorted {
            let (left, right) = (rank($0.element), rank($1.element))
            return left == right ? $0.offset < $1.offset : left < right
        }.map(\.element)
    }
}
