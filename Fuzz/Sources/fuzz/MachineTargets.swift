// IKE SAs: their encoding, and two endpoints between which the bytes decide what happens.

import Crypto
import ESP
import IKEStub
import Wire

/// The same numbers in every run.
private struct CountingSource: RandomSource {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed }

    mutating func fill(_ bytes: UnsafeMutableRawBufferPointer) {
        for index in bytes.indices {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            bytes[index] = UInt8(state >> 56)
        }
    }
}

private func required<Value>(_ value: Value?) -> Value {
    guard let value else { preconditionFailure("the set-up of the target is fixed") }
    return value
}

private func network(_ text: String) -> TrafficSelector {
    let (first, last) = required(IPAddress(text)).prefixRange(length: 16)
    return required(TrafficSelector(first: first, last: last))
}

private func configuration(isLeft: Bool) -> IKEConfiguration {
    let left = ChildPolicy.Selectors.fixed([network("10.1.0.0")])
    let right = ChildPolicy.Selectors.fixed([network("10.2.0.0")])
    let child = ChildPolicy(
        name: "net", proposals: [required(try? ProposalPolicy("aes128gcm16", for: .child))],
        local: isLeft ? left : right, remote: isLeft ? right : left)
    var connection = Connection(
        name: "peer",
        proposals: [required(try? ProposalPolicy("aes128gcm16-prfsha256-x25519", for: .ike))],
        localIdentity: .fqdn(isLeft ? "left" : "right"),
        remoteIdentity: .exactly(.fqdn(isLeft ? "right" : "left")),
        localAuthentication: .presharedKey, remoteAuthentication: .presharedKey,
        children: [child])
    connection.timers.rekeyChild = 100 * 1_000_000_000
    connection.timers.rekeyIKE = 300 * 1_000_000_000
    connection.timers.rekeyJitter = 0
    // The left end says that it is behind a NAT: the right one follows it.
    connection.forcesEncapsulation = isLeft
    let secret = SharedSecret(SecretBytes(count: 32))
    return IKEConfiguration(
        connections: [connection],
        presharedKeys: [PresharedKey(identities: [], secret: secret)])
}

private func environment(isLeft: Bool) -> IKEEnvironment {
    IKEEnvironment(
        library: required(try? CryptoLibrary()), configuration: configuration(isLeft: isLeft),
        random: CountingSource(isLeft ? 1 : 2), resources: LocalResources(capacity: 20))
}

private let path = IKEPath(
    local: required(IPAddress("192.0.2.1")), localPort: 500,
    remote: required(IPAddress("192.0.2.2")), remotePort: 500, hasMarker: false)

/// The encoding of an IKE SA.
final class StateTarget {
    private let world = environment(isLeft: true)

    /// What is accepted must be what would be written, but for the generation; and the IKE SA must
    /// bear to be used.
    func state(_ bytes: UnsafeRawBufferPointer) {
        let now: UInt64 = 1_000_000_000_000
        let first = IKEEndpoint(world, now: now)
        let state = SecretBytes(copying: bytes)
        guard
            let spi = try? first.adopt(
                state, generation: .max - 1, now: now, seconds: 1_790_000_000)
        else { return precondition(first.count == 0) }
        let second = IKEEndpoint(world, now: now)
        guard let written = first.export(localSPI: spi, now: now, seconds: 1_790_000_000),
            (try? second.adopt(written, generation: .max, now: now, seconds: 1_790_000_000)) == spi,
            let again = second.export(localSPI: spi, now: now, seconds: 1_790_000_000)
        else { preconditionFailure("what was written is not read") }
        written.withUnsafeBytes { one in
            again.withUnsafeBytes { two in
                // Version, clocks, generation.
                precondition(one[..<17].elementsEqual(two[..<17]))
                precondition(one[19...].elementsEqual(two[19...]))
            }
        }
        for command in [IKEEndpoint.Command.rekey, .createChild("net"), .delete] {
            _ = second.command(command, localSPI: spi, now: now, seconds: 0)
        }
        for step in UInt64(0)...20 {
            let time = now + step * step * 10_000_000_000
            _ = second.advance(to: time, seconds: 1_790_000_000)
            precondition(second.deadline ?? .max > time)
        }
        first.forget(localSPI: spi)
        second.forget(localSPI: spi)
        precondition(first.count == 0)
    }
}

