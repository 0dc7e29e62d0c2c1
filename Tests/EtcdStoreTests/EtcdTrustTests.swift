// Several members, and who is believed.

import Cluster
import Crypto
import EtcdMessages
import Foundation
import Glibc
import Testing

@testable import EtcdStore

extension LiveEtcd {
    @Suite struct Members {
        @Test func theLeaderDiesAndNothingIsLost() throws {
            let servers = try EtcdServer.cluster(3)
            for server in servers { try server.waitUntilHealthy() }
            let driver = try StoreDriver(servers)
            let watch = driver.submit(.watch(prefix: "w/", from: 1))
            #expect(try driver.answer(watch) == .watching)
            let writer = Writer(driver)
            for _ in 0..<2 {
                try writer.write(60)
                guard let leader = try servers.first(where: { try $0.status().isLeader }) else {
                    throw TestTrouble("nobody leads")
                }
                leader.kill()
                try writer.write(60)
                try leader.start()
                try leader.waitUntilHealthy()
            }
            try writer.finish()
            let end = try servers[0].keys("w/").count
            try driver.wait("the watch has told all") {
                driver.changes[watch, default: []].count >= end
            }
            try writer.book.requireHeld(
                by: servers[0], watch: driver.changes[watch, default: []])
            #expect(driver.lost.isEmpty)
        }

        /// One member of three answers on its port, but can serve nobody.
        @Test func aMinorityIsUnavailable() throws {
            let servers = try EtcdServer.cluster(3)
            for server in servers { try server.waitUntilHealthy() }
            let driver = try StoreDriver([servers[0]])
            _ = try driver.write("before")
            servers[1].kill()
            servers[2].kill()
            try driver.wait("the client notices") { driver.client.trouble != nil }
            #expect(try driver.ask(.put("never")) == .failed(.unavailable))
            #expect(try driver.ask(.read(prefix: "")) == .failed(.unavailable))
            try servers[1].start()
            _ = try driver.write("after")
            #expect(try servers[0].keys("never").isEmpty)
        }

        /// Half of the members' machines hang: their connections stay.
        @Test func aStoppedMemberIsLeft() throws {
            let servers = try EtcdServer.cluster(3)
            for server in servers { try server.waitUntilHealthy() }
            let driver = try StoreDriver(servers)
            let watch = driver.submit(.watch(prefix: "", from: 1))
            #expect(try driver.answer(watch) == .watching)
            for server in servers {
                _ = try driver.write("before")
                server.stop()
                let revision = try driver.write("while it is stopped")
                try driver.wait("the watch tells") {
                    driver.changes[watch, default: []].last?.revision == revision
                }
                server.resume()
                try server.waitUntilHealthy()
            }
            #expect(driver.client.statistics.failovers >= 1)
        }

        @Test func anotherClusterIsRefused() throws {
            let (first, second) = (try EtcdServer.alone(), try EtcdServer.alone())
            let between = try Interposer(to: first.endpoint)
            defer { between.end() }
            let driver = try StoreDriver(
                EtcdConfiguration(endpoints: [between.endpoint, second.endpoint]))
            _ = try driver.write("a")
            let isFirst = try !first.keys("a").isEmpty
            if isFirst { between.mode = .refuse } else { second.kill() }
            try driver.wait("the client notices") { driver.client.trouble != nil }
            #expect(try driver.ask(.put("b")) == .failed(.unavailable))
            #expect(try (isFirst ? second : first).keys("").isEmpty)
        }
    }

    @Suite struct Trust {
        @Test func bothEndsProveWhoTheyAre() throws {
            let certificates = try Certificates()
            let server = try EtcdServer.alone(tls: certificates)
            let byName = EtcdEndpoint(host: "localhost", port: server.endpoint.port)
            for endpoint in [server.endpoint, byName] {
                let driver = try StoreDriver(
                    EtcdConfiguration(endpoints: [endpoint], tls: certificates.settings()))
                let watch = driver.submit(.watch(prefix: "", from: 1))
                #expect(try driver.answer(watch) == .watching)
                let revision = try driver.write("\(endpoint)")
                try driver.wait("the watch tells") {
                    driver.changes[watch]?.last?.revision == revision
                }
                #expect(try server.keys("\(endpoint)").values.first == revision)
            }
        }

