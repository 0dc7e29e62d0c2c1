// IKE messages, in the clear and decrypted.

import IKEStub

/// Whatever is read must be read alike after it was written.
func ikeMessage(_ bytes: UnsafeRawBufferPointer) {
    guard let parsed = try? IKEMessage.read(bytes) else { return }
    guard parsed.protected == nil else { return }
    let message = parsed.message
    message.encoded().withUnsafeBytes { octets in
        precondition((try? IKEMessage.read(octets))?.message == message)
    }
}

/// The first octet is the type of the first payload.
func ikeInner(_ bytes: UnsafeRawBufferPointer) {
    guard let first = bytes.first else { return }
    let content = UnsafeRawBufferPointer(rebasing: bytes[1...])
    guard let payloads = try? Payload.readChain(content, first: first) else { return }
    Payload.chain(payloads).withUnsafeBytes { octets in
        precondition((try? Payload.readChain(octets, first: first)) == payloads)
    }
    for payload in payloads {
        guard case .configuration(let configuration) = payload else { continue }
        _ = configuration.ip4Addresses.count + configuration.ip6Addresses.count
        _ = configuration.subnets.count + configuration.dnsServers.count
        _ = configuration.supportedAttributes.count + (configuration.ip4PrefixLength ?? 0)
        _ = configuration.applicationVersion?.isEmpty
    }
}
