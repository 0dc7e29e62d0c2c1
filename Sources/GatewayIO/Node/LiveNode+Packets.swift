// Packets from the peers to the protected network, and back.

internal import CLinux
internal import ESP
internal import Gateway
internal import Glibc
internal import IKEStub
internal import Wire

extension LiveNode {
    private static var udpBytes: Int { 8 }
    /// Batches out of the device before others have their turn.
    static var turnsMaximum: Int { 4 }

    // MARK: From the peers

    /// UDP datagrams, with the headers that the kernel took away put before them again: the gateway
    /// looks at packets.
    func receiveDatagrams(_ socket: DatagramSocket) {
        for slot in 0..<arrivals.receive(socket.descriptor, room) {
            guard let (remote, port) = arrivals.source(slot) else { continue }
            let source = DatagramSource(
                remote: remote, port: port, trafficClass: arrivals.trafficClass(slot))
            let length = arrivals.length(slot)
            let segmentBytes = arrivals.segmentBytes(slot)
            if length == segmentBytes {
                if room.free == 0 { open(socket) }
                wrap(room.address(slot), length, source, socket)
                room.append(slot: slot, before: socket.headerBytes, count: length)
                continue
            }
            // A row stays together, so that what comes out of it can.
            if room.free * segmentBytes < length { open(socket) }
            var offset = 0
            while offset < length {
                if room.free == 0 { open(socket) }
                let bytes = min(segmentBytes, length - offset)
                defer { offset += bytes }
                if relays(room.address(slot) + offset, bytes, source, socket) { continue }
                room.piece.copyMemory(from: room.address(slot) + offset, byteCount: bytes)
                wrap(room.piece, bytes, source, socket)
                room.appendPiece(of: slot, before: socket.headerBytes, count: bytes)
            }
        }
        open(socket)
    }

    /// True for a datagram of a row that is another node's: it came here with the first of the
    /// row, to nobody else, and goes on to its owner.
    private func relays(
        _ datagram: UnsafeRawPointer, _ bytes: Int, _ source: DatagramSource,
        _ socket: DatagramSocket
    ) -> Bool {
        guard let cluster else { return false }
        let payload = UnsafeRawBufferPointer(start: datagram, count: bytes)
        guard
            let station = cluster.otherStation(
                of: payload, hasMarker: socket.hasMarker, owners)
        else { return false }
        let path = DatagramPath(
            source: source.remote, sourcePort: source.port, destination: socket.address,
            destinationPort: socket.port, trafficClass: source.trafficClass)
        return cluster.outside.relay(payload, path: path, to: station)
    }

    /// Writes the headers of a datagram before it.
    private func wrap(
        _ datagram: UnsafeMutableRawPointer, _ length: Int, _ source: DatagramSource,
        _ socket: DatagramSocket
    ) {
        let packet = datagram - socket.headerBytes
        OuterHeader.write(
            packet, source: source.remote, destination: socket.address,
            trafficClass: source.trafficClass, payload: IPProtocol.udp,
            total: socket.headerBytes + length)
        // The ports that stand for what the socket is for, whatever was configured.
        let ownPort = socket.hasMarker ? UDPPort.natTraversal : UDPPort.ike
        let isPlain = socket.hasMarker || source.port != UDPPort.natTraversal
        let udp = datagram - Self.udpBytes
        store16(isPlain ? source.port : UDPPort.ike, udp, 0)
        store16(ownPort, udp, 2)
        store16(UInt16(truncatingIfNeeded: Self.udpBytes + length), udp, 4)
        store16(0, udp, 6)
    }

    private func open(_ socket: DatagramSocket) {
        open { index in receiveMessage(index, socket) }
        cluster?.outside.flush()
    }

    /// ESP as a protocol of its own; IPv6 comes without its header.
    func receivePackets(_ socket: ESPSocket) {
        let isV6 = socket.address.family == .v6
        guard let descriptor = socket.descriptor else { return }
        for slot in 0..<arrivals.receive(descriptor, room) {
            let length = arrivals.length(slot)
            guard isV6 else {
                room.append(slot: slot, before: 0, count: length)
                continue
            }
            guard let (remote, _) = arrivals.source(slot) else { continue }
            let before = IPPacket.ipv6HeaderBytes
            OuterHeader.write(
                room.address(slot) - before, source: remote,
                destination: socket.address, trafficClass: arrivals.trafficClass(slot),
                payload: IPProtocol.esp, total: before + length)
            room.append(slot: slot, before: before, count: length)
        }
        open { _ in }
    }

