// `spindle drain`, `undrain`, `weight`, `rebalance` and `move`: what an operator asks of a cluster,
// through any of its nodes.

import ArgumentParser
import GatewayIO

/// Which node of the cluster a command is about.
struct NamedNode: ParsableArguments {
    @Argument(help: "The node's number, as in its configuration.")
    var node: UInt16

    func validate() throws {
        guard node >= 1 else { throw ValidationError("nodes are numbered from 1") }
    }
}

extension ControlOptions {
    /// Asks, with the same patience at both ends, and prints what became of it.
    func operate(_ request: ControlRequest) throws {
        var request = request
        request.seconds = timeout
        // The node gives up first, and says why.
        var patient = self
        patient.timeout = min(timeout + 5, 3600)
        if let end = try patient.ask(request).report { print(end) }
    }
}

struct DrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain",
        abstract: "Have the other members take all that a node has, without losing a packet.",
        discussion: """
            Any member may be asked. The node stays a member, and is given nothing until spindle \
            undrain, also when it is started again. To stop a node for a moment, SIGTERM is \
            enough: it hands over by itself, and takes its share again when it is back.

            Example:
              spindle drain 2 && ssh node2 systemctl stop spindle
            """)

    @OptionGroup var control: ControlOptions
    @OptionGroup var named: NamedNode

    func run() throws {
        var request = ControlRequest(.drain)
        request.node = named.node
        try control.operate(request)
    }
}

struct UndrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "undrain", abstract: "Let a drained node have its share again.")

    @OptionGroup var control: ControlOptions
    @OptionGroup var named: NamedNode

    func run() throws {
        var request = ControlRequest(.weight)
        request.node = named.node
        try control.operate(request)
    }
}

struct WeightCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "weight",
        abstract: "Say how much of the load a node shall have, beside the others.",
        discussion: """
            Without a weight a node weighs 1; one of weight 3 beside two of weight 1 has three \
            fifths. Load moves when it is far from that for a while; spindle rebalance does not \
            wait.
            """)

    @OptionGroup var control: ControlOptions
    @OptionGroup var named: NamedNode

    @Argument(help: "1 to 65535; spindle drain is for 0.")
    var weight: UInt16

    func validate() throws {
        guard weight >= 1 else {
            throw ValidationError("a weight is 1 to 65535: spindle drain takes everything away")
        }
    }

    func run() throws {
        var request = ControlRequest(.weight)
        request.node = named.node
        request.weight = weight
        try control.operate(request)
    }
}

struct RebalanceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rebalance",
        abstract: "Move identifiers now until the load is even, without losing a packet.")

    @OptionGroup var control: ControlOptions

    func run() throws { try control.operate(ControlRequest(.rebalance)) }
}

struct MoveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "move",
        abstract: "Move one distribution identifier to a node, without losing a packet.",
        discussion: """
            spindle status --identifiers shows who has which. Load may move it on later.
            """)

    @OptionGroup var control: ControlOptions

    @Argument(help: "The distribution identifier, from 0.")
    var identifier: UInt16

    @OptionGroup var named: NamedNode

    func run() throws {
        var request = ControlRequest(.move)
        request.identifier = identifier
        request.node = named.node
        try control.operate(request)
    }
}
