// Keeps a node's store on disk, so that the node can be its own successor (docs/decisions/0018).

internal import Cluster
internal import Crypto
internal import Glibc

/// The files of a state directory: `secret`, the cluster key, and `store`.
final class StateJournal {
    private static let secretName = "secret"
    private static let storeName = "store"
    private static let secretMagic = Array("spindle secret 1\n".utf8)
    /// Octets of changes behind the snapshot from which on a new one may be worth it.
    private static let tailMinimum = 1 << 20
    /// Changes of one frame of a snapshot.
    private static let frameChanges = 1000

    /// True when the directory held nothing.
    let isNew: Bool
    private let directory: StateDirectory
    private let key: SecretBytes
    private let check: [UInt8]
    /// What the node begins with, until it is taken.
    private var restored: [String: [UInt8]] = [:]
    private var hasSecret: Bool
    /// Nil before the first snapshot of this process, and after a failure.
    private(set) var file: FileDescriptor?
    private var frames: UInt32 = 0
    private var snapshotBytes = 0
    private var tailBytes = 0
    /// What is under way is everything anew.
    private var isSnapshot = false
    private let writer: StateWriter

    /// Opens a directory and reads what is in it.
    init(path: String, random: inout some RandomSource) throws(StateError) {
        directory = try StateDirectory(path: path)
        writer = try StateWriter()
        let store = try directory.read(Self.storeName)
        var secret = try Self.readSecret(directory, Self.secretName)
        hasSecret = secret != nil
        if secret == nil, store != nil {
            // The first start of all ended before the secret had its name.
            secret = try Self.readSecret(directory, Self.secretName + ".new")
        }
        switch consume secret {
        case .some(let found):
            guard store != nil else {
                throw .missing(directory.path(of: Self.storeName), directory: path)
            }
            key = found
        case nil:
            guard store == nil else {
                throw .missing(directory.path(of: Self.secretName), directory: path)
            }
            key = random.secret(ClusterSecret.keyBytesMinimum)
        }
        isNew = store == nil
        check = Array(
            try Self.fingerprint(key, "spindle state check 1", SecretBytes(count: 0))
                .prefix(StateFile.checkBytes))
        if let store { restored = try Self.parse(store, check, directory) }
        if !hasSecret { try writeSecret() }
    }

    /// As the configuration names it.
    var path: String { directory.path }

    /// A copy of the cluster key.
    func secret() -> SecretBytes {
        key.withUnsafeBytes { (bytes: UnsafeRawBufferPointer) in SecretBytes(copying: bytes) }
    }

    /// 32 octets that stand for others, and give nothing of them away: HMAC-SHA256 under the
    /// cluster key.
    func fingerprint(
        _ label: String, _ octets: borrowing SecretBytes
    ) throws(StateError) -> [UInt8] {
        try Self.fingerprint(key, label, octets)
    }

    /// The store as it was. Without what went with a lease: who held that is gone, as the lock is
    /// ours.
    func takeStore() throws(StateError) -> CoordinationStore {
        var store = CoordinationStore()
        let pairs = exchange(&restored, with: [:])
        for (key, value) in pairs.sorted(by: { $0.key < $1.key }) {
            let reply = store.handle(
                .transaction(
                    CoordinationTransaction(
                        operations: [.put(key: key, value: value, lease: nil)])),
                nowNanoseconds: 0)
            guard case .committed = reply else {
                throw .unusable(directory: path, reason: "a value is too large")
            }
        }
        return store
    }

    // MARK: Writing

    /// Has something to read when ``finish(waits:)`` has something to say.
    var news: FileDescriptor { writer.news }

    /// Begins to bring changes to the disk: one frame, or everything anew, if that is shorter or
    /// the last attempt failed. `store` has the changes. Precondition: nothing else is under way.
    func begin(_ changes: [StateChange], of store: inout CoordinationStore) {
        guard let file, tailBytes <= max(Self.tailMinimum, 2 * snapshotBytes) else {
            return beginSnapshot(&store)
        }
        let name = directory.path(of: Self.storeName)
        let number = frames
        isSnapshot = false
        writer.begin { () throws(StateError) in
            let frame = StateFile.frame(changes, number: number)
            try StateDirectory.append(frame, to: file.number, name)
            try StateDirectory.synchronize(file.number, name)
            return StateWriter.Outcome(file: file, bytes: frame.count, frames: 1)
        }
    }

