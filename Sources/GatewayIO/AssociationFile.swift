// A file of manually keyed associations: the `esp` array of a JSON object. The fields are listed in
// docs/association-file.schema.json; each element is read by `AssociationEntry`.

internal import ESP
internal import Wire

/// The associations of one file, with every field checked.
public struct AssociationFile {
    /// Larger files are refused.
    public static let bytesMaximum = TextFile.bytesMaximum

    /// At least one, no two of them with the same SPI.
    public let entries: [AssociationEntry]
    /// The file, as the caller named it.
    public let name: String

    /// Reads a file. The error names the file, the place in it, and what to do.
    public init(path: String) throws(AssociationFileError) {
        var octets = try TextFile.read(path: path)
        // They hold keys. By now nobody shares them, so that no copy is made for this.
        defer { octets.withUnsafeMutableBytes(TextFile.wipe) }
        try self.init(json: octets, name: path)
    }

    /// Reads JSON from memory; `name` stands for the file in errors.
    public init(json: [UInt8], name: String) throws(AssociationFileError) {
        guard json.count <= Self.bytesMaximum else {
            throw AssociationFileError(
                .tooLarge, file: name,
                text: "more than \(Self.bytesMaximum >> 20) MiB: split the file")
        }
        let value: JSONValue
        do throws(JSONSyntaxError) {
            value = try JSONReader.parse(json)
        } catch {
            throw AssociationFileError(error, file: name)
        }
        try self.init(value: value, name: name)
    }

    /// Takes the `esp` array of a parsed file; what stands beside it is not looked at.
    package init(value: JSONValue, name: String) throws(AssociationFileError) {
        self.name = name
        do throws(FieldError) {
            entries = try Self.readEntries(value)
        } catch {
            throw AssociationFileError(error, file: name)
        }
    }

    private static func readEntries(_ value: JSONValue) throws(FieldError) -> [AssociationEntry] {
        guard case .object = value else {
            throw FieldError(
                .wrongType, "",
                "\(value.kind) where an object with an \"esp\" array is expected: write "
                    + "{\"esp\": [{…}, …]}")
        }
        let elements = try JSONView(value, place: "").array("esp")
        guard !elements.isEmpty else {
            throw FieldError(.noAssociation, "esp", "no association: add at least one")
        }
        var entries: [AssociationEntry] = []
        var indices: [SPI: Int] = [:]
        for (index, element) in elements.enumerated() {
            let entry = try AssociationEntry(JSONView(element, place: "esp[\(index)]"))
            // Also with another destination: a packet is distributed, and its association found,
            // by the SPI alone, as RFC 4301 §4.1 allows for unicast.
            if let other = indices.updateValue(index, forKey: entry.spi) {
                throw FieldError(
                    .duplicateSPI, "esp[\(index)].spi",
                    "\(entry.spi) is the SPI of esp[\(other)] too: the cluster finds associations "
                        + "by SPI alone (RFC 4301 §4.1), so give each its own, even for "
                        + "different destinations")
            }
            entries.append(entry)
        }
        return entries
    }
}
