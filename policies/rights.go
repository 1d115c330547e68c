package policies

import (
	"fmt"
	"slices"
	"strings"
)

// Profile is what a user of ours may be used for.
type Profile string

// The profiles. With ProfileObserve all but the last step works: probes, alarms, plans.
const (
	ProfileObserve Profile = "observe"
	ProfileHeal    Profile = "heal"
)

// Profiles are all of them.
var Profiles = [...]Profile{ProfileObserve, ProfileHeal}

// Need is something that takes rights on the nodes.
type Need string

// The needs. The first three are those of the profiles; each of the others is granted where it is wanted.
const (
	NeedProbe    Need = "probe"
	NeedReclaim  Need = Need(ReclaimExpired)
	NeedReattach Need = Need(ReattachReplica)
	NeedEstimate Need = "estimate"
	NeedLazyFree Need = "lazy_free"
	NeedRewrite  Need = "config_rewrite"
	NeedPurge    Need = Need(PurgeMemory)
	NeedEvict    Need = Need(EvictNearExpiry)
	NeedKill     Need = Need(KillIdleClients)
)

// A Grant is the rights that one need takes, as ACL rules without their plus: a command, or command|subcommand.
type Grant struct {
	Need     Need
	Why      string
	Commands []string
	Observe  []string // those of them that planning takes and that delete nothing on any node
	ReadKeys bool     // any key, by commands that tell nothing of its value
	Patterns bool     // the keys of the policy's allow patterns, for writing
}

// Grants is the one list of what the program sends to a node, by what it is for. SCAN is in no Observe: on a master it deletes expired keys.
var Grants = [...]Grant{
	{Need: NeedProbe, Why: "every probe, and doctor's question what is allowed (from 7.0 on)",
		Commands: []string{"ping", "info", "role", "slowlog|get", "client|list", "client|setname", "config|get", "command|info"}},
	{Need: NeedReclaim, Why: "reclaim-expired, which visits keys and reads none", Commands: []string{"scan", "select"}},
	{Need: NeedReattach, Why: "reattach-replica", Commands: []string{"replicaof", "client|kill"}},
	{Need: NeedEstimate, Why: "how much a sweep would free, counted on a replica", Commands: []string{"scan", "select", "dbsize", "pttl", "memory|usage", "memory|stats"}, ReadKeys: true},
	{Need: NeedLazyFree, Why: "lazy_free of reclaim-expired; it allows every parameter", Commands: []string{"config|set"}},
	{Need: NeedRewrite, Why: "config_rewrite of reattach-replica", Commands: []string{"config|rewrite"}},
	{Need: NeedPurge, Why: "purge-memory in the ladder", Commands: []string{"memory|purge"}},
	{Need: NeedEvict, Why: "evict-near-expiry in the ladder, with the keys of its allow patterns", Commands: []string{"scan", "select", "eval", "unlink", "pttl", "memory|usage"}, Patterns: true},
	{Need: NeedKill, Why: "kill-idle-clients in the ladder", Commands: []string{"client|id", "client|kill"}, Observe: []string{"client|id"}},
}

// GrantOf finds a need's rights.
func GrantOf(n Need) Grant {
	i := slices.IndexFunc(Grants[:], func(g Grant) bool { return g.Need == n })
	if i < 0 {
		return Grant{}
	}
	return Grants[i]
}

// Optional are the needs that no profile has by itself.
func Optional() (needs []Need) {
	for _, g := range Grants {
		if g.Need != NeedProbe && g.Need != NeedReclaim && g.Need != NeedReattach {
			needs = append(needs, g.Need)
		}
	}
	return needs
}

// Rights say what a user is for.
type Rights struct {
	Profile  Profile
	Wanted   []Need   // optional needs
	Patterns []string // the allow patterns of evict-near-expiry
}

// RightsFor are what the config has an instance opt into. The estimate comes with the first replica.
func RightsFor(c Config, in Instance, p Profile) Rights {
	policy, r := c.PolicyOf(in), Rights{Profile: p}
	if slices.ContainsFunc(in.Nodes, func(n Node) bool { return n.Role == RoleReplica }) {
		r.Wanted = append(r.Wanted, NeedEstimate)
	}
	if policy.Reclaim.LazyFree {
		r.Wanted = append(r.Wanted, NeedLazyFree)
	}
	if policy.Reattach.ConfigRewrite {
		r.Wanted = append(r.Wanted, NeedRewrite)
	}
	for _, step := range in.Ladder {
		r.Wanted = append(r.Wanted, Need(step))
	}
	if slices.Contains(in.Ladder, EvictNearExpiry) {
		r.Patterns = policy.Evict.Allow
	}
	return r
}

// ACLLine is a range of server versions whose ACL rules are the same.
type ACLLine string

// The lines. 6.0 knows no channels, and only from 7.0 on reading a key is told from writing it and ACL DRYRUN answers what is allowed.
const (
	ACLLine60 ACLLine = "6.0"
	ACLLine62 ACLLine = "6.2"
	ACLLine70 ACLLine = "7.0"
)

// ACLLines are all of them, the newest first.
var ACLLines = [...]ACLLine{ACLLine70, ACLLine62, ACLLine60}

