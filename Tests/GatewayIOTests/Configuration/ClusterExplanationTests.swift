// What would fool us: words that are always the same. So each is asked for with another setting,
// too, and what is not to be said is looked for.

import Foundation
import GatewayIO
import Testing

@Suite struct ClusterExplanationTests {
    private func lines(_ text: ConfigurationText) throws -> String {
        try text.parse().configuration.explanation().joined(separator: "\n")
    }

    @Test func theExampleIsExplained() throws {
        let folder = repository.appending(path: "docs/examples")
        func octets(_ name: String) throws -> [UInt8] {
            Array(try Data(contentsOf: folder.appending(path: name)))
        }
        var text = ConfigurationText(
            String(decoding: try octets("cluster-node.yaml"), as: UTF8.self))
        text.files = ConfigurationText.member.files
        text.files["etcd-ca.pem"] = text.files["ca.pem"]
        text.files["cluster-node.secrets.yaml"] = try octets("cluster-node.secrets.yaml")
        #expect(try text.parse().warnings == [])
        let said = try lines(text)
        for part in [
            "is node 3 of the cluster with the key tag 9f89909b2739",
            "who send to 192.0.2.1, 2001:db8::1 on eth0",
            "what is behind 10.88.0.1, 2001:db8:88::1 on eth1",
            // 9f with the two bits of a group address and a local one is 9f.
            "the MAC address 9f:89:90:9b:27:39",
            "packets to 10.80.0.0/16 to the router 10.88.0.2 on eth1",
            "etcd at 10.99.0.11:2379, 10.99.0.12:2379, 10.99.0.13:2379, with TLS, known as "
                + "etcd.lab.example, trusting etcd-ca.pem, showing node.pem",
            "begin with lab/spindle/", "from 10.99.0.3, UDP 4501",
            "a heartbeat each 10ms; a node that misses 3 serves nothing after 30ms",
            "after 2s at the earliest", "by 256 identifiers; each tunnel is known to all nodes",
            "Host of node 3",
            "\n  ip address add 192.0.2.1/32 dev lo\n  ip address add 2001:db8::1/128 dev lo\n",
            "net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2 "
                + "net.ipv4.icmp_echo_ignore_all=1\n  sysctl -w net.ipv6.icmp.echo_ignore_all=1\n",
            "\n  ip link set dev eth0 up\n  ip link set dev eth1 up\n",
        ] {
            #expect(said.contains(part), "\(part) in \(said)")
        }
        // What a node alone has; what is secret; what the host has of its own.
        for part in ["TUN", "state", "0a0b0c", "everybody can read", "10.88.0.1/32"] {
            #expect(!said.contains(part), "\(part) in \(said)")
        }
    }

    @Test(arguments: [
        ("node: 3", "node: 3\n  shared_mac: multicast", "MAC address 01:00:5e:1b:27:39"),
        ("node: 3", "node: 3\n  heartbeat: 100ms\n  heartbeats_missed: 4", "after 400ms, and"),
        ("node: 3", "node: 3\n  session: 7s", "after 7s at"),
        ("node: 3", "node: 3\n  identifiers: 1024", "by 1024 identifiers"),
        ("node: 3", "node: 3\n  backups: 1", "its owner, its successor and 1 backup\n"),
        ("node: 3", "node: 3\n  backups: 2", "its owner, its successor and 2 backups\n"),
        ("node: 3", "node: 3\n  takeover: strict", "refuses all that may be replays"),
        ("node: 3", "node: 3\n  takeover: learn", "counts what may be replays"),
        ("node: 3", "node: 3\n  when_full: host", "served from host memory"),
        ("node: 3", "node: 3\n  when_full: wait", "its packets are dropped"),
        ("node: 3", "node: 3\n  when_full: refuse", "is refused, and the peer told"),
        ("eth0", "a'$(x)", "ip link set dev 'a'\\''$(x)' up"),
    ])
    func eachSettingIsSaid(old: String, new: String, part: String) throws {
        let said = try lines(ConfigurationText.member.replacing(old, new))
        #expect(said.contains(part), "\(said)")
        #expect(said.contains("without TLS; its keys begin with spindle/"))
        // It has no address of IPv6.
        #expect(!said.contains("ipv6"), "\(said)")
    }

    @Test func aNodeAloneHasNoCluster() throws {
        let said = try lines(.simple)
        #expect(!said.contains("luster") && !said.contains("sysctl"), "\(said)")
        #expect(said.contains("TUN device spindle0") && said.contains("memory only"))
    }
}
