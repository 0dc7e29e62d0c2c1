// An open file of the kernel's that closes itself.

internal import Glibc

/// A descriptor with one owner.
final class FileDescriptor: Sendable {
    let number: Int32

    /// Takes over an open descriptor.
    init(_ number: Int32) { self.number = number }

    deinit { close(number) }
}