// Servers names the versions of the line.
func (l ACLLine) Servers() string {
	if l == ACLLine70 {
		return "Redis 7.0 and later, Valkey"
	}
	return "Redis " + string(l)
}

// ACLLineOf is the line of a server's version.
func ACLLineOf(v Line) ACLLine {
	switch {
	case v.Major >= 7:
		return ACLLine70
	case v.Compare(Line{6, 2}) >= 0:
		return ACLLine62
	}
	return ACLLine60
}

// ownQuestions are what doctor asks of the rights themselves. Before 7.0 that takes ACL GETUSER, which shows the hashes of every user's
// passwords and is not granted; 6.0, which counts no errors, tells by ACL LOG who was refused.
func (l ACLLine) ownQuestions() []string {
	switch l {
	case ACLLine70:
		return []string{"acl|whoami", "acl|dryrun"}
	case ACLLine60:
		return []string{"acl|whoami", "acl|log"}
	}
	return []string{"acl|whoami"}
}

// has reports whether the rights include what a need takes for more than planning.
func (r Rights) has(n Need) bool {
	if n == NeedProbe {
		return true
	}
	return r.Profile == ProfileHeal && (n == NeedReclaim || n == NeedReattach || slices.Contains(r.Wanted, n))
}

// Commands are the rules of the commands on a server of the line, without their plus, each once and in the order of Grants.
func (r Rights) Commands(l ACLLine) (commands []string) {
	add := func(more []string) {
		for _, c := range more {
			if !slices.Contains(commands, c) {
				commands = append(commands, c)
			}
		}
	}
	for _, g := range Grants {
		switch {
		case r.has(g.Need):
			add(g.Commands)
		case slices.Contains(r.Wanted, g.Need):
			add(g.Observe)
		}
		if g.Need == NeedProbe {
			add(l.ownQuestions())
		}
	}
	return commands
}

// Keys are the rules of the keys on a server of the line. Before 7.0 a key that may be read may be deleted too where UNLINK is
// allowed: with evict-near-expiry the estimate goes without its sample there.
func (r Rights) Keys(l ACLLine) (keys []string) {
	evicts := r.has(NeedEvict)
	switch {
	case !r.has(NeedEstimate):
	case l == ACLLine70:
		keys = append(keys, "%R~*")
	case !evicts:
		keys = append(keys, "~*")
	}
	if evicts {
		for _, p := range r.Patterns {
			keys = append(keys, "~"+strings.Map(func(c rune) rune {
				if c <= ' ' {
					return '?' // a rule holds no white space
				}
				return c
			}, p))
		}
	}
	return keys
}

// SetUser is the command that makes a user of an instance's nodes, with a placeholder for the password.
func (r Rights) SetUser(user string, l ACLLine) []string {
	return setUser(user, l, r.Keys(l), r.Commands(l))
}

// busCommands are all that a bus is sent. 6.0 has no XAUTOCLAIM and is sent two others for it.
func (l ACLLine) busCommands() []string {
	all := []string{"ping", "publish", "subscribe", "psubscribe", "xadd", "xrange", "xrevrange", "xgroup|create", "xreadgroup", "xack"}
	if l == ACLLine60 {
		return append(all, "xpending", "xclaim")
	}
	return append(all, "xautoclaim")
}

// BusUser is the command that makes the user of the bus: the channels under the prefix, and the stream. more are commands beyond
// those of the bus itself, such as select where the URL names a database.
func BusUser(user, prefix string, l ACLLine, more ...string) []string {
	var rules []string
	if l != ACLLine60 {
		rules = append(rules, "&"+prefix+":*")
	}
	if l == ACLLine70 {
		more = append(l.ownQuestions(), more...)
	}
	return setUser(user, l, append(rules, "~"+StreamKey(prefix)), slices.Concat(l.busCommands(), more))
}

func setUser(user string, l ACLLine, rules, commands []string) []string {
	out := []string{"ACL", "SETUSER", user, "reset", "on", ">PASSWORD"}
	if l != ACLLine60 {
		out = append(out, "resetchannels") // reset alone opens all of them where acl-pubsub-default says so
	}
	out = append(out, rules...)
	for _, c := range commands {
		out = append(out, "+"+c)
	}
	return out
}

// Shown is what a grant adds, as rules.
func (g Grant) Shown() string {
	var rules []string
	for _, c := range g.Commands {
		rules = append(rules, "+"+c)
	}
	switch {
	case g.ReadKeys:
		rules = append(rules, "%R~* (before 7.0: ~*)")
	case g.Patterns:
		rules = append(rules, "~PATTERN ...")
	}
	return strings.Join(rules, " ")
}

// ParseACLLine reads a version such as 6.2, 7.4.1 or 8.
func ParseACLLine(version string) (ACLLine, error) {
	if !strings.Contains(version, ".") {
		version += ".0"
	}
	v := Snapshot{Version: version}.Line()
	if !v.Known || v.V.Major < 6 {
		return "", fmt.Errorf("version %q: want that of a server with users, such as 6.0, 6.2, 7.2 or 8.1", version)
	}
	return ACLLineOf(v.V), nil
}
