// Distinguished names of which some values are left open, for configurations that name a family of
// peers.

internal import COpenSSL

/// A distinguished name in which an asterisk stands for any value of its attribute.
public struct DistinguishedNamePattern: Hashable, Sendable, CustomStringConvertible {
    /// The name with a stand-in for each open value.
    private let name: DistinguishedName
    /// Places of the attributes whose values are open, ascending.
    private let open: [Int]
    private let text: String

    /// A value that every attribute type takes, also those that want two characters.
    private static let standIn = Array("xx".utf8)

    /// Reads "C=CH, O=Lab, CN=*", written as for ``DistinguishedName/init(text:)``. An open value
    /// must not stand in an RDN of several attributes, whose order in DER depends on its value.
    public init(text: String) throws(DistinguishedNameFault) {
        let attributes = try NameParser.attributes(of: text)
        var open: [Int] = []
        for (index, attribute) in attributes.enumerated() where attribute.isOpen {
            let isShared =
                attribute.joinsPrevious
                || attributes.dropFirst(index + 1).first?.joinsPrevious == true
            guard !isShared else { throw .malformed("\(attribute.type)=*") }
            open.append(index)
        }
        self.open = open
        self.text = text
        name = try DistinguishedName(
            attributes.map { attribute in
                guard attribute.isOpen else { return attribute }
                return NameAttribute(
                    type: attribute.type, value: Self.standIn, joinsPrevious: false)
            })
    }

    /// False for a pattern that is one name.
    public var hasOpenValues: Bool { !open.isEmpty }

    /// True when `other` has the same attributes in the same order, and equal values
    /// (``DistinguishedName/matches(_:)``) where this pattern has any.
    public func matches(_ other: DistinguishedName) -> Bool {
        name.matches(other, withoutValuesAt: open)
    }

    /// As it was configured.
    public var description: String { text }
}

extension NameAttribute {
    fileprivate var isOpen: Bool { value == [UInt8(ascii: "*")] }
}
