// The files that a configuration names: where they are, and how they are read from disk.

internal import Crypto

/// A file that a configuration names.
public struct NamedFile: Hashable, Sendable {
    /// Where it is; a relative path of the configuration is joined to the configuration's folder.
    public let path: String
    /// True for what only the node may read: pre-shared keys and private keys.
    public let isSecret: Bool

    /// See the properties.
    public init(path: String, isSecret: Bool) {
        self.path = path
        self.isSecret = isSecret
    }

    /// The octets, from disk. Throws when they can't be read, or when the file is secret and others
    /// than the user who runs this can use it.
    public func read() throws(NamedFileError) -> [UInt8] {
        do throws(AssociationFileError) {
            return try TextFile.read(path: path, secret: isSecret)
        } catch {
            throw NamedFileError(error.text, isExposed: error.code == .exposed)
        }
    }
}

/// Why a file is not read.
public struct NamedFileError: Error, Hashable, Sendable {
    /// What is wrong and what to do, without the file's name.
    public let text: String
    /// True for a file with secrets that others can use.
    public let isExposed: Bool

    /// See the properties.
    public init(_ text: String, isExposed: Bool = false) {
        self.text = text
        self.isExposed = isExposed
    }
}

/// Reads named files for settings; what goes wrong is said at the setting.
struct ConfigurationFiles {
    typealias Reading = (NamedFile) throws(NamedFileError) -> [UInt8]

    /// The configuration's own path.
    let name: String
    let reading: Reading

    /// A path of the configuration, as the process can open it.
    func resolve(_ path: String) -> String {
        guard !path.hasPrefix("/"), let slash = name.lastIndex(of: "/") else { return path }
        return String(name[...slash]) + path
    }

    /// The file that a setting names.
    func octets(of setting: Setting, secret: Bool = false) -> (path: String, octets: [UInt8])? {
        guard let text = setting.name(bytesMaximum: 4096) else { return nil }
        // Not repeated: it may be a private key.
        guard !text.contains("-----BEGIN") else {
            setting.refuse(.file, "write the contents into a file, and its path here")
            return nil
        }
        let path = resolve(text)
        do throws(NamedFileError) {
            return (path, try reading(NamedFile(path: path, isSecret: secret)))
        } catch {
            setting.refuse(
                error.isExposed ? .permissions : .file, "\(printable(path: path)): \(error.text)")
            return nil
        }
    }

    /// The contents of a file that only we may read, in memory that is wiped.
    func secret(of setting: Setting) -> SecretBytes? {
        guard case (_, var octets)? = octets(of: setting, secret: true) else { return nil }
        return SecretBytes(moving: &octets)
    }
}

extension SecretBytes {
    /// Takes the octets over and wipes where they were.
    init(moving octets: inout [UInt8]) {
        self.init(count: octets.count)
        withUnsafeMutableBytes { target in
            octets.withUnsafeMutableBytes { source in
                target.copyMemory(from: UnsafeRawBufferPointer(source))
                TextFile.wipe(source)
            }
        }
    }
}
