// Bytes from files.

import Foundation
import GatewayIO
import Verification
import ESP
import Wire

func associationFile(_ bytes: UnsafeRawBufferPointer) {
    guard let file = try? AssociationFile(json: Array(bytes), name: "fuzz") else { return }
    for entry in file.entries {
        _ = try? entry.association(direction: .inbound, createdNanoseconds: 0)
    }
    _ = try? file.requireUnambiguousSelectors(for: .outbound)
}

/// Up to the first octet that is 0 the configuration; what follows is in every file that it names.
func nodeConfiguration(_ bytes: UnsafeRawBufferPointer) {
    let parts = bytes.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
    let named = parts.count > 1 ? Array(parts[1]) : []
    do throws(ConfigurationFaults) {
        let file = try NodeConfigurationFile.parse(
            text: Array(parts[0]), name: "fuzz", seconds: 1_795_000_000
        ) { _ throws(NamedFileError) in named }
        precondition(!file.configuration.explanation().isEmpty)
    } catch {
        precondition(!error.faults.isEmpty)
        for fault in error.faults {
            precondition(fault.line > 0)
            let line = "\(fault)"
            precondition(
                line.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control })
        }
    }
}

func selectorText(_ bytes: UnsafeRawBufferPointer) {
    let text = String(decoding: bytes, as: UTF8.self)
    if let address = IPAddress(text) {
        precondition(IPAddress(address.description) == address)
    }
    _ = try? TrafficSelector(parsing: text)
}

/// Readers that take a path get a file in memory.
final class FileTarget {
    private let path: String

    init(suffix: String) {
        path = "/dev/shm/spindle-fuzz-\(ProcessInfo.processInfo.processIdentifier).\(suffix)"
    }

    private func write(_ bytes: UnsafeRawBufferPointer) {
        precondition(FileManager.default.createFile(atPath: path, contents: Data(bytes)))
    }

    func capture(_ bytes: UnsafeRawBufferPointer) {
        write(bytes)
        guard var reader = try? CaptureReader(path: path) else { return }
        var frame: [UInt8] = []
        do {
            while try reader.next(into: &frame) != nil {
                frame.withUnsafeBytes { _ = reader.linkType.networkPacket(in: $0) }
            }
        } catch {}
    }

    func vectors(_ bytes: UnsafeRawBufferPointer) {
        write(bytes)
        guard let verifier = try? Verifier() else { return }
        _ = verifier.verify(paths: [path])
    }
}
