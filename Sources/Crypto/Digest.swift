// Hashes of whole messages, for signatures' inputs and NAT detection. The packet path has
// `KeyedContext`.

internal import COpenSSL

extension Hash {
    /// The hash of `parts` one behind the other (FIPS 180-4).
    public func digest(_ parts: UnsafeRawBufferPointer...) -> [UInt8] {
        var output = [UInt8](repeating: 0, count: outputBytes)
        guard let digest = EVP_MD_fetch(nil, name, nil) else {
            preconditionFailure("OpenSSL's default provider has no \(name)")
        }
        defer { EVP_MD_free(digest) }
        guard let context = EVP_MD_CTX_new() else { preconditionFailure("no memory for a hash") }
        defer { EVP_MD_CTX_free(context) }
        var isDone = EVP_DigestInit_ex2(context, digest, nil) == 1
        for part in parts where !part.isEmpty {
            isDone = isDone && EVP_DigestUpdate(context, part.baseAddress, part.count) == 1
        }
        isDone = isDone && EVP_DigestFinal_ex(context, &output, nil) == 1
        precondition(isDone, "hashing fails only without memory")
        return output
    }
}
