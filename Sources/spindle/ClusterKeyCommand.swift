// `spindle cluster-key`: the one secret of a new cluster.

import ArgumentParser
import GatewayIO

struct ClusterKeyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster-key",
        abstract: "Make the key that all nodes of a cluster share.",
        discussion: """
            Writes 32 random octets as text into a new file that only its owner may use. Make it \
            once, copy it to every node over a way that nobody else can read, and name it in the \
            configurations as `cluster: {key: FILE}`. Whoever has it can pass for a node, and read \
            the keys of all tunnels in the store.

            The tag that is printed follows from the key and is public. `spindle check` says it, \
            too: nodes with different tags are not one cluster.

            Example:
              spindle cluster-key /etc/spindle/cluster.key
            """)

    @Argument(help: "The file to make. One that is there is never replaced.", completion: .file())
    var file: String

    func run() throws {
        let tag = try ClusterKeyFile.create(path: file)
        print("\(printable(path: file)): a new cluster key with the tag \(tag)")
    }
}
