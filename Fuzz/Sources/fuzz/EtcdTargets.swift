// What may answer in the place of etcd.

import Cluster
import EtcdMessages

/// The first octet says which question is answered; each line is an answer to it.
func etcdAnswer(_ bytes: UnsafeRawBufferPointer) {
    guard let first = bytes.first else { return }
    let form = EtcdAnswer.Form.allCases[Int(first) % EtcdAnswer.Form.allCases.count]
    var watch = WatchAssembly(keyPrefix: "lab/", prefix: "spindle/", from: 5)
    var read = PagedRead(keyPrefix: "lab/", prefix: "spindle/")
    var last: UInt64 = 4
    for line in bytes.dropFirst().split(separator: UInt8(ascii: "\n")) {
        _ = try? EtcdRefusal.read(Array(line))
        guard let answer = try? EtcdAnswer.read(Array(line), as: form) else { continue }
        guard let changes = try? watch.take(answer) else {
            watch.restart()
            continue
        }
        for change in changes {
            precondition(change.revision >= last && change.revision < watch.next)
            precondition(Array(change.key.utf8).starts(with: Array("spindle/".utf8)))
            last = change.revision
        }
        last = watch.next - 1
        guard read.reply == nil, (try? read.take(answer)) != nil else { continue }
        if case .pairs(let pairs, let revision)? = read.reply {
            precondition(pairs.allSatisfy { $0.modRevision <= revision })
            let keys = pairs.map { Array($0.key.utf8) }
            precondition(
                zip(keys, keys.dropFirst()).allSatisfy { $0.lexicographicallyPrecedes($1) })
        }
    }
}
