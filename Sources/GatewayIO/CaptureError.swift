// Everything that can go wrong with a capture file, with the text that a user reads.

internal import Glibc
internal import Wire

/// Why a capture file could not be read or written, and up to which packet it could.
public struct CaptureError: Error, Hashable, Sendable {
    /// The file, as the caller named it.
    public let path: String

    /// The packet that could not be read or written, numbered from 1 as Wireshark does; nil if
    /// the trouble lies in the file as a whole. All packets before it are good.
    public let packetNumber: Int?

    /// What went wrong.
    public let reason: Reason

    /// What can go wrong with a capture file.
    public enum Reason: Hashable, Sendable {
        /// There is no such file, or no such directory to write it into.
        case notFound
        /// The path names a directory.
        case isDirectory
        /// The system refused; its error number.
        case system(errno: Int32)
        /// The file has no bytes.
        case empty
        /// Neither pcap nor pcapng.
        case notCapture
        /// A capture in a compressed file.
        case compressed
        /// The file ends in the middle of its header or of a packet.
        case truncated
        /// The file contradicts its format; libpcap's words.
        case malformed(String)
        /// The frames are of a kind that ``LinkType`` does not know; libpcap's name and number.
        case linkTypeUnsupported(String, number: Int)
        /// A pcapng file of several interfaces with different link types.
        case linkTypesDiffer
        /// A pcapng file of several interfaces with different snapshot lengths.
        case snapshotLengthsDiffer
        /// A time outside of 1970…2106 does not fit into pcap.
        case timestampOutOfRange
        /// A packet longer than pcap readers accept.
        case packetTooLong(bytes: Int)
    }

    init(_ reason: Reason, path: String, packetNumber: Int? = nil) {
        self.reason = reason
        self.path = path
        self.packetNumber = packetNumber
    }
}

extension CaptureError: CustomStringConvertible {
    /// One line: the file, the packet if there is one, what is wrong, and what to do about it.
    public var description: String {
        // A name may hold line breaks or terminal controls; quoted and escaped, it cannot act.
        let isPlain = path.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control }
        let place = packetNumber.map { ": packet \($0)" } ?? ""
        return "\(isPlain ? path : path.debugDescription)\(place): \(reason)"
    }
}

extension CaptureError.Reason: CustomStringConvertible {
    /// What is wrong and what to do about it, without the file.
    public var description: String {
        switch self {
        case .notFound: "no such file or directory: check the path"
        case .isDirectory: "is a directory: name a file in it"
        case .system(let number):
            "\(String(cString: strerror(number))): check permissions and free space"
        case .empty: "the file is empty: capture again"
        case .notCapture:
            "not a pcap or pcapng capture: convert other formats with 'editcap -F pcap IN OUT'"
        case .compressed: "the capture is compressed: unpack it first, as with gunzip or unzstd"
        case .truncated:
            "the file ends in the middle: copy it again, or keep the packets before this point "
                + "with 'editcap IN OUT'"
        case .malformed(let text):
            "damaged (\(text)): copy the file again, or repair it with 'editcap IN OUT'"
        case .linkTypeUnsupported(let name, let number):
            "link type \(name) (\(number)) is not supported: capture one of "
                + LinkType.allCases.map(\.description).joined(separator: ", ")
                + ", or correct a wrong label with 'editcap -T ether IN OUT'"
        case .linkTypesDiffer:
            "interfaces of different link types in one file: capture each into a file of its own"
        case .snapshotLengthsDiffer:
            "interfaces of different snapshot lengths in one file: "
                + "even them out with 'editcap -F pcap IN OUT'"
        case .timestampOutOfRange:
            "its time does not fit into pcap, which ends in 2106: correct it with 'editcap -t'"
        case .packetTooLong(let bytes):
            "\(bytes) bytes are too long for a pcap record "
                + "of at most \(CaptureWriter.packetBytesMax): leave the packet out"
        }
    }
}
