// `spindle node`: one live node, until a signal ends it.

import ArgumentParser
import Cluster
import EtcdMessages
import EtcdStore
import Foundation
import GatewayIO
import Logging
import Monitoring

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

    @Option(help: "The least that a line of the log must matter: debug, info or warning.")
    var logLevel = LogThreshold.info

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
        let log = Logger(label: "spindle") { _ in LogLines(logLevel: logLevel.level) }
        let etcd = StoreStatistics()
        let node = try LiveNode(configuration, store: Self.store(configuration, etcd)) {
            log.log(level: $0.level, "\($1)")
        }
        // Not before: its thread would take the signals.
        if let address = configuration.monitor {
            let monitor = try MonitorServer(address) { etcd.metrics() }
            node.monitor = monitor
            log.info("serving metrics and health at http://\(monitor.address)/")
        }
        // Whoever reads the log may go before the node does.
        signal(SIGPIPE, SIG_IGN)
        if handover { node.farewell = .handover }
        node.reload = { [config] in
            do throws(ConfigurationFaults) {
                return try NodeConfigurationFile.read(path: config)
            } catch {
                error.faults.forEach { log.warning("\($0)") }
                return nil
            }
        }
        node.run()
    }

    /// How a member of a cluster reaches what all members have in common.
    private static func store(
        _ configuration: NodeConfiguration, _ statistics: StoreStatistics
    ) -> LiveNode.Store? {
        guard let settings = configuration.cluster?.store else { return nil }
        func connect() throws(NodeError) -> any CoordinationBackend {
            do throws(EtcdError) {
                let client = try EtcdClient(settings)
                statistics.follow(client)
                return client
            } catch {
                throw .store(error)
            }
        }
        return connect
    }
}
