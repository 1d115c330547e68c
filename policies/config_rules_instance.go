package policies

import (
	"fmt"
	"slices"
	"strings"
)

// instances checks every instance and what must be one of a kind in the whole fleet.
func (r *rules) instances(c Config) {
	r.check(len(c.Instances) > 0, "instances", "", "at least one instance")
	names, nodes, addresses := holders{}, holders{}, holders{}
	for i, in := range c.Instances {
		path := fmt.Sprintf("instances[%d]", i)
		r.check(validName(in.Name), path+".name", in.Name, NameRule)
		r.single(names, in.Name, path+".name", in.Name, "a name that no other instance has")
		r.live(path+".live", in.Live)
		r.ladder(path, in)
		if p := c.PolicyOf(in); slices.Contains(in.Ladder, KillIdleClients) {
			clear := p.Clients.Critical - p.Clients.Clear
			r.check(p.Kill.Target <= clear, path+".ladder", KillIdleClients, fmt.Sprintf("a policy whose kill-idle-clients target, %v, is at most connected_clients critical less clear, %v: else it stops before the alarm clears", p.Kill.Target, clear))
		}
		r.policyName(c, path+".policy", in.Policy)
		r.renames(path+".renamed_commands", in.Renamed)
		r.nodes(path+".nodes", in)
		for j, n := range in.Nodes {
			path := fmt.Sprintf("%s.nodes[%d]", path, j)
			r.single(nodes, n.Name, path+".name", n.Name,
				"a name that no other node of the fleet has: an alarm's slave field names the node alone")
			r.single(addresses, samePlace(n.Address), path+".address", n.Address.String(), "an address that no other node of the fleet has")
		}
	}
}

func (r *rules) live(path string, live []Action) {
	for i, a := range live {
		r.check(slices.Contains(Actions[:], a), fmt.Sprintf("%s[%d]", path, i), a, "one of reclaim-expired, reattach-replica, purge-memory, evict-near-expiry, kill-idle-clients")
		if first := slices.Index(live, a); first < i {
			r.check(false, fmt.Sprintf("%s[%d]", path, i), a, "each action once", fmt.Sprintf("%s[%d]", path, first))
		}
	}
}

// ladder: a step is opted into before it can be live.
func (r *rules) ladder(path string, in Instance) {
	for i, a := range in.Ladder {
		r.check(slices.Contains(LadderSteps[:], a), fmt.Sprintf("%s.ladder[%d]", path, i), a, "purge-memory, evict-near-expiry or kill-idle-clients")
		if first := slices.Index(in.Ladder, a); first < i {
			r.check(false, fmt.Sprintf("%s.ladder[%d]", path, i), a, "each step once", fmt.Sprintf("%s.ladder[%d]", path, first))
		}
	}
	for i, a := range in.Live {
		r.check(!slices.Contains(LadderSteps[:], a) || slices.Contains(in.Ladder, a), fmt.Sprintf("%s.live[%d]", path, i), a, "a step that the instance's ladder names: ladder: ["+string(a)+"]")
	}
}

func (r *rules) policyName(c Config, path, name string) {
	if name == "" {
		return
	}
	_, ok := c.Policies[name]
	known := make([]string, 0, len(c.Policies))
	for p := range c.Policies {
		known = append(known, p)
	}
	slices.Sort(known)
	r.check(ok, path, name, "a policy from the policies section: "+strings.Join(known, ", "))
}

func (r *rules) nodes(path string, in Instance) {
	peers, masters, unknown := holders{}, []string{}, false
	for i, n := range in.Nodes {
		path := fmt.Sprintf("%s[%d]", path, i)
		r.check(validName(n.Name), path+".name", n.Name, NameRule)
		r.check(!n.Address.IsZero(), path+".address", "", "the node's address as HOST:PORT, such as 10.0.0.11:6379")
		r.check(n.Role == RoleMaster || n.Role == RoleReplica, path+".role", n.Role, "master or replica")
		r.peer(peers, path, n)
		unknown = unknown || n.Role != RoleMaster && n.Role != RoleReplica
		if n.Role == RoleMaster {
			masters = append(masters, path+".role")
		}
	}
	switch {
	case len(in.Nodes) == 0:
		r.check(false, path, "", "at least one node: an instance has one master and any number of replicas")
	case len(masters) > 1:
		r.check(false, masters[1], RoleMaster, fmt.Sprintf("one master in an instance, not %d", len(masters)), masters[0])
	case len(masters) == 0 && !unknown:
		r.bare(path, replicas(len(in.Nodes))+" without a master", "one node with role master")
	}
}

// peer checks that no two nodes of one instance reach each other at one address. Two equal addresses are reported as such.
func (r *rules) peer(seen holders, path string, n Node) {
	if n.PeerAddress.IsZero() {
		if key := samePlace(n.Address); key != "" && seen[key] == "" {
			seen[key] = path + ".address"
		} else if key != "" && strings.HasSuffix(seen[key], ".peer_address") {
			r.check(false, path+".address", n.Address, "an address that is no peer_address of another node", seen[key])
		}
		return
	}
	r.single(seen, samePlace(n.PeerAddress), path+".peer_address", n.PeerAddress.String(),
		"an address at which the peers reach this node and no other")
}

// bare notes a fault whose got describes what stands there.
func (r *rules) bare(path, got, want string) {
	r.faults = append(r.faults, FieldError{Path: path, Got: got, Want: want, Bare: true})
}

// holders is the path that holds a key first.
type holders map[string]string

// single notes a fault when the key has a holder already; "" is nobody's key.
func (r *rules) single(seen holders, key, path, got, want string) {
	if key == "" {
		return
	}
	if first, taken := seen[key]; taken {
		r.check(false, path, got, want, first)
		return
	}
	seen[key] = path
}

// samePlace is equal for two spellings of one address: host names know no case, and localhost is 127.0.0.1.
func samePlace(a Address) string {
	if a.IsZero() {
		return ""
	}
	a.Host = strings.TrimSuffix(strings.ToLower(a.Host), ".")
	if a.Host == "localhost" {
		a.Host = "127.0.0.1"
	}
	return a.String()
}

func replicas(n int) string {
	if n == 1 {
		return "a replica"
	}
	return fmt.Sprintf("%d replicas", n)
}
