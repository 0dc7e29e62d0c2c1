// Both ends rekey at once, and every beginning of a schedule is played (RFC 7296 §2.8.1, §2.8.2,
// §2.25).

import Crypto
import Testing
import Wire

@testable import IKEStub

@Suite struct Collisions {
    enum Kind: CaseIterable {
        case childAndChild, ikeAndIKE, childAndIKE, childAndDeleteChild, ikeAndDelete
        case deleteAndDelete, deleteChildAndDeleteChild, ikeAndDeleteChild, deleteAndChild

        /// What left and right do.
        func commands(_ pair: IKEPair) throws -> (IKEEndpoint.Command, IKEEndpoint.Command) {
            let left = try #require(pair.left.children.keys.first)
            let right = try #require(pair.right.children.keys.first)
            return switch self {
            case .childAndChild: (.rekeyChild(left), .rekeyChild(right))
            case .ikeAndIKE: (.rekey, .rekey)
            case .childAndIKE: (.rekeyChild(left), .rekey)
            case .childAndDeleteChild: (.rekeyChild(left), .deleteChild(right))
            case .ikeAndDelete: (.rekey, .delete)
            case .deleteAndDelete: (.delete, .delete)
            case .deleteChildAndDeleteChild: (.deleteChild(left), .deleteChild(right))
            case .ikeAndDeleteChild: (.rekey, .deleteChild(right))
            case .deleteAndChild: (.delete, .createChild("net"))
            }
        }

        /// Pairs that are left; nil where it depends on who is first.
        var pairs: Int? {
            switch self {
            case .childAndChild, .ikeAndIKE, .childAndIKE: 1
            case .deleteAndDelete, .deleteChildAndDeleteChild, .ikeAndDeleteChild: 0
            case .childAndDeleteChild, .ikeAndDelete, .deleteAndChild: nil
            }
        }
    }

    /// One of the first datagrams on the wire arrives or is lost; without any, time passes.
    private func play(_ choice: Int, _ pair: IKEPair) throws {
        guard !pair.wire.isEmpty else {
            let next = [pair.left, pair.right].compactMap(\.endpoint.deadline).min() ?? pair.now
            return try pair.tick(at: max(pair.now, next))
        }
        let flight = pair.wire.remove(at: min(choice / 2, pair.wire.count - 1))
        if choice % 2 == 0 { try pair.deliver(flight) }
    }

    @Test(arguments: Kind.allCases)
    func everyBeginningEndsWell(kind: Kind) throws {
        let depth = 4
        for number in 0..<(1 << (2 * depth)) {
            var configuration = PairConfiguration()
            configuration.timers = Schedules.timers
            let pair = try configuration.pair(seed: UInt64(number % 4 + 1))
            try pair.connect()
            let (left, right) = try kind.commands(pair)
            try pair.command(left, byLeft: true)
            try pair.command(right, byLeft: false)
            for step in 0..<depth { try play(number >> (2 * step) & 3, pair) }
            try pair.deliver()
            try pair.advance(seconds: 250)
            try pair.exchangePackets()
            pair.expectAgreement("\(kind), schedule \(number)")
            if let pairs = kind.pairs { #expect(pair.left.children.count == pairs, "\(number)") }
            #expect(pair.left.isIdle && pair.right.isIdle, "\(number)")
        }
    }
}
