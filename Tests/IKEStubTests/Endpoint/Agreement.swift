// What two ends must agree on when nothing is under way.

import Crypto
import Testing
import Wire

@testable import ESP
@testable import IKEStub

extension IKEPair {
    /// Both ends have the same IKE SAs and CHILD SAs with the same keys, send through pairs that
    /// the other has, and hold no SPI besides.
    func expectAgreement(
        _ comment: @autoclosure () -> String = "",
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        var faults: [String] = []
        let names = [left, right].map { end in
            end.established.map { "\($0.initiatorSPI)/\($0.responderSPI)" }.sorted()
        }
        if names[0] != names[1] { faults.append("IKE SAs \(names)") }
        for isLeft in [true, false] {
            let (own, other) = (end(isLeft: isLeft), end(isLeft: !isLeft))
            faults += own.faults(besides: other).map { (isLeft ? "left: " : "right: ") + $0 }
        }
        if !faults.isEmpty {
            Issue.record(
                "\(faults.joined(separator: "; ")) \(comment())\n\(reports)",
                sourceLocation: sourceLocation)
        }
    }

    /// What each end sends now can be decrypted at the other.
    func senderFaults() -> [String] {
        [true, false].flatMap { isLeft in
            let (own, other) = (end(isLeft: isLeft), end(isLeft: !isLeft))
            return own.senders.values.compactMap { spi -> String? in
                guard let outbound = own.children[spi]?.outbound.parameters.spi else {
                    return "sends through a pair that is gone"
                }
                return other.children[outbound] == nil
                    ? "\(isLeft ? "left" : "right") sends through \(outbound), unknown there" : nil
            }
        }
    }
}

extension IKEEnd {
    fileprivate func faults(besides other: IKEEnd) -> [String] {
        var faults: [String] = []
        let known = established.flatMap(\.children)
        if Set(known.map(\.inbound)) != Set(children.keys) {
            faults.append("installed are \(children.keys.sorted()), known \(known.map(\.inbound))")
        }
        for child in known {
            guard let own = children[child.inbound], let peer = other.children[child.outbound]
            else {
                faults.append("\(child.inbound)/\(child.outbound) is not at both ends")
                continue
            }
            if !own.outbound.secret.matches(peer.inbound.secret)
                || !own.inbound.secret.matches(peer.outbound.secret)
            {
                faults.append("keys of \(child.inbound) differ")
            }
            let (sent, received) = (own.outbound.parameters, peer.inbound.parameters)
            if sent.spi != received.spi || sent.transform != received.transform
                || sent.mode != received.mode || sent.usesESN != received.usesESN
                || sent.selectors != received.selectors || sent.udp != received.udp
                || sent.source != received.source || sent.destination != received.destination
            {
                faults.append("parameters of \(child.inbound) differ: \(sent), \(received)")
            }
        }
        faults += indexFaults()
        if senders.count != known.count { faults.append("\(senders) send of \(known.count)") }
        if resources.spisTaken != known.count {
            faults.append("\(resources.spisTaken) SPIs are taken for \(known.count) pairs")
        }
        return faults
    }

    /// What the index of peers says must be what a look through all finds.
    private func indexFaults() -> [String] {
        let known = endpoint.associations.values.filter { $0.stage != .initAnswered }
        let indexed = endpoint.peers.localSPIs.values.flatMap { $0 }
        var faults: [String] = []
        if Set(indexed) != Set(known.map(\.localSPI)) || indexed.count != known.count {
            faults.append("the index has \(indexed.count) of \(known.count) IKE SAs")
        }
        for identity in Set(known.compactMap(\.remoteIdentity)) {
            let found = Set(endpoint.associations(with: identity).map(\.localSPI))
            let all = known.filter { $0.remoteIdentity?.isSame(as: identity) == true }
            if found != Set(all.map(\.localSPI)) { faults.append("the index lacks \(identity)") }
        }
        return faults
    }
}
