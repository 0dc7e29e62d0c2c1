// Certificates and keys from files, and what is demanded of the other end.

internal import Crypto
internal import EtcdMessages
internal import Glibc
internal import NIOSSL

extension EtcdTLS {
    /// More octets than a key has.
    private static let keyOctetsMaximum = 1 << 16

    /// What connections need: TLS 1.2 or 1.3; the other end must have a certificate of the
    /// authority. Whom it is for, the connection itself checks (``ServerName``).
    func context() throws(EtcdError) -> NIOSSLContext {
        var settings = NIOSSL.TLSConfiguration.makeClientConfiguration()
        settings.minimumTLSVersion = .tlsv12
        settings.certificateVerification = .noHostnameVerification
        // Otherwise etcd might choose HTTP/2.
        settings.applicationProtocols = ["http/1.1"]
        settings.trustRoots = .certificates(try Self.certificates(authority))
        guard (certificate == nil) == (key == nil) else { throw .halfIdentity }
        if let certificate, let key {
            settings.certificateChain = try Self.certificates(certificate).map {
                .certificate($0)
            }
            settings.privateKey = .privateKey(try Self.privateKey(key))
        }
        do {
            return try NIOSSLContext(configuration: settings)
        } catch {
            throw .key(path: key ?? authority, reason: "\(error)")
        }
    }

    private static func certificates(_ path: String) throws(EtcdError) -> [NIOSSLCertificate] {
        let octets = try read(path, isKey: false)
        do {
            let certificates = try NIOSSLCertificate.fromPEMBytes(octets)
            guard !certificates.isEmpty else {
                throw EtcdError.certificate(path: path, reason: "none is in it")
            }
            return certificates
        } catch {
            throw .certificate(path: path, reason: "\(error)")
        }
    }

    private static func privateKey(_ path: String) throws(EtcdError) -> NIOSSLPrivateKey {
        var octets = try read(path, isKey: true)
        defer { octets.withUnsafeMutableBytes(wipe) }
        do {
            return try NIOSSLPrivateKey(bytes: octets, format: .pem)
        } catch {
            throw .key(path: path, reason: "\(error)")
        }
    }

    /// The octets of a file, of which no other copy is left in memory. One with a key must be ours
    /// alone.
    private static func read(_ path: String, isKey: Bool) throws(EtcdError) -> [UInt8] {
        // Without a writer, the opening of a pipe would wait for one.
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else { throw failure(path) }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0 else { throw failure(path) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw .file(path: path, reason: "is no file")
        }
        if isKey {
            guard status.st_uid == geteuid() else {
                throw .exposedKey(
                    path: path, reason: "belongs to user \(status.st_uid): chown it")
            }
            guard status.st_mode & 0o077 == 0 else {
                throw .exposedKey(
                    path: path, reason: "others may use it: give it the mode 0600 (chmod)")
            }
        }
        guard status.st_size <= keyOctetsMaximum * (isKey ? 1 : 64) else {
            throw .file(path: path, reason: "is too large")
        }
        var octets = [UInt8](repeating: 0, count: Int(status.st_size))
        var filled = 0
        while filled < octets.count {
            let count = octets.withUnsafeMutableBytes {
                let rest = UnsafeMutableRawBufferPointer(rebasing: $0[filled...])
                return Glibc.read(file, rest.baseAddress, rest.count)
            }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failure(path) }
            guard count > 0 else { break }
            filled += count
        }
        octets.removeLast(octets.count - filled)
        guard !octets.isEmpty else { throw .file(path: path, reason: "is empty") }
        return octets
    }

    private static func wipe(_ octets: UnsafeMutableRawBufferPointer) {
        if let base = octets.baseAddress { Crypto.wipe(base, count: octets.count) }
    }

    private static func failure(_ path: String) -> EtcdError {
        .file(path: path, reason: String(cString: strerror(errno)))
    }
}
