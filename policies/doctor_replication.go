package policies

import (
	"fmt"
	"strings"
)

// settings are those of replication that would make a repair fail, or that make one likely.
func (d *Doctor) settings(n Node, c Checkup) {
	before := len(d.results)
	if len(d.Instance.Nodes) > 1 {
		d.masterAuth(n, c)
		d.writable(n, c)
		d.buffers(n, c)
		d.timing(n, c)
	}
	if len(d.results) == before {
		d.say(HealthOK, n, CheckReplication, "", "no setting of replication stands in the way of a repair")
	}
}

// masterAuth: what keeps a replica from logging in at its master.
func (d *Doctor) masterAuth(n Node, c Checkup) {
	m := d.of(d.Instance.Master().Name)
	switch {
	case n.Role != RoleReplica || m.Node == c.Node || !m.AuthRequired.Known || !c.MasterAuthSet.Known:
	case m.AuthRequired.V && !c.MasterAuthSet.V:
		d.say(HealthError, n, CheckReplication, "CONFIG SET masterauth (and masteruser) on "+n.Name+", and CONFIG REWRITE", "it has no masterauth and its master %s wants a password: it cannot follow", m.Node)
	case !m.AuthRequired.V && c.MasterAuthSet.V && c.MasterUser.Or("") == "":
		d.say(d.breaking(ReattachReplica), n, CheckReplication, `CONFIG SET masterauth "" on `+n.Name, "it has a masterauth and its master %s wants no password: its login would fail", m.Node)
	}
}

func (d *Doctor) writable(n Node, c Checkup) {
	if n.Role == RoleReplica && !c.Replication.ReadOnly.Or(true) {
		d.say(d.breaking(ReattachReplica), n, CheckReplication, "CONFIG SET replica-read-only yes on "+n.Name, "replica-read-only is no: it may hold writes of its own, and a full copy over them is denied")
	}
	replicas := int64(len(d.Instance.Nodes) - 1)
	if need := c.MinReplicas.Or(0); need >= replicas && need > 0 && n.Role == RoleMaster {
		d.say(HealthWarning, n, CheckReplication, "lower min-replicas-to-write, or add a replica", "min-replicas-to-write is %d of %d: one replica off and it refuses writes", need, replicas)
	}
	if n.Role == RoleReplica && d.Instance.ManagedBy == ManagedBySentinel && c.Priority.Known && c.Priority.V == 0 && replicas == 1 {
		d.say(HealthWarning, n, CheckReplication, "CONFIG SET replica-priority 100 on "+n.Name, "replica-priority is 0: Sentinel never promotes it, and there is no other")
	}
}

const (
	bigDataset    = 256 << 20 // bytes, from which on a full copy is worth to be avoided
	leastBacklog  = 16 << 20
	leastToStream = 1 << 20 // bytes a second that a master should be able to take while it is copied
)

// buffers: a backlog too small makes every short break a full copy, an output buffer too small makes a full copy fail for ever.
func (d *Doctor) buffers(n Node, c Checkup) {
	m, dataset := c.Memory, c.Memory.Dataset.Or(0)
	if b := m.BacklogSize; b.Known && b.V < leastBacklog && dataset > bigDataset {
		d.say(HealthWarning, n, CheckReplication, fmt.Sprintf("CONFIG SET repl-backlog-size %d or more", int64(leastBacklog)), "repl-backlog-size is %s and its data %s: a break of a moment makes a full copy", size(b.V), size(dataset))
	}
	limit := c.ReplicaBuffer
	if !limit.Known || limit.V.Hard == 0 {
		return
	}
	if need := RoomForCopy(dataset, leastToStream); limit.V.Hard < need {
		d.say(HealthWarning, n, CheckReplication, fmt.Sprintf("CONFIG SET client-output-buffer-limit \"replica %d %d 60\"", need, need),
			"client-output-buffer-limit of replicas is %s and its data %s: a full copy is cut off, and begun anew, when %s a second are written meanwhile", size(limit.V.Hard), size(dataset), size(leastToStream))
	}
}

func (d *Doctor) timing(n Node, c Checkup) {
	if t, ping := c.ReplTimeout, c.PingPeriod; t.Known && ping.Known && t.V <= ping.V {
		d.say(HealthError, n, CheckReplication, "set repl-timeout well above repl-ping-replica-period", "repl-timeout (%d s) is not above repl-ping-replica-period (%d s): every quiet link breaks", t.V, ping.V)
	}
}

