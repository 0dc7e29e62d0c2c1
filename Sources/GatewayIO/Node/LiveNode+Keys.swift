// Keys in the files that Wireshark reads, where an operator asks for them: whoever has them can
// read the traffic.

extension LiveNode {
    func writeKeys(_ request: ControlRequest, _ session: ControlSession) {
        session.say(.failed("not yet"))
    }
}
