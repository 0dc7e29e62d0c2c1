// One cipher context with its key schedule, one HMAC key, or both: what a crypto engine
// keeps per key. It is re-keyed in place, because that costs a third of making a new one.

internal import COpenSSL

/// How to key a context: algorithms and lengths, no key.
public struct KeyRecipe: Hashable, Sendable {
    /// nil: no encryption (RFC 2410).
    public let cipher: Cipher?
    /// Octets of cipher key.
    public let cipherKeyBytes: Int
    /// Octets of the AEAD tag on the wire; 0 for other ciphers.
    public let tagBytes: Int
    /// nil: no separate MAC.
    public let hash: Hash?
    /// Octets of MAC key; HMAC takes any number.
    public let hashKeyBytes: Int
    /// The direction: CBC's key schedules differ.
    public let encrypts: Bool

    /// Algorithms and lengths; see the properties.
    public init(
        cipher: Cipher?, cipherKeyBytes: Int, tagBytes: Int, hash: Hash?, hashKeyBytes: Int,
        encrypts: Bool
    ) {
        self.cipher = cipher
        self.cipherKeyBytes = cipherKeyBytes
        self.tagBytes = tagBytes
        self.hash = hash
        self.hashKeyBytes = hashKeyBytes
        self.encrypts = encrypts
    }

    var isCCM: Bool {
        switch cipher {
        case .aes128CCM, .aes192CCM, .aes256CCM: true
        default: false
        }
    }
}

/// Where one message lies in memory, as offsets from one base: AAD, IV, data and tag may be spread
/// over the same packet, and data is transformed in place.
public struct MessageLayout {
    /// Authenticated, not encrypted.
    public var aad: UnsafeRawPointer
    /// Octets of AAD.
    public var aadBytes: Int
    /// The whole nonce.
    public var iv: UnsafeRawPointer
    /// Octets of nonce.
    public var ivBytes: Int
    /// Encrypted or decrypted in place.
    public var data: UnsafeMutableRawPointer
    /// Octets of data.
    public var dataBytes: Int
    /// Written by sealing, compared by opening.
    public var tag: UnsafeMutableRawPointer

    /// The parts of one message.
    public init(
        aad: UnsafeRawPointer, aadBytes: Int, iv: UnsafeRawPointer, ivBytes: Int,
        data: UnsafeMutableRawPointer, dataBytes: Int, tag: UnsafeMutableRawPointer
    ) {
        self.aad = aad
        self.aadBytes = aadBytes
        self.iv = iv
        self.ivBytes = ivBytes
        self.data = data
        self.dataBytes = dataBytes
        self.tag = tag
    }
}

/// The longest HMAC output, in octets (SHA-512).
public let maximumHashBytes = 64

/// A context that holds at most one key at a time. All operations work in place, allocate nothing,
/// and answer false only for a wrong tag or a failure inside OpenSSL.
public struct KeyedContext: ~Copyable {
    private var cipher = spindle_keyed()
    private var hmac = spindle_hmac()
    /// Keeps the tables alive that the contexts are freed by.
    private var library: CryptoLibrary?

    /// An empty context: nothing is allocated before the first key.
    public init() {}

    deinit {
        if let table = cipher.cipher, let context = cipher.context {
            table.pointee.free_context(context)
        }
        var hmac = hmac
        spindle_hmac_erase(&hmac)
    }

    /// Wipes and frees the key schedule and the HMAC key.
    public mutating func erase() { self = KeyedContext() }

    /// Takes a new key, re-using the memory when the cipher stays the same. Nothing of the key
    /// before is left.
    ///
    /// `key` holds the cipher key, `hashKey` the MAC key; lengths are the recipe's. CCM's nonce is
    /// the 11 octets of RFC 4309 §4. Throws only when OpenSSL can't allocate.
    public mutating func key(
        _ recipe: KeyRecipe, library: CryptoLibrary, key: UnsafeRawPointer,
        hashKey: UnsafeRawPointer, ccmNonceBytes: Int = 11
    ) throws(CryptoError) {
        if self.library !== library {
            erase()
            self.library = library
        }
        if let name = recipe.cipher {
            let wanted = library.dispatch(for: name)
            // CCM remembers state of its last message across keys; a fresh context is simpler.
            if cipher.cipher != wanted || recipe.isCCM {
                eraseCipher()
                cipher.context = wanted.pointee.new_context(wanted.pointee.provider_context)
                cipher.cipher = wanted
            }
            spindle_keyed_prepare(&cipher, recipe.isCCM ? 1 : 0, recipe.tagBytes)
            let keyed = spindle_cipher_key(
                wanted, cipher.context, recipe.encrypts ? 1 : 0,
                key.assumingMemoryBound(to: UInt8.self), recipe.cipherKeyBytes,
                recipe.isCCM ? ccmNonceBytes : 0, recipe.tagBytes)
            guard cipher.context != nil, keyed == 1 else { throw .operationFailed(name.name) }
        } else {
            eraseCipher()
        }
        guard let hash = recipe.hash else { return eraseMAC() }
        let keyed = spindle_hmac_key(
            &hmac, library.digest(for: hash), hashKey.assumingMemoryBound(to: UInt8.self),
            recipe.hashKeyBytes)
        guard keyed == 1 else { throw .operationFailed(hash.name) }
    }

