// Distinguished names (X.501) of certificates, and of identities that are configured as text.

internal import COpenSSL

/// Why a text or a sequence of octets is no distinguished name.
public enum DistinguishedNameFault: Error, Equatable, CustomStringConvertible {
    /// The octets are not the DER of one Name.
    case notDER
    /// The text has no attribute.
    case empty
    /// A part of the text is not `type=value`, or has a quote or backslash without its end.
    case malformed(String)
    /// An attribute type that has no such name.
    case unknownAttribute(String)
    /// A value that the attribute can't have: too long or short, or characters that it lacks.
    case unfitValue(attribute: String, value: String)

    /// One line: what is wrong.
    public var description: String {
        switch self {
        case .notDER: "the distinguished name is not valid DER"
        case .empty: "the distinguished name is empty; it is written as \"C=CH, O=Lab, CN=gw\""
        case .malformed(let part):
            "\"\(part)\" is no part of a distinguished name, which is written as "
                + "\"C=CH, O=Lab, CN=gw\""
        case .unknownAttribute(let name):
            "\"\(name)\" is no attribute of distinguished names; C, ST, L, O, OU, CN, E, DC, UID "
                + "and dotted numbers are"
        case .unfitValue(let attribute, let value): "\(attribute) can't have the value \"\(value)\""
        }
    }
}

/// A Name in DER, checked.
public struct DistinguishedName: Hashable, Sendable, CustomStringConvertible {
    /// The octets, as they stand in certificates and ID payloads of type ID_DER_ASN1_DN.
    public let der: [UInt8]

    /// Takes the DER of one Name, nothing behind it.
    public init(der: [UInt8]) throws(DistinguishedNameFault) {
        guard let name = X509Name(der: der) else { throw .notDER }
        // What OpenSSL read is kept as it came: `i2d` gives the very octets back.
        self.init(name.pointer)
    }

    /// Reads "C=CH, O=Lab, CN=gw": the order of the DER, as strongSwan writes it (RFC 4514 would
    /// begin with the last). Attributes are separated by commas or semicolons, by plus signs within
    /// one RDN; special characters are escaped as in RFC 4514 §2.4, or the value is put in quotes.
    public init(text: String) throws(DistinguishedNameFault) {
        try self.init(NameParser.attributes(of: text))
    }

    init(_ attributes: [NameAttribute]) throws(DistinguishedNameFault) {
        guard !attributes.isEmpty else { throw .empty }
        guard let name = X509Name() else { throw .notDER }
        for attribute in attributes { try name.append(attribute) }
        self.init(name.pointer)
    }

    /// Copies a name of OpenSSL's.
    init(_ name: OpaquePointer) {
        guard let der = encoding({ i2d_X509_NAME(name, $0) }) else {
            preconditionFailure("a name that was read can be written")
        }
        self.der = der
    }

    /// True for names that X.520 takes as equal: without regard to the types of the strings, to
    /// case, and to the number of spaces (RFC 5280 §7.1).
    public func matches(_ other: DistinguishedName) -> Bool {
        guard let left = X509Name(der: der), let right = X509Name(der: other.der) else {
            preconditionFailure("a name was checked when it was made")
        }
        return X509_NAME_cmp(left.pointer, right.pointer) == 0
    }

    /// The same, but of the attributes at these places, ascending, only the types are compared.
    /// Each is an RDN of its own.
    func matches(_ other: DistinguishedName, withoutValuesAt places: [Int]) -> Bool {
        guard let left = X509Name(der: der), let right = X509Name(der: other.der) else {
            preconditionFailure("a name was checked when it was made")
        }
        let count = X509_NAME_entry_count(left.pointer)
        guard count == X509_NAME_entry_count(right.pointer) else { return false }
        for place in 0..<count {
            let one = X509_NAME_get_entry(left.pointer, place)
            let other = X509_NAME_get_entry(right.pointer, place)
            guard X509_NAME_ENTRY_set(one) == X509_NAME_ENTRY_set(other) else { return false }
        }
        for place in places.reversed() {
            let one = X509_NAME_delete_entry(left.pointer, Int32(place))
            let other = X509_NAME_delete_entry(right.pointer, Int32(place))
            defer {
                X509_NAME_ENTRY_free(one)
                X509_NAME_ENTRY_free(other)
            }
            guard
                OBJ_cmp(X509_NAME_ENTRY_get_object(one), X509_NAME_ENTRY_get_object(other)) == 0
            else { return false }
        }
        return X509_NAME_cmp(left.pointer, right.pointer) == 0
    }

    /// The text that ``init(text:)`` reads.
    public var description: String {
        guard let name = X509Name(der: der), let memory = BIO_new(BIO_s_mem()) else { return "?" }
        defer { BIO_free(memory) }
        let flags =
            UInt(ASN1_STRFLGS_ESC_2253 | ASN1_STRFLGS_ESC_CTRL | ASN1_STRFLGS_UTF8_CONVERT)
            | UInt(XN_FLAG_SEP_CPLUS_SPC | XN_FLAG_FN_SN)
        guard X509_NAME_print_ex(memory, name.pointer, 0, flags) >= 0 else {
            ERR_clear_error()
            return "?"
        }
        return text(in: memory)
    }
}

/// What was printed into OpenSSL's memory.
func text(in memory: OpaquePointer) -> String {
    var start: UnsafeMutablePointer<UInt8>?
    let count = BIO_ctrl(memory, BIO_CTRL_INFO, 0, &start)
    return String(decoding: UnsafeBufferPointer(start: start, count: count), as: UTF8.self)
}

/// OpenSSL's name with one owner.
private struct X509Name: ~Copyable {
    let pointer: OpaquePointer

    init?() {
        guard let pointer = X509_NAME_new() else { return nil }
        self.pointer = pointer
    }

    init?(der: [UInt8]) {
        let name = der.withUnsafeBufferPointer { bytes -> OpaquePointer? in
            var cursor = bytes.baseAddress
            guard let name = d2i_X509_NAME(nil, &cursor, bytes.count) else { return nil }
            if let base = bytes.baseAddress, cursor == base + bytes.count { return name }
            X509_NAME_free(name)
            return nil
        }
        guard let name else {
            ERR_clear_error()
            return nil
        }
        pointer = name
    }

    deinit { X509_NAME_free(pointer) }

    borrowing func append(_ attribute: NameAttribute) throws(DistinguishedNameFault) {
        // OpenSSL would read more than this as dotted numbers, but not print it again.
        let isNamed =
            attribute.type.first?.isNumber == false && OBJ_txt2nid(attribute.type) != NID_undef
        guard isNamed || attribute.isNumeric else {
            ERR_clear_error()
            throw .unknownAttribute(attribute.type)
        }
        // 0 begins an RDN, -1 adds to the one before.
        let isAdded = X509_NAME_add_entry_by_txt(
            pointer, attribute.type, MBSTRING_UTF8, attribute.value, Int32(attribute.value.count),
            -1, attribute.joinsPrevious ? -1 : 0)
        guard isAdded == 1 else {
            ERR_clear_error()
            throw .unfitValue(
                attribute: attribute.type, value: String(decoding: attribute.value, as: UTF8.self))
        }
    }
}
