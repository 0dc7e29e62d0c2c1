// The keys of an association for whoever must show them: an operator who asked for them.

internal import Crypto

extension SecurityAssociation {
    /// Lends the octets: cipher key, then integrity key, then salt. Whatever is copied out of them
    /// is not wiped any more.
    public borrowing func withSecret<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        secret.withUnsafeBytes(body)
    }
}
