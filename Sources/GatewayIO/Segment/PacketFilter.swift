// Filters of the kernel's on sockets (SO_ATTACH_FILTER).

internal import CLinux
internal import Cluster
internal import Glibc

extension LentDescriptor {
    /// Has the kernel drop what a program does not accept, from the next packet on. It takes the
    /// place of the one before in one step: each packet is judged by one of the two. What waits to
    /// be read was judged by the one before.
    ///
    /// `pcap_setfilter` must not be used for this: it attaches a filter that accepts nothing, looks
    /// whether anything waits, and then attaches the new one. What comes meanwhile is lost.
    func attach(_ program: [FilterInstruction]) throws(NodeError) {
        precondition((1...FilterInstruction.countMaximum).contains(program.count))
        var instructions = program.map { instruction in
            sock_filter(
                code: instruction.code, jt: instruction.jumpTrue, jf: instruction.jumpFalse,
                k: instruction.value)
        }
        let result = instructions.withUnsafeMutableBufferPointer { buffer in
            var program = sock_fprog(len: UInt16(buffer.count), filter: buffer.baseAddress)
            return setsockopt(
                number, SOL_SOCKET, SO_ATTACH_FILTER, &program,
                socklen_t(MemoryLayout<sock_fprog>.size))
        }
        guard result == 0 else {
            if errno == ENOMEM {
                throw .system(
                    doing: "attaching a filter of \(program.count) instructions",
                    reason: "no room: raise net.core.optmem_max")
            }
            throw .last("attaching a filter to a socket")
        }
    }
}

extension DatagramSocket {
    /// Has the kernel drop the datagrams of other nodes.
    ///
    /// A filter sees the first datagram only of a row that the kernel joined (UDP_GRO), and the
    /// whole row goes its way. So whoever reads a row checks each datagram in it
    /// (`Distribution.share(ofPayload:hasMarker:)`), and relays those of others to their owners
    /// (`SegmentSender.relay`): nobody else may have got them.
    func attach(_ program: [FilterInstruction]) throws(NodeError) {
        try LentDescriptor(number: descriptor.number).attach(program)
    }
}
