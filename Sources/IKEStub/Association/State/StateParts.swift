// The small parts of an IKE SA's state: addresses, algorithms, identities, selectors.

internal import Crypto
internal import ESP
internal import Wire

extension StateWriter {
    mutating func put(_ address: IPAddress) {
        put(UInt8(address.family == .v4 ? 4 : 6))
        put(address.octets)
    }

    mutating func put(_ path: IKEPath) {
        put(path.local)
        put(path.localPort)
        put(path.remote)
        put(path.remotePort)
        put(path.hasMarker)
    }

    mutating func put(_ transform: Transform) {
        put(transform.encryption.number)
        put(UInt16(transform.keyBits))
        put(transform.integrity?.number ?? 0)
    }

    mutating func put(_ suite: IKESuite) {
        put(suite.protection.transform)
        put(suite.function.number)
        put(suite.group.rawValue)
    }

    mutating func put(_ suite: ChildSuite) {
        put(suite.transform)
        put(suite.usesESN)
        put(suite.group?.rawValue ?? 0)
    }

    mutating func put(_ identity: Identity) {
        put(identity.type)
        putCounted(identity.data)
    }

    mutating func put(_ selectors: [TrafficSelector]) {
        put(selectors) { writer, selector in
            writer.put(selector.first)
            writer.put(selector.last)
            writer.put(selector.ipProtocol)
            writer.put(selector.firstPort)
            writer.put(selector.lastPort)
        }
    }

    mutating func put(_ spis: [SPI]) { put(spis) { $0.put($1.value) } }

    mutating func put(_ agreement: borrowing KeyAgreement) {
        put(agreement.group.rawValue)
        put(agreement.privateKey())
    }

    mutating func put(_ keys: borrowing IKEKeys) {
        put(keys.derivation)
        put(keys.initiatorIntegrity)
        put(keys.responderIntegrity)
        put(keys.initiatorEncryption)
        put(keys.responderEncryption)
        put(keys.initiatorAuthentication)
        put(keys.responderAuthentication)
    }
}

extension StateReader {
    mutating func address() throws(IKEStateFault) -> IPAddress {
        let place = offset
        let family = try next(UInt8.self)
        switch family {
        case 4: return IPAddress(v4: try next())
        case 6: return IPAddress(high: try next(), low: try next())
        default: throw .malformed(.address, at: place)
        }
    }

    mutating func path() throws(IKEStateFault) -> IKEPath {
        let place = offset
        let local = try address()
        let localPort = try next(UInt16.self)
        let remote = try address()
        let path = IKEPath(
            local: local, localPort: localPort, remote: remote, remotePort: try next(),
            hasMarker: try flag())
        try require(local.family == remote.family, .path, at: place)
        return path
    }

    mutating func transform() throws(IKEStateFault) -> Transform {
        let place = offset
        let cipher = try one(.suite) { number in
            EncryptionAlgorithm.allCases.first { $0.number == number }
        }
        let bits = Int(try next(UInt16.self))
        let integrity = try next(UInt16.self)
        let algorithm = IntegrityAlgorithm.allCases.first { $0.number == integrity }
        guard integrity == 0 || algorithm != nil,
            let transform = try? Transform(cipher, keyBits: bits, integrity: algorithm)
        else { throw .malformed(.suite, at: place) }
        return transform
    }

    mutating func suite() throws(IKEStateFault) -> IKESuite {
        let place = offset
        let transform = try transform()
        let suite = MessageSuite(
            transform.encryption, keyBits: transform.keyBits, integrity: transform.integrity)
        guard let suite else { throw .malformed(.suite, at: place) }
        let function = try one(.suite) { number in
            PseudoRandomFunction.allCases.first { $0.number == number }
        }
        return IKESuite(
            protection: suite, function: function,
            group: try one(.suite) { KeyAgreementGroup(rawValue: $0) })
    }

    mutating func childSuite() throws(IKEStateFault) -> ChildSuite {
        let transform = try transform()
        let usesESN = try flag()
        let group = try one(.suite) { number -> KeyAgreementGroup?? in
            number == 0 ? .some(nil) : KeyAgreementGroup(rawValue: number).map { $0 }
        }
        return ChildSuite(transform: transform, usesESN: usesESN, group: group)
    }

    mutating func identity() throws(IKEStateFault) -> Identity {
        let place = offset
        let type = try next(UInt8.self)
        guard let identity = Identity(type: type, data: try counted()) else {
            throw .malformed(.identity, at: place)
        }
        return identity
    }

    /// One at least, and no more than a payload holds.
    mutating func selectors() throws(IKEStateFault) -> [TrafficSelector] {
        let place = offset
        let list = try list { reader throws(IKEStateFault) -> TrafficSelector in
            let place = reader.offset
            let selector = TrafficSelector(
                first: try reader.address(), last: try reader.address(),
                ipProtocol: try reader.next(), firstPort: try reader.next(),
                lastPort: try reader.next())
            guard let selector else { throw .malformed(.selectors, at: place) }
            return selector
        }
        try require(
            (1...AssociationSelectors.listMaximum).contains(list.count), .selectors, at: place)
        return list
    }

    mutating func spi() throws(IKEStateFault) -> SPI { SPI(try next()) }

    mutating func spis() throws(IKEStateFault) -> [SPI] {
        try list { reader throws(IKEStateFault) in try reader.spi() }
    }

    mutating func agreement() throws(IKEStateFault) -> KeyAgreement {
        let place = offset
        let group = try one(.privateKey) { KeyAgreementGroup(rawValue: $0) }
        let key = try secret(group.privateBytes)
        do {
            return try KeyAgreement(group, privateKey: key)
        } catch {
            throw .malformed(.privateKey, at: place)
        }
    }

    mutating func keys(_ suite: IKESuite) throws(IKEStateFault) -> IKEKeys {
        let lengths = suite.protection.keyLengths
        let prfBytes = suite.function.byteCount
        let stream = try secret(3 * prfBytes + 2 * (lengths.integrity + lengths.encryption))
        return IKEKeys(cutting: stream, lengths, prfBytes: prfBytes)
    }
}
