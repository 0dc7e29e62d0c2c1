// Choosing one proposal, and one transform of each type in it (RFC 7296 §2.7, §3.3.6).

/// What was chosen from a peer's offer.
struct ChosenProposal: Equatable {
    /// The proposal as it is answered: the peer's number and our SPI are set by the caller.
    let offered: Proposal
    /// One transform of each type, as the peer wrote them.
    let transforms: [ProposalTransform]

    /// What the peer is told: its number, our SPI.
    func answer(spi: [UInt8]) -> Proposal {
        Proposal(
            number: offered.number, protocol: offered.protocol, spi: spi, transforms: transforms)
    }
}

extension [ProposalPolicy] {
    /// The first of our policies that any of the peer's proposals meets. Our order decides, since
    /// the responder has the choice (RFC 7296 §2.7).
    func choose(from offer: [Proposal], offersGroups: Bool = true) -> ChosenProposal? {
        for policy in self {
            for proposal in offer {
                guard let transforms = policy.choose(from: proposal, offersGroups: offersGroups)
                else { continue }
                return ChosenProposal(offered: proposal, transforms: transforms)
            }
        }
        return nil
    }

    /// The proposals to send, numbered from 1.
    func proposals(spi: [UInt8], offersGroups: Bool = true) -> [Proposal] {
        enumerated().map { index, policy in
            policy.proposal(number: UInt8(index + 1), spi: spi, offersGroups: offersGroups)
        }
    }

    /// What the responder chose from ``proposals(spi:offersGroups:)``: nil unless it is one
    /// proposal with one transform of each type that we offered under its number.
    func accepted(_ answer: [Proposal], offersGroups: Bool = true) -> [ProposalTransform]? {
        guard let proposal = answer.first, answer.count == 1,
            (1...count).contains(Int(proposal.number)),
            Set(proposal.transforms.map(\.type)).count == proposal.transforms.count
        else { return nil }
        return self[Int(proposal.number) - 1]
            .choose(from: proposal, offersGroups: offersGroups)
    }
}

extension ProposalPolicy {
    /// One transform of each type of `proposal`, or nil when it has a type for which we accept
    /// none of its transforms, or lacks one that we need.
    func choose(from proposal: Proposal, offersGroups: Bool) -> [ProposalTransform]? {
        guard proposal.securityProtocol == (use == .ike ? .ike : .esp) else { return nil }
        var chosen: [ProposalTransform] = []
        var types: Set<UInt8> = []
        for own in alternatives(offersGroups: offersGroups) {
            guard let type = own.first?.type else { continue }
            types.insert(type)
            let theirs = proposal.transforms.filter { $0.type == type }
            if let match = Self.firstMatch(own, theirs) {
                chosen.append(match)
            } else if !theirs.isEmpty || !Self.mayBeAbsent(own) {
                return nil
            }
        }
        // A type that we don't know, or for which we have nothing, is acceptable only as NONE.
        let others = proposal.transforms.filter { !types.contains($0.type) }
        let refused = Set(others.map(\.type)).contains { type in
            let isGroup = type == TransformType.keyAgreement.rawValue
            return !(isGroup && !offersGroups)
                && !others.contains { $0.type == type && $0.isNone }
        }
        return refused ? nil : chosen
    }

    private static func firstMatch(
        _ own: [ProposalTransform], _ theirs: [ProposalTransform]
    ) -> ProposalTransform? {
        for wanted in own {
            let cipher = [wanted].cipher
            let match = theirs.first { $0 == wanted || cipher?.isMeant(by: $0) == true }
            if let match { return match }
        }
        return nil
    }

    /// Extended sequence numbers are off where a proposal does not mention them (RFC 7296 §3.3.2).
    private static func mayBeAbsent(_ own: [ProposalTransform]) -> Bool {
        own.contains { $0.kind == .extendedSequenceNumbers && $0.id == 0 }
    }
}

extension [Proposal] {
    /// More than these are not compared with ours: real peers have a few.
    static let proposalsMaximum = 32
    private static let transformsMaximum = 512

    /// False for an offer that only costs time.
    var isModest: Bool {
        count <= Self.proposalsMaximum
            && reduce(0) { $0 + $1.transforms.count } <= Self.transformsMaximum
    }
}

extension ProposalTransform {
    /// NONE exists for integrity and key agreement, and "no extended numbers" is alike.
    fileprivate var isNone: Bool {
        switch kind {
        case .integrity, .keyAgreement, .extendedSequenceNumbers: id == 0
        default: false
        }
    }
}