// topology holds the nodes against what the config says of them.
func (d *Doctor) topology(n Node, c Checkup) {
	before := len(d.results)
	d.role(n, c)
	d.olderThanMaster(n, c)
	d.strangers(n, c)
	if len(d.results) == before {
		d.say(HealthOK, n, CheckTopology, "", "it is the %s that the config says", n.Role)
	}
}

func (d *Doctor) role(n Node, c Checkup) {
	r, master := c.Replication, d.Instance.Master()
	f := ReattachFacts{Facts: Facts{Instance: d.Instance}, XNode: n, MNode: master, X: c.Snapshot, M: d.of(master.Name).Snapshot, Group: d.group()}
	up, inside := f.Group.upstream(c.Snapshot)
	of := fmt.Sprintf("%s:%d", r.MasterHost, r.MasterPort)
	switch {
	case r.Role == "":
		d.say(HealthWarning, n, CheckTopology, "ask again", "its role changed while it was read")
	case n.Role == RoleMaster && r.Role == RoleReplica:
		d.say(HealthError, n, CheckTopology, "correct the roles in the config after a switchover, or bring the master back", "the config calls it the master and it is a replica of %s", of)
	case n.Role == RoleReplica && r.Role == RoleMaster:
		d.say(HealthWarning, n, CheckTopology, "dcshealer plan says whether it can be reattached", "the config calls it a replica and it is a master")
	case n.Role == RoleReplica && !inside && r.ReplID == f.M.Replication.ReplID && r.LinkUp.Or(false):
		d.say(d.breaking(ReattachReplica), n, CheckTopology, "set peer_address: "+of+" for "+master.Name, "it follows its master at %s, and by the config its peers reach that at %s", of, master.Peer())
	case n.Role == RoleReplica && !inside:
		d.say(HealthWarning, n, CheckTopology, "dcshealer plan says what can be done", "it follows %s, which is no node of %s", of, d.Instance.Name)
	case n.Role == RoleReplica && up.Name != master.Name && up.Name != "":
		d.say(HealthWarning, n, CheckTopology, "nothing, where a chain is meant", "it follows %s and not the master %s", up.Name, master.Name)
	case n.Role == RoleReplica && f.M.Reach.Answers() && f.translated() != "":
		d.say(d.breaking(ReattachReplica), n, CheckTopology, "set peer_address for "+master.Name, "%s, and where %s reaches it is not known", f.translated(), n.Name)
	}
}

// olderThanMaster: a replica older than its master is emptied by it.
func (d *Doctor) olderThanMaster(n Node, c Checkup) {
	m := d.of(d.Instance.Master().Name)
	if n.Role != RoleReplica || !m.Reach.Answers() {
		return
	}
	if reads, known := readsDataOf(c.Snapshot, m.Snapshot); known && !reads {
		d.say(d.breaking(ReattachReplica), n, CheckVersion, "upgrade "+n.Name, "%s %s is not known to read the data of its master's %s %s: repairs are denied", c.Product, c.Version, m.Product, m.Version)
	}
}

// strangers are replicas that the master shows and the config does not have.
func (d *Doctor) strangers(n Node, c Checkup) {
	if c.Replication.Role != RoleMaster {
		return
	}
	for _, line := range c.Replication.Replicas {
		if line.Port != 0 && !d.knows(line) {
			d.say(HealthWarning, n, CheckTopology, "add it to the nodes of "+d.Instance.Name+", or set peer_address for the node that it is", "a replica at %s is no node of the config", Address{Host: line.Host, Port: line.Port})
		}
	}
}

// knows reports whether a replica's line may be one of the nodes: by its peer address, or by its port and what its address resolves to.
func (d *Doctor) knows(line ReplicaLine) bool {
	for i, n := range d.Instance.Nodes {
		a, s := n.Peer(), d.Nodes[i]
		port := line.Port == a.Port || line.Port == s.TCPPort.Or(-1) || line.Port == s.TLSPort.Or(-1)
		if port && (strings.EqualFold(a.Host, line.Host) || overlap([]string{line.Host}, s.OwnIPs)) {
			return true
		}
	}
	return false
}

// twins are two names for one server.
func (d *Doctor) twins() {
	seen := map[string]string{}
	for i, c := range d.Nodes {
		if c.RunID == "" {
			continue
		}
		if first, twice := seen[c.RunID]; twice {
			d.say(HealthError, d.Instance.Nodes[i], CheckTopology, "correct the address of one of the two", "it is the same server as %s", first)
		}
		seen[c.RunID] = c.Node
	}
}
