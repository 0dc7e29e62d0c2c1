// What the way to etcd has to tell a monitoring system.

import EtcdStore
import Monitoring
import Synchronization

/// The client of a node, once there is one.
final class StoreStatistics: Sendable {
    private let client = Mutex<EtcdClient?>(nil)

    func follow(_ client: EtcdClient) { self.client.withLock { $0 = client } }

    /// None for a node alone.
    func metrics() -> [Metric] {
        guard let client = client.withLock({ $0 }) else { return [] }
        let statistics = client.statistics
        func counter(_ name: String, _ help: String, _ value: UInt64) -> Metric {
            .one("spindle_etcd_\(name)_total", .counter, help, value)
        }
        return [
            .one(
                "spindle_etcd_usable", .gauge, "1 while a member of etcd answers.",
                client.trouble == nil ? 1 : 0),
            counter("answered", "Requests that etcd answered.", statistics.answered),
            counter("timed_out", "Requests without an answer in time.", statistics.timedOut),
            counter("unsent", "Requests that no member could be sent.", statistics.unsent),
            counter("connections", "Connections opened.", statistics.connections),
            counter("broken", "Connections that failed or ended.", statistics.broken),
            counter("malformed", "Answers that are not etcd's.", statistics.malformed),
            counter("failovers", "Changes to another member of etcd.", statistics.failovers),
            counter("resumptions", "Watches that went on anew.", statistics.resumptions),
            counter("stalls", "Watches that had fallen silent.", statistics.stalls),
            counter("foreign_keys", "Keys that no node can have written.", statistics.foreignKeys),
        ]
    }
}
