// Virtual addresses in the Configuration payload (RFC 7296 §2.19, §3.15).

internal import Wire

extension Configuration {
    /// An initiator's wish for an address of each family, and for name servers.
    static let addressRequest = Configuration(
        .request,
        [
            Attribute(.ip4Address), Attribute(.ip6Address), Attribute(.ip4DNS),
            Attribute(.ip6DNS),
        ])

    func asksForAddress(_ family: IPAddress.Family) -> Bool {
        asks(for: family == .v4 ? .ip4Address : .ip6Address)
    }

    /// The responder's gift.
    static func addressReply(
        _ addresses: [IPAddress], nameServers: [IPAddress]
    ) -> Configuration {
        Configuration(
            .reply, addresses.map { .address($0) } + nameServers.map { .dns($0) })
    }

    /// The addresses of a reply.
    var addresses: [IPAddress] { ip4Addresses + ip6Addresses.map(\.address) }
}
