// Hands the bytes of libFuzzer to a target. One program holds all targets; SPINDLE_FUZZ_TARGET
// names the one to run (scripts/fuzz sets it), so that the libraries are built and instrumented
// once.

import CFuzzer
import Foundation

/// What a target does with bytes: anything but trap, leak or hang.
typealias Target = (UnsafeRawBufferPointer) -> Void

private let targets: [String: @Sendable () -> Target] = [
    "outer-packet": { outerPacket },
    "link-layer": { linkLayer },
    "fragments": { fragments },
    "segment-frame": { SegmentTarget().frame },
    "icmp-error": { icmpError },
    "decapsulate": { EngineTarget().decapsulate },
    "decrypted-body": { EngineTarget().decryptedBody },
    "encapsulate": { EngineTarget().encapsulate },
    "capture": { FileTarget(suffix: "pcap").capture },
    "association-file": { associationFile },
    "selector-text": { selectorText },
    "node-config": { nodeConfiguration },
    "vector-json": { FileTarget(suffix: "json").vectors },
    "vector-rsp": { FileTarget(suffix: "rsp").vectors },
    "ha-message": { LinkTarget().message },
    "cluster-record": { RecordTarget().record },
    "ike-message": { ikeMessage },
    "ike-inner": { ikeInner },
    "certificate": { certificate },
    "distinguished-name": { distinguishedName },
    "algorithm-identifier": { algorithmIdentifier },
    "ike-state": { StateTarget().state },
    "ike-machine": { ikeMachine },
    "etcd-answer": { etcdAnswer },
]

private nonisolated(unsafe) let target: Target = {
    let name = ProcessInfo.processInfo.environment["SPINDLE_FUZZ_TARGET"] ?? ""
    guard let make = targets[name] else {
        print("SPINDLE_FUZZ_TARGET must be one of: " + targets.keys.sorted().joined(separator: " "))
        exit(2)
    }
    return make()
}()

/// One input. libFuzzer's library wants this very name.
@c(LLVMFuzzerTestOneInput)
public func testOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
    target(UnsafeRawBufferPointer(start: data, count: size))
    return 0
}

/// The entry point by the name that SwiftPM gives it.
@c(fuzz_main)
public func fuzzMain(
    _ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> CInt {
    var count = count
    var arguments = arguments
    return LLVMFuzzerRunDriver(&count, &arguments) { testOneInput($0, $1) }
}
