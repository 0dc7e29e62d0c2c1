// swift-tools-version: 6.2
// Fuzz targets, in a package of their own because they are built with -sanitize=fuzzer:
// scripts/fuzz does it.
import PackageDescription

let package = Package(
    name: "fuzz",
    dependencies: [.package(name: "spindle", path: "..")],
    targets: [
        .systemLibrary(name: "CFuzzer"),
        .executableTarget(
            name: "fuzz",
            dependencies: [
                "CFuzzer", .product(name: "Spindle", package: "spindle"),
            ],
            swiftSettings: [
                .swiftLanguageMode(.v6), .unsafeFlags(["-parse-as-library"]),
            ]),
    ]
)
