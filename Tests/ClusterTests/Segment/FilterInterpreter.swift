// Runs classic BPF as the kernel does, from the definition of the instructions alone: the numbers
// are taken apart here by the bits of <linux/bpf_common.h>, and not by our compiler's names.

import Cluster

/// What a program does with a packet.
struct FilterInterpreter {
    let program: [FilterInstruction]
    /// What the kernel says of the packet: 0 to us, 2 to a group, 3 to another host, 4 outgoing.
    var packetType: UInt32 = 0
    /// Instructions that the last run took.
    private(set) var steps = 0

    init(_ program: [FilterInstruction], packetType: UInt32 = 0) {
        self.program = program
        self.packetType = packetType
    }

    private enum Fault: Error { case outside }

    /// Octets that are accepted; 0: none. Traps where the kernel would refuse the program.
    mutating func run(_ packet: [UInt8]) -> UInt32 {
        var (a, x): (UInt32, UInt32) = (0, 0)
        var memory = [UInt32?](repeating: nil, count: 16)
        var place = 0
        steps = 0
        while true {
            let instruction = program[place]
            let (code, k) = (instruction.code, instruction.value)
            place += 1
            steps += 1
            let operand = code & 0x08 != 0 ? x : k
            switch code & 0x07 {
            case 0x00, 0x01:
                let value: UInt32
                do { value = try load(code, k, x, memory, packet) } catch { return 0 }
                if code & 0x07 == 0 { a = value } else { x = value }
            case 0x02: memory[Int(k)] = a
            case 0x03: memory[Int(k)] = x
            case 0x04: a = calculate(code, a, operand)
            case 0x05: place += jump(instruction, a, operand)
            case 0x06: return k
            case 0x07: if code & 0xF8 == 0 { x = a } else { a = x }
            default: preconditionFailure("no such class")
            }
        }
    }

    private func load(
        _ code: UInt16, _ k: UInt32, _ x: UInt32, _ memory: [UInt32?], _ packet: [UInt8]
    ) throws -> UInt32 {
        func octets(_ place: UInt32, _ count: UInt32) throws -> UInt32 {
            guard UInt64(place) + UInt64(count) <= UInt64(packet.count) else {
                throw Fault.outside
            }
            return packet[Int(place)..<Int(place + count)].reduce(0) { $0 << 8 | UInt32($1) }
        }
        let count: UInt32 = [0x00: 4, 0x08: 2, 0x10: 1][code & 0x18] ?? 0
        switch code & 0xE0 {
        case 0x00: return k
        case 0x20: return k == 0xFFFF_F004 ? packetType : try octets(k, count)
        case 0x40: return try octets(x &+ k, count)
        case 0x60:
            guard let value = memory[Int(k)] else { preconditionFailure("not stored before") }
            return value
        case 0xA0: return 4 * (try octets(k, 1) & 0xF)
        default: preconditionFailure("no such mode")
        }
    }

    private func calculate(_ code: UInt16, _ a: UInt32, _ operand: UInt32) -> UInt32 {
        switch code & 0xF0 {
        case 0x00: return a &+ operand
        case 0x20: return a &* operand
        case 0x50: return a & operand
        case 0x60: return operand < 32 ? a << operand : 0
        case 0x70: return operand < 32 ? a >> operand : 0
        case 0xA0: return a ^ operand
        default: preconditionFailure("no such operation")
        }
    }

    private func jump(_ instruction: FilterInstruction, _ a: UInt32, _ operand: UInt32) -> Int {
        let holds: Bool
        switch instruction.code & 0xF0 {
        case 0x00: return Int(instruction.value)
        case 0x10: holds = a == operand
        case 0x20: holds = a > operand
        case 0x30: holds = a >= operand
        case 0x40: holds = a & operand != 0
        default: preconditionFailure("no such comparison")
        }
        return Int(holds ? instruction.jumpTrue : instruction.jumpFalse)
    }
}