/// Octets that decide.
private struct Choices {
    private let bytes: UnsafeRawBufferPointer
    private var offset = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    mutating func next() -> Int? {
        guard offset < bytes.count else { return nil }
        defer { offset += 1 }
        return Int(bytes[offset])
    }
}

private struct Flight {
    let toRight: Bool
    var octets: [UInt8]
    let path: IKEPath
}

/// A state in the store.
private final class SecretBox {
    private let state: SecretBytes?

    init(_ state: consuming SecretBytes?) { self.state = state }

    func copy() -> SecretBytes? {
        switch state {
        case .some(let state): state.withUnsafeBytes { SecretBytes(copying: $0) }
        case .none: nil
        }
    }
}

/// Two endpoints; the left one is at index 0.
private struct Machine {
    private let worlds = [environment(isLeft: true), environment(isLeft: false)]
    private var ends: [IKEEndpoint]
    private var spis: [Set<UInt64>] = [[], []]
    /// What the ends asked to be stored.
    private var stored: [[UInt64: SecretBox]] = [[:], [:]]
    /// What a successor finds of that: as it was at some time.
    private var lagging: [[UInt64: SecretBox]] = [[:], [:]]
    private var children: [Set<SPI>] = [[], []]
    private var wire: [Flight] = []
    private var now: UInt64 = 1_000_000_000
    private var generation: UInt16 = 1

    init() { ends = worlds.map { IKEEndpoint($0, now: 1_000_000_000) } }

    private mutating func take(_ outcome: IKEOutcome?, _ end: Int) {
        for spi in outcome?.changed ?? [] {
            stored[end][spi] = SecretBox(
                ends[end].export(localSPI: spi, now: now, seconds: 1_790_000_000))
        }
        for event in outcome?.events ?? [] {
            switch event {
            case .send(let datagrams, let path):
                for octets in datagrams where wire.count < 64 {
                    wire.append(Flight(toRight: end == 0, octets: octets, path: path))
                }
            case .install(let child):
                precondition(children[end].insert(child.inbound.parameters.spi).inserted)
            case .remove(let spi): precondition(children[end].remove(spi) != nil)
            case .sendThrough(let spi), .advanceSequence(let spi, _):
                precondition(children[end].contains(spi))
            case .established(let spi): spis[end].insert(spi)
            case .closed(let spi): spis[end].remove(spi)
            case .redirect(let spi, let path):
                precondition(children[end].contains(spi) && path.hasMarker)
            case .keepalive, .report, .linger, .firstContact: break
            }
        }
        precondition(ends[end].count < 64 && children[end].count <= 20)
    }

    private mutating func deliver(_ flight: Flight) {
        let end = flight.toRight ? 1 : 0
        let path = IKEPath(
            local: flight.path.remote, localPort: flight.path.remotePort,
            remote: flight.path.local, remotePort: flight.path.localPort,
            hasMarker: flight.path.hasMarker)
        let outcome = flight.octets.withUnsafeBytes {
            ends[end].receive($0, path: path, now: now, seconds: 1_790_000_000)
        }
        take(outcome, end)
    }

    private mutating func advance(_ end: Int) {
        now = max(now, min(ends[end].deadline ?? now, now + 60_000_000_000))
        take(ends[end].advance(to: now, seconds: 1_790_000_000), end)
        precondition(ends[end].deadline ?? .max > now)
    }

    private mutating func command(_ end: Int, _ kind: Int) {
        guard let spi = spis[end].min() else {
            guard ends[end].count < 32 else { return }
            var own = path
            if end == 1 { (own.local, own.remote) = (path.remote, path.local) }
            return take(
                ends[end].initiate(
                    "peer", child: "net", path: own, now: now, seconds: 1_790_000_000)?.1, end)
        }
        let command: IKEEndpoint.Command =
            switch (kind, children[end].min()) {
            case (0, let child?): .rekeyChild(child)
            case (1, let child?): .deleteChild(child)
            case (2, _): .rekey
            case (3, _): .delete
            case (4, _): .probe
            default: .createChild("net")
            }
        take(ends[end].command(command, localSPI: spi, now: now, seconds: 1_790_000_000), end)
    }