    /// OpenSSL wipes what it frees.
    private mutating func eraseCipher() {
        if let table = cipher.cipher, let context = cipher.context {
            table.pointee.free_context(context)
        }
        cipher = spindle_keyed()
    }

    private mutating func eraseMAC() { spindle_hmac_erase(&hmac) }

    /// Encrypts `layout.data` and writes the tag. The context must hold an AEAD key.
    public mutating func seal(_ layout: MessageLayout) -> Bool {
        seal(
            aad: layout.aad, layout.aadBytes, iv: layout.iv, layout.ivBytes, data: layout.data,
            layout.dataBytes, tag: layout.tag)
    }

    /// Decrypts `layout.data` and checks the tag; false when it is wrong. The data is overwritten
    /// with unauthenticated plaintext even then: the caller must wipe it.
    public mutating func open(_ layout: MessageLayout) -> Bool {
        open(
            aad: layout.aad, layout.aadBytes, iv: layout.iv, layout.ivBytes, data: layout.data,
            layout.dataBytes, tag: layout.tag)
    }

    /// `seal` with the layout in registers, for the packet path.
    public mutating func seal(
        aad: UnsafeRawPointer, _ aadBytes: Int, iv: UnsafeRawPointer, _ ivBytes: Int,
        data: UnsafeMutableRawPointer, _ dataBytes: Int, tag: UnsafeMutableRawPointer
    ) -> Bool {
        var message = spindle_message(
            aad: aad.assumingMemoryBound(to: UInt8.self), aad_length: aadBytes,
            iv: iv.assumingMemoryBound(to: UInt8.self), iv_length: ivBytes,
            data: data.assumingMemoryBound(to: UInt8.self), length: dataBytes,
            tag: tag.assumingMemoryBound(to: UInt8.self))
        return spindle_aead_seal(&cipher, &message) == 1
    }

    /// `open` with the layout in registers, for the packet path.
    public mutating func open(
        aad: UnsafeRawPointer, _ aadBytes: Int, iv: UnsafeRawPointer, _ ivBytes: Int,
        data: UnsafeMutableRawPointer, _ dataBytes: Int, tag: UnsafeMutableRawPointer
    ) -> Bool {
        var message = spindle_message(
            aad: aad.assumingMemoryBound(to: UInt8.self), aad_length: aadBytes,
            iv: iv.assumingMemoryBound(to: UInt8.self), iv_length: ivBytes,
            data: data.assumingMemoryBound(to: UInt8.self), length: dataBytes,
            tag: tag.assumingMemoryBound(to: UInt8.self))
        let isAuthentic = spindle_aead_open(&cipher, &message) == 1
        if !isAuthentic { ERR_clear_error() }
        return isAuthentic
    }

    /// Runs CBC (whole blocks) or CTR over `data` from a 16-octet IV.
    public func run(
        encrypts: Bool, iv: UnsafeRawPointer, data: UnsafeMutableRawPointer, count: Int
    ) -> Bool {
        spindle_cipher_run(
            cipher.cipher, cipher.context, encrypts ? 1 : 0, iv.assumingMemoryBound(to: UInt8.self),
            data.assumingMemoryBound(to: UInt8.self), count) == 1
    }

    /// The full HMAC of `data` followed by `tail`, into `output` (`maximumHashBytes` octets).
    public func authenticate(
        _ data: UnsafeRawPointer, count: Int, tail: UnsafeRawPointer, tailBytes: Int,
        output: UnsafeMutableRawPointer
    ) -> Bool {
        withUnsafePointer(to: hmac) { hmac in
            spindle_hmac_run(
                hmac, data.assumingMemoryBound(to: UInt8.self), count,
                tail.assumingMemoryBound(to: UInt8.self), tailBytes,
                output.assumingMemoryBound(to: UInt8.self)) == 1
        }
    }
}

/// Asks the processor for the cache line at `address`; a hint without effect on the result.
public func prefetch(_ address: UnsafeRawPointer) { spindle_prefetch(address) }

/// Asks for the four cache lines from `address` on.
public func prefetchLines(_ address: UnsafeRawPointer) {
    spindle_prefetch(address)
    spindle_prefetch(address + 64)
    spindle_prefetch(address + 128)
    spindle_prefetch(address + 192)
}
