// The instructions of the kernel's packet filters (McCanne and Jacobson, "The BSD Packet Filter",
// 1993; Linux: Documentation/networking/filter.rst), and how programs are put together of them.

/// One instruction of classic BPF, laid out as the kernel's `sock_filter`.
///
///     0  2  code
///     2  1  so many instructions are left out when the comparison holds
///     3  1  … and when it does not
///     4  4  value: a constant, an offset, or how far a plain jump goes
public struct FilterInstruction: Hashable, Sendable {
    /// What is done.
    public let code: UInt16
    /// How many instructions a comparison that holds leaves out.
    public let jumpTrue: UInt8
    /// How many instructions a comparison that fails leaves out.
    public let jumpFalse: UInt8
    /// The operand.
    public let value: UInt32

    /// The longest program that the kernel takes (BPF_MAXINSNS).
    public static let countMaximum = 4096

    /// An instruction from its fields.
    public init(code: UInt16, jumpTrue: UInt8 = 0, jumpFalse: UInt8 = 0, value: UInt32) {
        self.code = code
        self.jumpTrue = jumpTrue
        self.jumpFalse = jumpFalse
        self.value = value
    }
}

/// What an instruction does. A is the accumulator, X the index register, M one of 16 words, P the
/// packet. A load from behind the packet's end ends the program: nothing is accepted.
enum FilterOperation: UInt16 {
    /// A = P[k:4]
    case loadWord = 0x20
    /// A = P[k:2]
    case loadHalf = 0x28
    /// A = P[k:1]
    case loadOctet = 0x30
    /// A = P[X+k:4]
    case loadWordAtX = 0x40
    /// A = P[X+k:2]
    case loadHalfAtX = 0x48
    /// A = P[X+k:1]
    case loadOctetAtX = 0x50
    /// A = k
    case loadConstant = 0x00
    /// A = M[k]
    case loadMemory = 0x60
    /// X = k
    case indexConstant = 0x01
    /// X = M[k]
    case indexMemory = 0x61
    /// X = 4 · (P[k:1] & 15): the length of an IPv4 header
    case indexHeaderLength = 0xB1
    /// M[k] = A
    case store = 0x02
    /// M[k] = X
    case storeIndex = 0x03
    /// A += k
    case add = 0x04
    /// A += X
    case addIndex = 0x0C
    /// A *= k, modulo 2³²
    case multiply = 0x24
    /// A &= k
    case and = 0x54
    /// A ^= X
    case exclusiveOrIndex = 0xAC
    /// A <<= k
    case shiftLeft = 0x64
    /// A >>= k
    case shiftRight = 0x74
    /// A >>= X
    case shiftRightByIndex = 0x7C
    /// X = A
    case toIndex = 0x07
    /// A = X
    case fromIndex = 0x87
    /// End: accept k octets; 0: nothing
    case finish = 0x06
}

/// What a comparison compares A with its constant for.
enum FilterComparison: UInt16 {
    case equal = 0x15
    case above = 0x25
    case atLeast = 0x35
    /// A & k != 0
    case anyBit = 0x45
}

/// Where a jump goes. All jumps go forward.
struct FilterLabel: Hashable {
    fileprivate let number: Int
}

/// A program in the making: instructions in order, with labels for what is jumped to.
///
/// The kernel's comparisons jump 255 instructions at most. Where a label is farther away, a plain
/// jump is put behind the comparison, which knows no limit.
struct FilterAssembler {
    private enum Item {
        case operation(FilterOperation, UInt32)
        case comparison(FilterComparison, UInt32, then: FilterLabel?, otherwise: FilterLabel?)
        case jump(FilterLabel)
        case label(FilterLabel)
    }

    private static let plainJump: UInt16 = 0x05
    private static let reach = 255
    private var items: [Item] = []
    private var labelCount = 0

    /// A label to be placed later.
    mutating func label() -> FilterLabel {
        labelCount += 1
        return FilterLabel(number: labelCount)
    }

    /// The next instruction is what `label` stands for.
    mutating func place(_ label: FilterLabel) { items.append(.label(label)) }

    mutating func append(_ operation: FilterOperation, _ value: UInt32 = 0) {
        items.append(.operation(operation, value))
    }

    /// Compares A with a constant and jumps; without a label it goes on behind.
    mutating func compare(
        _ comparison: FilterComparison, _ value: UInt32, then: FilterLabel? = nil,
        otherwise: FilterLabel? = nil
    ) {
        items.append(.comparison(comparison, value, then: then, otherwise: otherwise))
    }

    mutating func jump(_ label: FilterLabel) { items.append(.jump(label)) }

    /// The program. Put together from its end, so that the place of every label is known before
    /// the jumps to it.
    func assemble() -> [FilterInstruction] {
        var reversed: [FilterInstruction] = []
        // How many instructions stand from a label to the end.
        var places: [FilterLabel: Int] = [:]
        func distance(_ label: FilterLabel) -> Int {
            guard let place = places[label] else { preconditionFailure("a jump goes backward") }
            return reversed.count - place
        }
        func plainJump(_ label: FilterLabel) {
            let value = UInt32(distance(label))
            reversed.append(FilterInstruction(code: Self.plainJump, value: value))
        }
        for item in items.reversed() {
            switch item {
            case .operation(let operation, let value):
                reversed.append(FilterInstruction(code: operation.rawValue, value: value))
            case .label(let label):
                places[label] = reversed.count
            case .jump(let label):
                if distance(label) > 0 { plainJump(label) }
            case .comparison(let comparison, let value, let then, let otherwise):
                // What goes on behind must still do so when plain jumps are put in between.
                let next = reversed.count
                var ends = [then, otherwise].map { $0 == nil ? next : nil }
                for (index, label) in [then, otherwise].enumerated() {
                    guard let label else { continue }
                    // One more may be put in for the other label.
                    if distance(label) + 1 > Self.reach {
                        plainJump(label)
                        ends[index] = reversed.count
                    } else {
                        ends[index] = places[label]
                    }
                }
                let jumps = ends.map { UInt8(reversed.count - ($0 ?? next)) }
                reversed.append(
                    FilterInstruction(
                        code: comparison.rawValue, jumpTrue: jumps[0], jumpFalse: jumps[1],
                        value: value))
            }
        }
        return reversed.reversed()
    }
}
