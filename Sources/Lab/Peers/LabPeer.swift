// What the director asks of whoever is at the other end of tunnels.

/// One daemon with some of the tunnels.
protocol LabPeer: AnyObject {
    /// Sets all tunnels up and waits until they stand.
    func initiate() throws(LabError)
    /// Begins to renew the keys of a tunnel's pair.
    func rekey(_ tunnel: LabPlan.Tunnel) throws(LabError)
    /// What happened to the tunnels' SAs since the last call.
    func takeEvents() throws(LabError) -> [PeerEvent]
}
