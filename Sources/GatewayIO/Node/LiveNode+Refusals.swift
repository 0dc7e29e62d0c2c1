// Why a command of an operator can't be carried out.

internal import Gateway
internal import IKEStub
internal import Wire

extension LiveNode {
    private static let namesMaximum = 20

    /// No connection has the name.
    func unknownConnection(_ name: String) -> String {
        let names = (member.gateway.ikeConfiguration?.connections ?? []).map(\.name)
        guard !names.isEmpty else { return "no connection is configured" }
        let rest = names.count - Self.namesMaximum
        let more = rest > 0 ? " and \(rest) more" : ""
        return "no connection is named \(quoted(name)): choose one of "
            + names.prefix(Self.namesMaximum).joined(separator: ", ") + more
    }

    /// No IKE SA is what a request is about.
    func absence(_ request: ControlRequest) -> String {
        if let spi = request.spi {
            guard spi.utf8.count == 16, UInt64(spi, radix: 16) != nil else {
                return "\(quoted(spi)) is no SPI: write its 16 hexadecimal digits, as spindle "
                    + "list shows them"
            }
            if manual.keys.contains(where: { spi == "00000000" + $0.description }) {
                return handKeyed(spi)
            }
            return "no IKE SA has the SPI \(spi): choose one that spindle list shows"
        }
        let name = request.connection ?? ""
        let connections = member.gateway.ikeConfiguration?.connections ?? []
        if connections.contains(where: { $0.name == name }) {
            return "\(name) has no IKE SA: spindle list shows who has"
        }
        return manual.values.contains(name) ? handKeyed(name) : unknownConnection(name)
    }

    private func handKeyed(_ name: String) -> String {
        "\(quoted(name)) is keyed by hand and has no IKE SA: it lives until the node starts again "
            + "without it in its associations"
    }

    /// Peers reach an address only when a device has it. It may come later: so it is no error.
    func warnOfAbsentAddresses() {
        for address in configuration.addresses where !address.isOfThisHost {
            let length = address.family == .v4 ? 32 : 128
            // Members of a cluster answer for its addresses; their hosts only take what comes.
            let (device, hint) =
                cluster == nil ? ("DEVICE", " with the device toward the peers") : ("lo", "")
            log(
                .warning,
                "this host does not have the address \(address), so that no peer can reach it: "
                    + "correct node.addresses, or type `ip address add \(address)/\(length) dev "
                    + "\(device)`\(hint)")
        }
    }
}
