// Packets from the peers to the protected network, and back.

internal import CLinux
internal import ESP
internal import Gateway
internal import Glibc
internal import IKEStub
internal import Wire

extension LiveNode {
    private static var udpBytes: Int { 8 }

    // MARK: From the peers

    /// UDP datagrams, with the headers that the kernel took away put before them again: the gateway
    /// looks at packets.
    func receiveDatagrams(_ socket: DatagramSocket) {
        let count = socket.receive(into: room, batch)
        guard count > 0 else { return }
        let isV6 = socket.address.family == .v6
        let headerBytes = (isV6 ? IPPacket.ipv6HeaderBytes : IPPacket.ipv4HeaderBytes)
        let before = headerBytes + Self.udpBytes
        for slot in 0..<count {
            let length = Int(batch.headers[slot].msg_len)
            guard let (remote, port) = batch.source(slot),
                length + before <= PacketRoom.packetMaximum
            else {
                room.descriptors[slot] = room.descriptor(slot, before: 0, count: 0)
                continue
            }
            room.descriptors[slot] = room.descriptor(slot, before: before, count: length)
            let packet = room.address(slot) - before
            OuterHeader.write(
                packet, source: remote, destination: socket.address,
                trafficClass: batch.trafficClass(slot), payload: IPProtocol.udp,
                total: before + length)
            // The ports that stand for what the socket is for, whatever was configured.
            let ownPort = socket.hasMarker ? UDPPort.natTraversal : UDPPort.ike
            let otherPort = socket.hasMarker || port != UDPPort.natTraversal ? port : UDPPort.ike
            store16(otherPort, packet + headerBytes, 0)
            store16(ownPort, packet + headerBytes, 2)
            store16(UInt16(Self.udpBytes + length), packet + headerBytes, 4)
            store16(0, packet + headerBytes, 6)
        }
        open(count) { slot in receiveMessage(slot, socket) }
    }

    /// ESP as a protocol of its own; IPv6 comes without its header.
    func receivePackets(_ socket: ESPSocket) {
        let count = socket.receive(into: room, batch)
        guard count > 0 else { return }
        for slot in 0..<count {
            let length = Int(batch.headers[slot].msg_len)
            guard socket.address.family == .v6 else {
                room.descriptors[slot] = room.descriptor(slot, before: 0, count: length)
                continue
            }
            let before = IPPacket.ipv6HeaderBytes
            guard let (remote, _) = batch.source(slot) else {
                room.descriptors[slot] = room.descriptor(slot, before: 0, count: 0)
                continue
            }
            room.descriptors[slot] = room.descriptor(slot, before: before, count: length)
            OuterHeader.write(
                room.address(slot) - before, source: remote,
                destination: socket.address, trafficClass: batch.trafficClass(slot),
                payload: IPProtocol.esp, total: before + length)
        }
        open(count) { _ in }
    }

    /// Shows a batch to the gateway, and gives what comes out to whom it is for.
    private func open(_ count: Int, ike: (Int) -> Void) {
        let now = now
        member.gateway.receive(
            room.batch(count), verdicts: room.answers(count), nowNanoseconds: now)
        for slot in 0..<count {
            switch room.verdicts[slot] {
            case .delivered:
                device.write(room.descriptors[slot].packet)
            case .ike: ike(slot)
            case .dropped, .foreign, .held, .natKeepalive, .other: break
            }
        }
        if member.gateway.hasOutputs { carry() }
    }

    private func receiveMessage(_ slot: Int, _ socket: DatagramSocket) {
        guard let (remote, port) = batch.source(slot) else { return }
        let markerBytes = socket.hasMarker ? 4 : 0
        let datagram = UnsafeRawBufferPointer(
            rebasing: room.place(slot)[markerBytes..<Int(batch.headers[slot].msg_len)])
        let path = IKEPath(
            local: socket.address, localPort: socket.port, remote: remote, remotePort: port,
            hasMarker: socket.hasMarker)
        member.gateway.receive(message: datagram, path: path, nowNanoseconds: now)
    }

    // MARK: From the protected network

    /// Packets that the routes led into the device.
    func sendPackets() {
        var count = 0
        while count < PacketRoom.slots, let length = device.read(into: room.place(count)) {
            room.descriptors[count] = room.descriptor(count, before: 0, count: length)
            count += 1
        }
        guard count > 0 else { return }
        member.gateway.send(
            room.batch(count), verdicts: room.answers(count), nowNanoseconds: now)
        var row = DatagramRow()
        for slot in 0..<count where room.verdicts[slot] == .delivered {
            let packet = room.descriptors[slot].packet
            guard let outer = OuterHeader(packet) else { continue }
            guard outer.isUDP else {
                espSockets.first { $0.address == outer.source }?
                    .send(packet, to: outer.destination)
                continue
            }
            let payloadBytes = packet.count - outer.payloadOffset
            if !row.takes(outer) || !row.takes(bytes: payloadBytes) { send(&row) }
            row.append(outer, packet, batch)
        }
        send(&row)
    }

    /// Sends what was collected for one peer.
    private func send(_ row: inout DatagramRow) {
        defer { row = DatagramRow() }
        guard let outer = row.outer,
            let socket = datagramSockets.first(where: {
                $0.address == outer.source && $0.port == outer.sourcePort
            })
        else { return }
        socket.send(row, batch)
    }
}
