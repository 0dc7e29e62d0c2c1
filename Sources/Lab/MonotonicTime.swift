// The clock that all stations and the director share.

internal import Glibc

/// Nanoseconds of the kernel's monotonic clock.
func monotonicNanoseconds() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}

/// Words for what the kernel refused last.
func lastSystemError() -> String { String(cString: strerror(errno)) }
