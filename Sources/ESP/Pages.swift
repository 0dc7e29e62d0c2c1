// Large arrays whose memory is taken from the system only where it is touched.

import Glibc

/// Zeroed, 64-aligned memory for `count` elements of a trivial type whose zero bits are valid.
/// Untouched pages cost nothing; large arrays ask for huge pages, which saves TLB misses on random
/// access. `isResident` touches all of it now, so that no page fault comes later.
/// Traps when the address space is used up.
func zeroedPages<Element>(
    _ type: Element.Type, count: Int, isResident: Bool = false
) -> UnsafeMutablePointer<Element> {
    let bytes = pagesBytes(type, count: count)
    let map = mmap(
        nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let map, map != MAP_FAILED else {
        preconditionFailure("no address space for \(bytes) bytes")
    }
    if bytes >= 1 << 21 { madvise(map, bytes, MADV_HUGEPAGE) }
    if isResident { madvise(map, bytes, populateWrite) }
    map.storeBytes(of: bytes, as: Int.self)
    return (map + pagesHeaderBytes).bindMemory(to: type, capacity: count)
}

/// Gives back what `zeroedPages` returned.
func freePages<Element>(_ pages: UnsafeMutablePointer<Element>) {
    let map = UnsafeMutableRawPointer(pages) - pagesHeaderBytes
    munmap(map, map.load(as: Int.self))
}

/// MADV_POPULATE_WRITE of Linux 5.14, which glibc's headers don't all name. An older kernel refuses
/// it, and pages are taken at their first use.
private let populateWrite: Int32 = 23

/// One cache line in front remembers the length of the mapping.
private let pagesHeaderBytes = 64

private func pagesBytes<Element>(_ type: Element.Type, count: Int) -> Int {
    let (bytes, isTooLarge) = count.multipliedReportingOverflow(by: MemoryLayout<Element>.stride)
    precondition(!isTooLarge && bytes < Int.max / 2, "array too large")
    return (bytes + pagesHeaderBytes + 4095) & ~4095
}
