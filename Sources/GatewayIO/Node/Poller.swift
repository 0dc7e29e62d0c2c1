// Waiting for many files at once (epoll(7)), and for signals as for a file (signalfd(2)).

internal import CLinux
internal import Glibc

/// Descriptors that somebody waits for.
final class Poller {
    private static let eventsMaximum = 64
    private let descriptor: FileDescriptor
    private var events = [epoll_event](repeating: epoll_event(), count: eventsMaximum)

    init() throws(NodeError) {
        let number = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard number >= 0 else { throw .last("making an epoll file") }
        descriptor = FileDescriptor(number)
    }

    /// Waits for octets to read, and for room to write if `writes`. A second call for the same file
    /// changes what is waited for.
    func watch(_ file: FileDescriptor, writes: Bool = false) {
        watch(number: file.number, writes: writes)
    }

    /// The same for a file that somebody else closes.
    func watch(number: Int32, writes: Bool = false) {
        var event = epoll_event()
        event.events = EPOLLIN.rawValue | (writes ? EPOLLOUT.rawValue : 0)
        event.data.fd = number
        if epoll_ctl(descriptor.number, EPOLL_CTL_ADD, number, &event) != 0 {
            _ = epoll_ctl(descriptor.number, EPOLL_CTL_MOD, number, &event)
        }
    }

    /// The numbers of files that are ready, after at most so many milliseconds; -1: without end.
    func wait(milliseconds: Int32) -> [Int32] {
        let count = epoll_wait(
            descriptor.number, &events, Int32(Self.eventsMaximum), milliseconds)
        return count > 0 ? events[..<Int(count)].map(\.data.fd) : []
    }
}

/// Signals that end or wake the node, read in its turn instead of in between.
final class SignalQueue {
    let descriptor: FileDescriptor

    /// From now on these come here. Other threads must not have been started before.
    init() throws(NodeError) {
        var set = sigset_t()
        sigemptyset(&set)
        for number in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&set, number) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
        signal(SIGPIPE, SIG_IGN)
        let number = signalfd(
            -1, &set, Int32(SFD_NONBLOCK) | Int32(SFD_CLOEXEC))
        guard number >= 0 else { throw .last("making a file for signals") }
        descriptor = FileDescriptor(number)
    }

    /// The next signal that came; nil: none.
    func next() -> Int32? {
        var information = signalfd_siginfo()
        let size = MemoryLayout<signalfd_siginfo>.size
        guard read(descriptor.number, &information, size) == size else { return nil }
        return Int32(information.ssi_signo)
    }
}
