// Reading packets at the very end of memory that may be read: one octet too far is a trap.

import Glibc
import Wire

/// Lends `bytes` right before a page that can't be read.
func withGuarded<Result>(_ bytes: [UInt8], _ body: (UnsafeRawPointer) -> Result) -> Result {
    let page = 4096
    let length = (bytes.count + page - 1) / page * page + page
    guard
        let map = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
        map != MAP_FAILED, mprotect(map + length - page, page, PROT_NONE) == 0
    else { preconditionFailure("no memory") }
    defer { munmap(map, length) }
    let start = map + length - page - bytes.count
    start.copyMemory(from: bytes, byteCount: bytes.count)
    return body(UnsafeRawPointer(start))
}

/// Parses; an error becomes a value.
func parse(_ bytes: [UInt8]) -> Swift.Result<IPPacket, IPPacketError> {
    withGuarded(bytes) { base in
        do throws(IPPacketError) {
            return .success(try IPPacket(at: base, count: bytes.count))
        } catch {
            return .failure(error)
        }
    }
}

func classify(_ bytes: [UInt8]) -> OuterPacket {
    withGuarded(bytes) { OuterPacket.classify(at: $0, count: bytes.count) }
}
