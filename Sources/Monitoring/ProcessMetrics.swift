// What the operating system knows of this process, under the names that every Prometheus client
// uses.

internal import Glibc

enum ProcessMetrics {
    static func all() -> [Metric] {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        var processor = Metric(
            "process_cpu_seconds_total", .counter, "Processor time of all threads.")
        processor.add(
            nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
        guard let bytes = residentBytes() else { return [processor] }
        return [
            processor,
            .one("process_resident_memory_bytes", .gauge, "Resident memory.", bytes),
        ]
    }

    /// The second number of `statm`, in pages (proc(5)).
    private static func residentBytes() -> UInt64? {
        let file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var octets = [UInt8](repeating: 0, count: 128)
        let count = read(file, &octets, octets.count)
        guard count > 0 else { return nil }
        let fields = octets[..<count].split(separator: UInt8(ascii: " "))
        guard fields.count > 1, let pages = UInt64(String(decoding: fields[1], as: UTF8.self))
        else { return nil }
        return pages * UInt64(sysconf(Int32(_SC_PAGESIZE)))
    }
}
