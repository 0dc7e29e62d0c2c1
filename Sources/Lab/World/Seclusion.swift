// How a lab leaves no trace, whatever ends it. Everything it starts lives below one process, which
// is the first of a PID namespace and dies with the program that the user started: the kernel then
// kills all others. Networks, mounts and files belong to namespaces and file systems that only
// these processes hold.
//
//     spindle lab            the user's; makes the PID namespace, prints, writes the report
//     └── spindle lab-director    first process in there; own mounts, network, /proc, /run
//         ├── ip netns exec n1 spindle node …
//         └── …

internal import CLinux
internal import Foundation
internal import Glibc

/// Both sides of the wall around a lab.
enum Seclusion {
    /// Where the director writes its result to.
    static let resultDescriptor: Int32 = 3
    /// The files of the lab, gone with its mounts.
    static let folder = "/run/lab"

    // MARK: Outside

    /// Starts a program as the first process of a PID namespace, and returns what it wrote to
    /// ``resultDescriptor`` before it ended, and its exit code (nil: a signal ended it).
    static func run(
        _ program: String, _ arguments: [String]
    ) throws(LabError) -> (result: Data, code: Int32?) {
        guard geteuid() == 0 else {
            throw LabError("a lab makes network namespaces: run it as root")
        }
        unblockSignals()
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw LabError("a pipe: \(lastSystemError())") }
        _ = fcntl(ends[0], F_SETFD, FD_CLOEXEC)
        guard clinux_unshare(Int32(CLINUX_NEW_PROCESSES)) == 0 else {
            throw LabError(
                "making a PID namespace: \(lastSystemError()): a lab needs CAP_SYS_ADMIN, which "
                    + "containers often lack")
        }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[1], resultDescriptor)
        if ends[1] != resultDescriptor { _ = fcntl(ends[1], F_SETFD, FD_CLOEXEC) }
        let process = try spawn(program, arguments, environment: [:], &actions)
        close(ends[1])
        let handle = FileHandle(fileDescriptor: ends[0], closeOnDealloc: true)
        let result = (try? handle.readToEnd()) ?? Data()
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
        return (result, status & 0x7F == 0 ? status >> 8 & 0xFF : nil)
    }

    /// Who starts a program from a thread that blocks signals hands that on: nothing could end the
    /// lab but SIGKILL.
    private static func unblockSignals() {
        var signals = sigset_t()
        sigemptyset(&signals)
        for number in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] { sigaddset(&signals, number) }
        pthread_sigmask(SIG_UNBLOCK, &signals, nil)
    }

    // MARK: Inside

    /// Shuts the calling process in: it is the first of its PID namespace, and has not started
    /// any thread. From here on ``folder`` is there, and empty.
    static func enter() throws(LabError) {
        guard getpid() == 1 else {
            throw LabError("lab-director is a part of spindle lab: run that")
        }
        _ = fcntl(resultDescriptor, F_SETFD, FD_CLOEXEC)
        clinux_die_with_parent()
        // It may have gone before that: then nobody holds the pipe's other end.
        var end = pollfd(fd: resultDescriptor, events: Int16(POLLOUT), revents: 0)
        guard poll(&end, 1, 0) >= 0, end.revents & Int16(POLLERR) == 0 else { exit(1) }
        guard clinux_unshare(Int32(CLINUX_NEW_MOUNTS | CLINUX_NEW_NETWORK)) == 0,
            clinux_keep_mounts_private() == 0,
            mount("proc", "/proc", "proc", UInt(MS_NOSUID | MS_NODEV), nil) == 0,
            mount("tmpfs", "/run", "tmpfs", 0, "mode=0755") == 0,
            mkdir(folder, 0o700) == 0
        else { throw LabError("making the lab's namespaces: \(lastSystemError())") }
    }
}

/// Starts a program with empty signal masks and the usual reaction to signals.
func spawn(
    _ program: String, _ arguments: [String], environment: [String: String],
    _ actions: inout posix_spawn_file_actions_t
) throws(LabError) -> pid_t {
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    var usual = sigset_t()
    sigfillset(&usual)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &usual)
    posix_spawnattr_setflags(
        &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
    let variables = ProcessInfo.processInfo.environment
        .merging(["LC_ALL": "C.UTF-8", "SWIFT_BACKTRACE": "enable=no"]) { $1 }
        .merging(environment) { $1 }
        .map { "\($0)=\($1)" }
    var words: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
    var settings: [UnsafeMutablePointer<CChar>?] = variables.map { strdup($0) } + [nil]
    defer { for text in words + settings { free(text) } }
    var process: pid_t = 0
    let failure = posix_spawnp(&process, program, &actions, &attributes, &words, &settings)
    guard failure == 0 else {
        throw LabError("\(program): \(String(cString: strerror(failure)))")
    }
    return process
}
