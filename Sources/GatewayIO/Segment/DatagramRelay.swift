// Datagrams that came in another node's place. The kernel joins datagrams of one flow to a row
// whatever their SPIs, and gives the row to the owner of the first; what else is in it goes on.

internal import CLinux
internal import Cluster
internal import Wire

/// Where a datagram came from and went to.
struct DatagramPath {
    let source: IPAddress
    let sourcePort: UInt16
    /// A cluster address.
    let destination: IPAddress
    let destinationPort: UInt16
    let trafficClass: UInt8
}

extension SegmentSender {
    /// Sends a datagram, as the packet that it came in, to its owner's MAC address. False, and
    /// nothing is sent, when it does not fit the device's MTU; one of a row that came over the same
    /// segment does.
    func relay(
        _ payload: UnsafeRawBufferPointer, path: DatagramPath, to owner: MACAddress
    ) -> Bool {
        precondition(path.source.family == path.destination.family)
        let isV4 = path.source.family == .v4
        let headerBytes = isV4 ? IPPacket.ipv4HeaderBytes : IPPacket.ipv6HeaderBytes
        let udpBytes = UDPHeader.byteCount + payload.count
        guard headerBytes + udpBytes <= device.mtu else { return false }
        append(bytes: EthernetHeader.byteCount + headerBytes + udpBytes) { place in
            EthernetHeader.write(
                place, to: owner, from: device.address,
                type: isV4 ? EthernetHeader.ipv4 : EthernetHeader.ipv6)
            let packet = place + EthernetHeader.byteCount
            OuterHeader.write(
                packet, source: path.source, destination: path.destination,
                trafficClass: path.trafficClass, payload: IPProtocol.udp,
                total: headerBytes + udpBytes)
            if isV4 {
                let sum = checksumSum(packet, count: headerBytes)
                store16(checksumFold(sum), packet, 10)
            }
            let udp = packet + headerBytes
            store16(path.sourcePort, udp, 0)
            store16(path.destinationPort, udp, 2)
            store16(UInt16(truncatingIfNeeded: udpBytes), udp, 4)
            store16(0, udp, 6)
            if let base = payload.baseAddress {
                (udp + UDPHeader.byteCount).copyMemory(from: base, byteCount: payload.count)
            }
            // The pseudo-header of RFC 768, and of RFC 8200 §8.1.
            let addresses = checksumSum(
                packet + (isV4 ? 12 : 8), count: isV4 ? 8 : 32,
                from: UInt64(IPProtocol.udp) + UInt64(udpBytes))
            let sum = checksumFold(checksumSum(udp, count: udpBytes, from: addresses))
            store16(sum == 0 ? .max : sum, udp, 6)
        }
        return true
    }
}
