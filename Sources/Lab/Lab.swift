// The lab's two doors: one for the user's program, one for the process that it starts.

internal import Foundation

/// A cluster with everything around it, in namespaces of its own.
public enum Lab {
    /// Runs a lab and returns what it found out. What happens meanwhile is told on standard
    /// output. Whatever ends this process ends the lab, and nothing of it stays. After that this
    /// process can't start others.
    public static func run(_ options: LabOptions) throws(LabError) -> LabResult {
        try checkTools(options)
        guard let text = try? JSONEncoder().encode(options) else {
            preconditionFailure("options have only texts and numbers")
        }
        let (data, code) = try Seclusion.run(
            options.program, ["lab-director", String(decoding: text, as: UTF8.self)])
        guard !data.isEmpty else {
            throw LabError(
                code == nil ? "the lab was killed" : "the lab ended early, see above")
        }
        do {
            return try JSONDecoder().decode(LabResult.self, from: data)
        } catch {
            throw LabError("the lab's result can't be read: \(error)")
        }
    }

    /// The other side: the first process of a lab. `options`: JSON.
    public static func direct(_ options: String) throws(LabError) {
        guard let options = try? JSONDecoder().decode(LabOptions.self, from: Data(options.utf8))
        else { throw LabError("lab-director is a part of spindle lab: run that") }
        try Seclusion.enter()
        let director = try Director(options)
        let result = director.run()
        guard let data = try? JSONEncoder().encode(result) else {
            preconditionFailure("results have only texts and numbers")
        }
        let handle = FileHandle(
            fileDescriptor: Seclusion.resultDescriptor, closeOnDealloc: false)
        do {
            try handle.write(contentsOf: data)
        } catch {
            throw LabError("the lab's result could not be handed over: \(error)")
        }
    }

    /// True when strongSwan can be the peer.
    public static var hasStrongSwan: Bool {
        StrongSwanPeer.programs.allSatisfy(FileManager.default.isExecutableFile)
    }

    private static func checkTools(_ options: LabOptions) throws(LabError) {
        var tools = ["/usr/sbin/ip", "/usr/sbin/sysctl"]
        if options.peers == .strongswan { tools += StrongSwanPeer.programs }
        if options.nodes > 1 { tools.append("/usr/bin/etcd") }
        let missing = tools.filter { !FileManager.default.isExecutableFile(atPath: $0) }
        guard missing.isEmpty else {
            throw LabError(
                "not there: \(missing.joined(separator: ", ")): on Debian, run scripts/prepare lab")
        }
    }
}