    /// All IKE SAs that were established go to a new owner; set-ups under way are lost.
    private mutating func move(_ end: Int) {
        let old = ends[end]
        generation += 1
        worlds[end].resources = LocalResources(capacity: 20, generation: generation)
        ends[end] = IKEEndpoint(worlds[end], now: now)
        for spi in spis[end].sorted() {
            guard let state = old.export(localSPI: spi, now: now, seconds: 1_790_000_000) else {
                continue
            }
            let adopted = try? ends[end].adopt(
                state, generation: generation, now: now, seconds: 1_790_000_000)
            precondition(adopted == spi)
        }
        stored[end] = stored[end].filter { spis[end].contains($0.key) }
    }

    /// The owner dies: another goes on with what is stored, which may be behind, and knows no other
    /// pairs.
    private mutating func takeOver(_ end: Int) {
        generation += 1
        worlds[end].resources = LocalResources(capacity: 20, generation: generation)
        ends[end] = IKEEndpoint(worlds[end], now: now)
        children[end] = []
        spis[end] = []
        // What was written after that is not known any more.
        stored[end] = lagging[end]
        for (spi, box) in lagging[end].sorted(by: { $0.key < $1.key }) {
            guard let state = box.copy() else { continue }
            let adopted = try? ends[end].adopt(
                state, generation: generation, mayBeBehind: true, delta: 1 << 28, now: now,
                seconds: 1_790_000_000)
            precondition(adopted == spi)
            guard let summary = ends[end].summary(of: spi) else { continue }
            if summary.isEstablished { spis[end].insert(spi) }
            children[end].formUnion(summary.children.map(\.inbound))
        }
    }

    /// The data plane tells of packets: from where they came, and that they are many.
    private mutating func packet(_ end: Int, _ kind: Int) {
        guard let spi = children[end].min(), let owner = ends[end].localSPI(ofChild: spi) else {
            return
        }
        switch kind {
        case 0: take(ends[end].noteReceived(spi, localSPI: owner), end)
        case 1:
            take(
                ends[end].noteSoftLifetime(
                    spi, localSPI: owner, now: now, seconds: 1_790_000_000), end)
        default:
            let source = end == 0 ? path.remote : path.local
            take(
                ends[end].noteReceived(
                    spi, localSPI: owner, from: source, port: UInt16(4000 + kind), now: now), end)
        }
    }

    mutating func run(_ choices: inout Choices) {
        command(0, 0)
        while let choice = choices.next() {
            let end = choice >> 3 & 1
            switch choice & 7 {
            case 0, 1, 2:
                if !wire.isEmpty { deliver(wire.removeFirst()) }
            case 3:
                guard !wire.isEmpty else { break }
                deliver(wire.remove(at: (choice >> 3) % wire.count))
            case 4:
                guard !wire.isEmpty else { break }
                if end == 0 { wire.removeFirst() } else { deliver(wire[0]) }
            case 5:
                guard var flight = wire.first, let place = choices.next() else { break }
                flight.octets[place % flight.octets.count] ^= UInt8(1 << (choice >> 5))
                deliver(flight)
            case 6: advance(end)
            default:
                switch choice >> 4 {
                case 0..<6: command(end, choice >> 4)
                case 6..<10: packet(end, choice >> 4 - 6)
                case 10: lagging[end] = stored[end]
                case 11, 12: takeOver(end)
                default: move(end)
                }
            }
        }
    }
}

/// Each octet is an event: a datagram arrives, in order or not, is lost, doubled or damaged; time
/// passes; an end is given a command, or a new owner with what is known or what is stored; a packet
/// comes.
func ikeMachine(_ bytes: UnsafeRawBufferPointer) {
    var choices = Choices(bytes)
    var machine = Machine()
    machine.run(&choices)
}
