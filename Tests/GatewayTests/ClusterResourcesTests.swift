// Numbers and addresses that the IKE side of a node chooses.

import Cluster
import Crypto
import ESP
import IKEStub
import Testing
import Wire

@testable import Gateway

@Suite struct ClusterResourcesTests {
    // What would fool us: SPIs of identifiers that another node owns.
    @Test func inboundSPIsHaveTheIdentifierOfTheirIKESA() throws {
        let key = try CookieKey(bytes: (1...20).map { UInt8($0) })
        let distribution = try Distribution(cookieKey: key)
        let resources = ClusterResources(distribution, capacity: 200)
        for value in 0..<UInt16(distribution.identifierCount) {
            resources.note(DistributionIdentifier(value), generation: 1, isOwn: value % 3 == 0)
        }
        var random: any RandomSource = SystemRandomSource()
        var seen: Set<SPI> = []
        for _ in 0..<200 {
            let cookie = resources.initiatorSPI(replacing: nil, sibling: nil, &random)
            #expect(distribution.identifier(ofInitiatorCookie: cookie).value % 3 == 0)
            let spi = try #require(
                resources.inboundSPI(initiatorSPI: cookie, sibling: nil, &random))
            #expect(
                distribution.identifier(of: spi)
                    == distribution.identifier(ofInitiatorCookie: cookie))
            #expect(seen.insert(spi).inserted && !spi.isReserved)
        }
        #expect(
            resources.inboundSPI(initiatorSPI: 1, sibling: nil, &random) == nil, "there is no room")
        let gone = try #require(seen.first)
        resources.noteReceived(gone, at: 7)
        #expect(resources.lastReceived(gone) == 7)
        resources.release(gone)
        #expect(resources.lastReceived(gone) == nil)
        let sibling = SPI(0x1234_5678)
        let next = try #require(
            resources.inboundSPI(initiatorSPI: 1, sibling: sibling, &random))
        #expect(distribution.identifier(of: next) == distribution.identifier(of: sibling))
        resources.release(next)
        #expect(resources.inboundSPI(initiatorSPI: 1, sibling: nil, &random) != nil)
    }
}
