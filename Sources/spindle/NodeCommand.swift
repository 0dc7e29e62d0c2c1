// `spindle node`: one live node, until a signal ends it.

import ArgumentParser
import Cluster
import EtcdMessages
import EtcdStore
import Foundation
import GatewayIO

struct NodeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node",
        abstract: "Run a live gateway: IKEv2 with real peers, ESP on real networks.",
        discussion: """
            Answers IKE on UDP 500 and 4500, takes and sends ESP in UDP and as an IP protocol of \
            its own, and routes what the peers protect through a TUN device. Needs CAP_NET_ADMIN \
            and CAP_NET_RAW, and CAP_NET_BIND_SERVICE for the ports. The log goes to standard error.

            SIGTERM and SIGINT end it: peers are told, or with --handover not. SIGHUP reads the \
            connections, keys and pools again; addresses, ports, devices, the state directory and \
            manually keyed associations stay as they were, and a warning names those that were \
            changed. With a state directory the next start \
            goes on with the numbers of this one, also after a crash.

            Examples:
              spindle check --config docs/examples/psk-responder.yaml
              spindle node --config docs/examples/psk-responder.yaml
            """)

    @Option(help: "The configuration, in YAML.", completion: .file())
    var config = "/etc/spindle/node.yaml"

    @Flag(help: "At the end, tell the peers nothing: the next start goes on. Needs `state`.")
    var handover = false

    func run() throws {
        let configuration: NodeConfiguration
        do throws(ConfigurationFaults) {
            configuration = try NodeConfigurationFile.read(path: config)
        } catch {
            complain(faults: error.faults)
            throw ExitCode.failure
        }
        guard !handover || configuration.cluster == nil else {
            throw CommandError(
                "--handover: a member of a cluster hands over by itself: leave the option out")
        }
        guard !handover || configuration.stateDirectory != nil else {
            throw NodeError.needsState("--handover leaves the tunnels to the next start")
        }
        let node = try LiveNode(configuration, store: Self.store(configuration)) { level, text in
            complain("\(Self.time()) \(level.rawValue) \(text)")
        }
        // Whoever reads the log may go before the node does.
        signal(SIGPIPE, SIG_IGN)
        if handover { node.farewell = .handover }
        node.reload = { [config] in
            do throws(ConfigurationFaults) {
                return try NodeConfigurationFile.read(path: config)
            } catch {
                error.faults.forEach { complain("\(Self.time()) warning \($0)") }
                return nil
            }
        }
        node.run()
    }

    /// How a member of a cluster reaches what all members have in common.
    private static func store(_ configuration: NodeConfiguration) -> LiveNode.Store? {
        guard let settings = configuration.cluster?.store else { return nil }
        func connect() throws(NodeError) -> any CoordinationBackend {
            do throws(EtcdError) {
                return try EtcdClient(settings)
            } catch {
                throw .store(error)
            }
        }
        return connect
    }

    /// UTC with milliseconds, as RFC 3339 writes it.
    private static func time() -> String {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        var parts = tm()
        gmtime_r(&now.tv_sec, &parts)
        let milliseconds = now.tv_nsec / 1_000_000
        func padded(_ value: some BinaryInteger, _ width: Int) -> String {
            let digits = String(value)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        return "\(parts.tm_year + 1900)-\(padded(parts.tm_mon + 1, 2))-\(padded(parts.tm_mday, 2))"
            + "T\(padded(parts.tm_hour, 2)):\(padded(parts.tm_min, 2)):\(padded(parts.tm_sec, 2))"
            + ".\(padded(milliseconds, 3))Z"
    }
}
