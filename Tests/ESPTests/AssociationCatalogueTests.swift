import TestSupport
import Testing
import Wire

@testable import ESP

private func list(_ number: UInt32) throws -> AssociationSelectors {
    let address = IPAddress(v4: number)
    let one = try #require(
        TrafficSelector(first: address, last: address, firstPort: 1, lastPort: 2))
    return AssociationSelectors(source: [one], destination: [one])
}

@Suite struct AssociationCatalogueTests {
    // What would fool us: a list that is freed while a record still points at it, or one that is
    // never freed. The model counts users itself.
    @Test func listsLiveAsLongAsTheirUsers() throws {
        var random = SeededGenerator()
        let catalogue = AssociationCatalogue()
        var users: [UInt32: Int] = [:]
        var numbers: [UInt32: UInt32] = [:]
        for _ in 0..<3_000 {
            let content = UInt32.random(in: 0..<60, using: &random)
            let count = users[content, default: 0]
            switch Int.random(in: 0..<5, using: &random) {
            case 0, 1:
                let number = catalogue.intern(try list(content))
                if count > 0 { #expect(number == numbers[content], "shared") }
                numbers[content] = number
                users[content] = count + 1
            case 2:
                guard count > 0, let number = numbers[content] else { continue }
                catalogue.retain(list: number)
                users[content] = count + 1
            default:
                guard count > 0, let number = numbers[content] else { continue }
                catalogue.release(list: number)
                users[content] = count - 1
                if count == 1 { numbers[content] = nil }
            }
            #expect(Set(numbers.values).count == numbers.count, "no number names two lists")
            for (content, number) in numbers {
                #expect(catalogue.pointers.selectors[Int(number)].users == users[content])
            }
        }
        for (content, number) in numbers {
            #expect(catalogue.selectors(list: number) == (try list(content)))
        }
        // Numbers are used again: never more than there were lists at once.
        #expect(numbers.values.allSatisfy { $0 < 60 })
    }

    @Test func slabsReleaseTheirLists() throws {
        let catalogue = AssociationCatalogue()
        let wanted = try list(5)
        var described = parameters(0x1001, .inbound)
        described.selectors = wanted
        let number: UInt32
        do {
            let station = try Station(catalogue: catalogue)
            let other = try Station(catalogue: catalogue)
            let handle = try station.add(described)
            number = station.record(handle).pointee.selectorSource
            #expect(catalogue.pointers.selectors[Int(number)].users == 1)
            let copy = try other.slab.insert(
                copying: handle, from: station.slab, ivGeneration: 1)
            #expect(catalogue.pointers.selectors[Int(number)].users == 2)
            station.slab.remove(handle)
            #expect(catalogue.pointers.selectors[Int(number)].users == 1)
            #expect(other.slab.association(of: copy).parameters.selectors == wanted)
        }
        // The other slab is gone, with its association.
        #expect(catalogue.pointers.selectors[Int(number)].users == 0)
        #expect(catalogue.intern(try list(6)) == number, "the place is free")
        catalogue.release(list: number)
    }

    @Test func policiesAreSharedAndLimited() throws {
        let catalogue = AssociationCatalogue()
        var profile = AssociationProfile(lifetimes: Lifetimes(), headers: TunnelHeaderPolicy())
        for number in 0..<AssociationCatalogue.profilesMaximum {
            profile.lifetimes.softPackets = UInt64(number)
            #expect(catalogue.intern(profile) == UInt16(number))
        }
        #expect(catalogue.intern(profile) == 65_534)
        profile.lifetimes.softPackets = 3
        #expect(catalogue.intern(profile) == 3)
        #expect(catalogue.profile(3) == profile)
        profile.lifetimes.softPackets = .max - 1
        #expect(catalogue.intern(profile) == nil)

        let station = try Station(catalogue: catalogue)
        var described = parameters(0x1001)
        described.lifetimes.softPackets = .max - 1
        let canTakeNew = station.slab.canTakePolicies(of: described)
        #expect(!canTakeNew)
        #expect(throws: SlabError.tooManyProfiles) { try station.add(described) }
        #expect(station.slab.count == 0)
        described.lifetimes.softPackets = 3
        let canTakeKnown = station.slab.canTakePolicies(of: described)
        #expect(canTakeKnown)
        #expect(throws: Never.self) { try station.add(described) }
    }

    // What would fool us: policies that pile up as tunnels come and go, until no new one fits.
    @Test func policiesGoWithTheirLastUser() throws {
        let catalogue = AssociationCatalogue()
        let station = try Station(capacity: 4, catalogue: catalogue)
        let other = try Station(capacity: 4, catalogue: catalogue)
        func described(_ number: UInt64) -> AssociationParameters {
            var described = parameters(0x1001)
            described.lifetimes.softPackets = number
            return described
        }
        let keeper = try station.add(described(1))
        for number in 2..<200 as Range<UInt64> {
            let one = try station.add(described(number))
            let two = try station.add(described(number))
            let copy = try other.slab.insert(copying: one, from: station.slab, ivGeneration: 1)
            let place = station.record(one).pointee.profile
            #expect(place <= 1, "places are used again")
            #expect(station.record(two).pointee.profile == place)
            station.slab.remove(one)
            station.slab.remove(two)
            let back = other.slab.association(of: copy)
            #expect(back.parameters.lifetimes.softPackets == number)
            other.slab.remove(copy)
        }
        let back = station.slab.association(of: keeper)
        #expect(back.parameters.lifetimes.softPackets == 1)
    }
}