    /// Shows a batch to the gateway, and gives what comes out to whom it is for.
    func open(ike: (Int) -> Void) {
        guard room.count > 0 else { return }
        let now = now
        member.gateway.receive(room.batch, verdicts: room.answers, nowNanoseconds: now)
        for index in 0..<room.count {
            switch room.verdicts[index] {
            case .delivered: deliver(room.descriptors[index], now)
            case .ike: ike(index)
            case .dropped, .foreign, .held, .natKeepalive, .other: break
            }
        }
        switch protected {
        case .device(let device, _): device.flush()
        case .segment(let inside): inside.flush()
        }
        room.clear()
        if member.gateway.hasOutputs { carry() }
    }

    /// Gives an inner packet to the protected network.
    private func deliver(_ descriptor: PacketDescriptor, _ now: UInt64) {
        switch protected {
        case .device(let device, _): device.write(descriptor)
        case .segment(let inside):
            guard HopLimit.decrement(descriptor.buffer + descriptor.offset) else { return }
            inside.send(descriptor.packet, nowNanoseconds: now)
        }
    }

    private func receiveMessage(_ index: Int, _ socket: DatagramSocket) {
        guard let (remote, port) = arrivals.source(room.origin(index)) else { return }
        let markerBytes = socket.hasMarker ? 4 : 0
        let datagram = UnsafeRawBufferPointer(
            rebasing: room.descriptors[index].packet[(socket.headerBytes + markerBytes)...])
        let path = IKEPath(
            local: socket.address, localPort: socket.port, remote: remote, remotePort: port,
            hasMarker: socket.hasMarker)
        member.gateway.receive(message: datagram, path: path, nowNanoseconds: now)
        // Key agreements and signatures take milliseconds each.
        cluster?.yield()
    }

    // MARK: From the protected network

    /// Packets that the routes led into the device.
    func sendPackets(_ device: TunnelDevice) {
        for _ in 0..<Self.turnsMaximum {
            let isEmpty = readPackets(device)
            seal()
            if isEmpty { return }
        }
    }

    /// Fills a good part of a batch; true when nothing is left in the device.
    private func readPackets(_ device: TunnelDevice) -> Bool {
        while room.free > PacketRoom.slots / 2 {
            // A row is cut at once, and leaves its slot to the next packet.
            let slot = room.count
            guard let length = device.read(into: room.place(slot)) else { return true }
            let place = UnsafeMutableRawBufferPointer(rebasing: room.place(slot)[..<length])
            let header = OffloadHeader(at: room.address(slot) - OffloadHeader.byteCount)
            guard let header else { continue }
            if header.row == .none {
                guard header.completeChecksum(place) else { continue }
                room.append(slot: slot, before: 0, count: length)
            } else {
                cut(UnsafeRawBufferPointer(place), header, slot)
            }
        }
        return false
    }

    private func cut(_ row: UnsafeRawBufferPointer, _ header: OffloadHeader, _ slot: Int) {
        guard var cutter = PacketCutter(row, header) else { return }
        // A row stays together: what came before it goes first.
        if room.free < cutter.count { seal() }
        while true {
            if room.free == 0 { seal() }
            guard let length = cutter.next(room.piece) else { return }
            room.appendPiece(of: slot, before: 0, count: length)
        }
    }

    /// Has a batch sealed, and sends it.
    func seal() {
        guard room.count > 0 else { return }
        member.gateway.send(room.batch, verdicts: room.answers, nowNanoseconds: now)
        var row = DatagramRow()
        for index in 0..<room.count where room.verdicts[index] == .delivered {
            let packet = room.descriptors[index].packet
            guard let outer = OuterHeader(packet) else { continue }
            guard outer.isUDP else {
                sendESP(packet, outer)
                continue
            }
            let payloadBytes = packet.count - outer.payloadOffset
            if !row.takes(outer) || !row.takes(bytes: payloadBytes) { send(&row) }
            row.append(outer, packet, batch)
        }
        send(&row)
        room.clear()
        if cluster != nil, member.gateway.hasOutputs { carry() }
    }

    private func sendESP(_ packet: UnsafeRawBufferPointer, _ outer: OuterHeader) {
        espSockets.first { $0.address == outer.source }?.send(packet, to: outer.destination)
    }

    /// Sends one packet that the gateway had held back.
    func send(outer packet: UnsafeRawBufferPointer) {
        guard let outer = OuterHeader(packet) else { return }
        guard outer.isUDP else { return sendESP(packet, outer) }
        var row = DatagramRow()
        row.append(outer, packet, batch)
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

/// Where a datagram came from.
private struct DatagramSource {
    let remote: IPAddress
    let port: UInt16
    let trafficClass: UInt8
}

extension DatagramSocket {
    /// Octets of the IP and UDP headers that the gateway sees before a datagram.
    fileprivate var headerBytes: Int {
        8 + (address.family == .v6 ? IPPacket.ipv6HeaderBytes : IPPacket.ipv4HeaderBytes)
    }
}
