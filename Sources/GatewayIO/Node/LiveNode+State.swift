// What a node finds when it begins, and what it leaves when it ends.

internal import CLinux
internal import ESP
internal import Gateway
internal import Glibc
internal import IKEStub
internal import Wire

extension LiveNode {
    /// Nanoseconds since 1970: where the node's clock begins, so that times of one process mean
    /// something to the next.
    static func worldNanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return UInt64(max(time.tv_sec, 0)) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// Clears what nobody answers for any more, and begins with the manually keyed tunnels.
    func begin(_ manual: ManualTunnels) {
        guard let sole else { return }
        clearOrphans(besides: Set(manual.items.map(\.spi)))
        for item in manual.new { establish(item, sole) }
        for item in manual.items { announce(item.tunnel) }
        // A tunnel that got new keys begins with numbers of its own, whatever stood there before;
        // and what can be used before the first lease of this life is little.
        sole.publishAll(now)
    }

    /// Pairs of IKE SAs that ended with the process before: nobody would renew or delete them.
    private func clearOrphans(besides manual: Set<SPI>) {
        var count = 0
        for spi in member.gateway.orphans() where !manual.contains(spi) {
            member.gateway.clear(spi, nowNanoseconds: now)
            member.carry(now)
            count += 1
        }
        guard count > 0 else { return }
        log(.info, "cleared \(count) pairs whose IKE SAs ended with the process before")
    }

    private func establish(_ item: ManualTunnels.Item, _ sole: SoleMember) {
        let refusal: String?
        do throws(AssociationFileError) {
            let inbound = try item.tunnel.inbound.association(
                direction: .inbound, createdNanoseconds: now)
            if let outbound = item.tunnel.outbound {
                refusal = sole.establish(
                    inbound: inbound,
                    outbound: try outbound.association(
                        direction: .outbound, createdNanoseconds: now), replacing: nil, now)
            } else {
                refusal = sole.establish(inbound: inbound, outbound: nil, replacing: nil, now)
            }
        } catch {
            return log(.warning, "\(error)")
        }
        if let refusal {
            return log(.warning, "manually keyed \(item.spi) is refused: \(refusal)")
        }
        guard sole.keep(ManualTunnels.note(item), now) else {
            member.gateway.clear(item.spi, nowNanoseconds: now)
            member.carry(now)
            return log(.warning, "manually keyed \(item.spi) is refused: the disk failed")
        }
    }

    private func announce(_ tunnel: ManualTunnel) {
        let spi = tunnel.inbound.spi
        guard let status = member.gateway.status(of: spi) else { return }
        let remote = tunnel.outbound?.parameters.selectors.destination ?? []
        pairs[spi] = Pair(remote: remote)
        manual[spi] = tunnel.inbound.name ?? ""
        addRoutes(of: spi, named: "manually keyed")
        let next = status.sent.map { ", and sends from \($0.sequence &+ 1) on" } ?? ""
        log(.info, "manually keyed \(spi) receives\(next)")
    }

    /// Manually keyed tunnels, as `list` has them: each stands alone, without an IKE SA.
    func manualListings() -> [AssociationListing] {
        manual.keys.sorted().compactMap { spi in
            guard let status = member.gateway.status(of: spi) else { return nil }
            let inbound = status.inbound
            let name = "00000000" + spi.description
            func end(_ address: IPAddress, _ port: UInt16?) -> String {
                port.map { "\(address) \($0)" } ?? "\(address)"
            }
            return AssociationListing(
                connection: manual[spi] ?? "", localSPI: name, initiatorSPI: name,
                responderSPI: name, role: "manual", isEstablished: true,
                suite: inbound.transform.description,
                local: end(inbound.destination, inbound.udp?.destination),
                remote: end(inbound.source, inbound.udp?.source), localIdentity: nil,
                remoteIdentity: nil, virtualAddresses: [],
                ageSeconds: (now &- min(now, inbound.createdNanoseconds)) / 1_000_000_000,
                pairs: [listing(status)])
        }
    }

    private func listing(_ status: TunnelStatus) -> AssociationListing.Pair {
        let inbound = status.inbound
        return AssociationListing.Pair(
            policy: "", inboundSPI: inbound.spi.description,
            outboundSPI: status.outbound?.spi.description ?? "",
            suite: inbound.transform.description, mode: inbound.mode.rawValue,
            encapsulation: inbound.udp == nil ? "esp" : "udp",
            local: inbound.selectors.destination.flatMap(\.words),
            remote: inbound.selectors.source.flatMap(\.words), isCurrent: true,
            packetsIn: status.received.packets, bytesIn: status.received.bytes,
            packetsOut: status.sent?.packets ?? 0, bytesOut: status.sent?.bytes ?? 0)
    }

    /// Tells the disk how far everything came.
    func leave() {
        guard configuration.stateDirectory != nil, let sole else { return }
        sole.settle(now)
        sole.publishAll(now)
        carry()
    }
}
