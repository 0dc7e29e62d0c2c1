// swift-tools-version: 6.2
// Spindle: an IPsec VPN gateway cluster. `docs/architecture.md` explains the rooms; the arrows
// between the targets below are enforced again, per import line, by Tests/TidyTests.
import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .treatAllWarnings(as: .error),
    // Debug builds can switch off single rules of the cluster protocol, to test the checkers.
    .define("RULE_BREAKS", .when(configuration: .debug)),
]

let package = Package(
    name: "spindle",
    products: [
        .executable(name: "spindle", targets: ["spindle"]),
        .library(
            name: "Spindle",
            targets: [
                "Wire", "Crypto", "ESP", "CryptoCardSim", "Cluster", "EtcdMessages", "Gateway",
                "GatewayIO", "IKEStub", "Lab", "SimKit", "Verification",
            ]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        .systemLibrary(
            name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CPcap", pkgConfig: "libpcap", providers: [.apt(["libpcap-dev"])]),

        .target(name: "CLinux"),

        // Pure: no clock, socket, thread, environment or file.
        .target(name: "Wire", swiftSettings: strict),
        .target(name: "Crypto", dependencies: ["COpenSSL"], swiftSettings: strict),
        .target(name: "ESP", dependencies: ["Wire", "Crypto"], swiftSettings: strict),
        .target(
            name: "IKEStub",
            dependencies: [
                "Crypto", "ESP", "Wire",
                .product(name: "HeapModule", package: "swift-collections"),
            ],
            swiftSettings: strict),
        .target(
            name: "CryptoCardSim", dependencies: ["Crypto", "ESP", "Wire"], swiftSettings: strict),
        .target(name: "Cluster", dependencies: ["Crypto", "ESP", "Wire"], swiftSettings: strict),
        .target(
            name: "Gateway",
            dependencies: ["Cluster", "Crypto", "CryptoCardSim", "ESP", "IKEStub", "Wire"],
            swiftSettings: strict),
        .target(
            name: "SimKit",
            dependencies: [
                "Cluster", "Crypto", "CryptoCardSim", "ESP", "Gateway", "IKEStub", "Wire",
            ],
            swiftSettings: strict),

        // Edge and proof.
        .target(name: "EtcdMessages", dependencies: ["Cluster"], swiftSettings: strict),
        .target(
            name: "EtcdStore",
            dependencies: [
                "CLinux", "Cluster", "Crypto", "EtcdMessages",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOTLS", package: "swift-nio"),
            ],
            swiftSettings: strict),
        .target(
            name: "GatewayIO",
            dependencies: [
                "CLinux", "Cluster", "CPcap", "Crypto", "CryptoCardSim", "ESP", "EtcdMessages",
                "Gateway", "IKEStub", "Wire",
                .product(name: "Yams", package: "Yams"),
            ],
            swiftSettings: strict),
        .target(
            name: "Monitoring",
            dependencies: [
                "CLinux", "Cluster", "CryptoCardSim", "ESP", "Gateway", "GatewayIO", "IKEStub",
                "Wire",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: strict),
        .target(
            name: "Verification",
            dependencies: ["Crypto", "ESP", "GatewayIO", "IKEStub", "Wire"],
            swiftSettings: strict),
        .target(
            name: "Lab", dependencies: ["CLinux", "GatewayIO", "SimKit"], swiftSettings: strict),
        .executableTarget(
            name: "spindle",
            dependencies: [
                "Cluster", "Crypto", "CryptoCardSim", "ESP", "EtcdMessages", "EtcdStore",
                "Gateway", "GatewayIO", "IKEStub", "Lab", "Monitoring", "SimKit", "Verification",
                "Wire",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        // Packets, associations and stations for the tests; the heap counter stands in front of malloc.
        .target(
            name: "TestSupport",
            dependencies: ["Cluster", "Crypto", "CryptoCardSim", "ESP", "Wire"],
            path: "Tests/TestSupport", swiftSettings: strict),
        .target(name: "CMallocCounter", path: "Tests/CMallocCounter"),

        .testTarget(name: "TidyTests", swiftSettings: strict),
        .testTarget(
            name: "WireTests", dependencies: ["TestSupport", "Wire"], swiftSettings: strict),
        .testTarget(
            name: "CryptoTests", dependencies: ["COpenSSL", "Crypto", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "ESPTests",
            dependencies: ["CMallocCounter", "Crypto", "ESP", "TestSupport", "Wire"],
            swiftSettings: strict),
        .testTarget(
            name: "CryptoCardSimTests",
            dependencies: ["Crypto", "CryptoCardSim", "ESP", "TestSupport", "Wire"],
            swiftSettings: strict),
        .testTarget(
            name: "ClusterTests",
            dependencies: ["Cluster", "CMallocCounter", "Crypto", "ESP", "TestSupport", "Wire"],
            swiftSettings: strict),
        .testTarget(
            name: "GatewayTests",
            dependencies: [
                "Cluster", "CMallocCounter", "Crypto", "CryptoCardSim", "ESP", "Gateway",
                "IKEStub", "TestSupport", "Wire",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "SimKitTests",
            dependencies: [
                "Cluster", "Crypto", "ESP", "Gateway", "IKEStub", "SimKit", "TestSupport", "Wire",
            ],
            swiftSettings: strict),
        // Runs the built program; `Judges` are python programs that share no code with it.
        .testTarget(
            name: "EndToEndTests", dependencies: ["spindle"], exclude: ["Judges", "Live"],
            swiftSettings: strict),
        .testTarget(
            name: "GatewayIOTests",
            dependencies: [
                "CLinux", "Cluster", "CPcap", "Crypto", "ESP", "EtcdMessages", "Gateway",
                "GatewayIO", "IKEStub", "TestSupport", "Wire",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "IKEStubTests",
            dependencies: ["Crypto", "ESP", "IKEStub", "TestSupport", "Wire"],
            swiftSettings: strict),
        .testTarget(
            name: "EtcdStoreTests",
            dependencies: ["Cluster", "Crypto", "EtcdMessages", "EtcdStore", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "MonitoringTests",
            dependencies: [
                "Cluster", "Crypto", "CryptoCardSim", "ESP", "Gateway", "GatewayIO", "IKEStub",
                "Monitoring", "Wire",
            ],
            exclude: ["Judges"], swiftSettings: strict),
        .testTarget(
            name: "LabTests", dependencies: ["Lab", "TestSupport"], swiftSettings: strict),
        .testTarget(
            name: "VerificationTests", dependencies: ["Verification"], swiftSettings: strict),
    ]
)