        @Test func theUntrustedGetNothing() throws {
            let certificates = try Certificates()
            let server = try EtcdServer.alone(tls: certificates)
            let wrong: [(String, EtcdTLS?)] = [
                ("another authority", certificates.settings(authority: "other")),
                ("another name", certificates.settings(serverName: "elsewhere.example")),
                ("another address", certificates.settings(serverName: "127.0.0.2")),
                ("no certificate", certificates.settings(identity: nil)),
                ("a certificate of another authority", certificates.settings(identity: "stranger")),
                ("no TLS", nil),
            ]
            for (what, tls) in wrong {
                let driver = try StoreDriver(
                    EtcdConfiguration(endpoints: [server.endpoint], tls: tls))
                #expect(try driver.ask(.put("never")) == .failed(.unavailable), "\(what)")
                switch (driver.client.trouble, tls) {
                case (.untrusted?, _?): break
                case (.malformed?, nil), (.unreachable?, nil): break
                case let other: Issue.record("\(what): \(other)")
                }
            }
            #expect(try server.keys("").isEmpty)
            #expect(
                try StoreDriver(
                    EtcdConfiguration(
                        endpoints: [server.endpoint],
                        tls: certificates.settings(serverName: "localhost"))
                ).write("a") > 1)
        }

        @Test func certificatesAreForTheirHostsOnly() {
            let names: [AlternativeName] = [
                .dns("etcd.lab.example"), .dns("*.Pool.example"), .dns("*.example"),
                .ip([10, 0, 0, 1]), .ip([UInt8](repeating: 0, count: 15) + [1]),
            ]
            for host in [
                "etcd.lab.example", "ETCD.lab.example.", "m1.pool.example", "10.0.0.1", "::1",
            ] {
                #expect(ServerName(host).matches(names), "\(host)")
            }
            for host in [
                "lab.example", "m1.example", "a.m1.pool.example", "pool.example", ".pool.example",
                "10.0.0.2", "::2", "", "*.pool.example.org",
            ] {
                #expect(!ServerName(host).matches(names), "\(host)")
            }
            #expect(ServerName("10.0.0.1").indication == nil)
            #expect(!ServerName("10.0.0.1").matches([.dns("10.0.0.1")]))
        }

        @Test func badFilesAreRefusedInWords() throws {
            let certificates = try Certificates()
            func trouble(_ tls: EtcdTLS) throws -> EtcdError {
                do throws(EtcdError) {
                    _ = try EtcdClient(
                        EtcdConfiguration(endpoints: [EtcdEndpoint(host: "localhost")], tls: tls))
                } catch {
                    return error
                }
                throw TestTrouble("taken")
            }
            var settings = certificates.settings()
            settings.authority = certificates.path("missing.pem")
            guard case .file = try trouble(settings) else { throw TestTrouble("no file") }
            settings.authority = certificates.path("node.key")
            guard case .certificate = try trouble(settings) else { throw TestTrouble("a key") }
            settings = certificates.settings()
            settings.key = certificates.path("server.key")
            guard case .key = try trouble(settings) else { throw TestTrouble("another key") }
            settings.key = certificates.path("node.pem")
            _ = chmod(certificates.path("node.pem"), 0o600)
            guard case .key = try trouble(settings) else { throw TestTrouble("no key") }
            settings.key = nil
            #expect(try trouble(settings) == .halfIdentity)
            settings = certificates.settings()
            _ = chmod(certificates.path("node.key"), 0o640)
            guard case .exposedKey = try trouble(settings) else { throw TestTrouble("exposed") }
            for error in [EtcdError.noEndpoint, try trouble(settings)] {
                #expect("\(error)".contains(":") && !"\(error)".contains("\n"))
            }
        }
    }
}