    /// Begins to write everything anew.
    func beginSnapshot(_ store: inout CoordinationStore) {
        guard case .pairs(let pairs, _) = store.handle(.read(prefix: ""), nowNanoseconds: 0)
        else { preconditionFailure("a store in memory can be read") }
        let (directory, check, hasSecret) = (directory, check, hasSecret)
        isSnapshot = true
        writer.begin { () throws(StateError) in
            let frames = Self.frames(of: pairs)
            let bytes = frames.reduce(0) { $0 + $1.count }
            let header = StateFile.header(check: check, snapshotBytes: bytes)
            let name = directory.path(of: Self.storeName)
            let file = try directory.begin(Self.storeName)
            for octets in [header] + frames {
                try StateDirectory.append(octets, to: file.number, name)
            }
            try StateDirectory.synchronize(file.number, name)
            try directory.finish(Self.storeName)
            if !hasSecret { try directory.finish(Self.secretName) }
            return StateWriter.Outcome(file: file, bytes: bytes, frames: frames.count)
        }
    }

    /// True when what was begun outlives a failure of power from now on; nil while it goes on,
    /// unless the caller `waits`. After an error nobody knows what is on the disk.
    func finish(waits: Bool) throws(StateError) -> Bool? {
        guard let result = writer.finish(waits: waits) else { return nil }
        file = nil
        let outcome = try result.get()
        file = outcome.file
        hasSecret = true
        frames = (isSnapshot ? 0 : frames) + UInt32(outcome.frames)
        if isSnapshot {
            (snapshotBytes, tailBytes) = (outcome.bytes, 0)
        } else {
            tailBytes += outcome.bytes
        }
        return true
    }

    private static func frames(of pairs: [CoordinationPair]) -> [[UInt8]] {
        let kept = pairs.filter { $0.lease == nil }
            .map { StateChange.put(key: $0.key, value: $0.value) }
        return stride(from: 0, to: kept.count, by: frameChanges).enumerated().map { number, start in
            let changes = kept[start..<min(start + frameChanges, kept.count)]
            return StateFile.frame(Array(changes), number: UInt32(number))
        }
    }

    private func writeSecret() throws(StateError) {
        let name = directory.path(of: Self.secretName)
        let new = try directory.begin(Self.secretName)
        var octets = Self.secretMagic
        key.withUnsafeBytes { octets.append(contentsOf: $0) }
        defer { octets.withUnsafeMutableBytes(TextFile.wipe) }
        try StateDirectory.append(octets, to: new.number, name)
        try StateDirectory.synchronize(new.number, name)
    }

    // MARK: Reading

    private static func readSecret(
        _ directory: StateDirectory, _ name: String
    ) throws(StateError) -> SecretBytes? {
        guard var octets = try directory.read(name) else { return nil }
        defer { octets.withUnsafeMutableBytes(TextFile.wipe) }
        guard octets.starts(with: secretMagic),
            octets.count == secretMagic.count + ClusterSecret.keyBytesMinimum
        else {
            throw .damaged(directory.path(of: name), offset: 0, directory: directory.path)
        }
        var secret = SecretBytes(count: ClusterSecret.keyBytesMinimum)
        secret.withUnsafeMutableBytes { $0.copyBytes(from: octets[secretMagic.count...]) }
        return secret
    }

    private static func parse(
        _ octets: [UInt8], _ check: [UInt8], _ directory: StateDirectory
    ) throws(StateError) -> [String: [UInt8]] {
        let name = directory.path(of: storeName)
        do throws(StateFile.Fault) {
            return try StateFile(octets, check: check).pairs
        } catch {
            switch error {
            case .version: throw .version(name)
            case .otherSecret: throw .otherSecret(directory: directory.path)
            case .damaged(let offset):
                throw .damaged(name, offset: offset, directory: directory.path)
            }
        }
    }

    private static func fingerprint(
        _ key: borrowing SecretBytes, _ label: String, _ octets: borrowing SecretBytes
    ) throws(StateError) -> [UInt8] {
        let head = Array(label.utf8) + [0]
        var data = SecretBytes(count: head.count + octets.count)
        data.withUnsafeMutableBytes { target in
            target.copyBytes(from: head)
            octets.withUnsafeBytes { source in
                UnsafeMutableRawBufferPointer(rebasing: target[head.count...])
                    .copyMemory(from: source)
            }
        }
        do throws(CryptoError) {
            return try hmacSHA256(key: key, data: data).withUnsafeBytes { Array($0) }
        } catch {
            throw .system(doing: "naming keys", reason: error.description)
        }
    }
}
