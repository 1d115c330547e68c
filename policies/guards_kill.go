package policies

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Client is one line of CLIENT LIST.
type Client struct {
	ID    int64 // never given twice while the server runs
	Addr  string
	Name  string
	User  string
	Flags string
	Cmd   string // the newest command
	Idle  int64  // seconds

	Subs     int64      // channels, patterns and shard channels
	Multi    int64      // commands queued in MULTI; -1: not in one
	Watch    int64      // watched keys; Redis 6.0 and 7.0 do not tell
	Input    int64      // bytes that came and were not worked off
	Output   int64      // of both buffers: bytes, and replies in the list
	Redirect Opt[int64] // the client that is told of what this one tracks; 6.0 does not tell

	// Unreadable: a field is missing, doubled or no number. Nothing that it says counts.
	Unreadable bool
}

// ParseClients reads CLIENT LIST. It never fails: a line that cannot be read in full is a Client that is Unreadable.
func ParseClients(text string) []Client {
	var out []Client
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, parseClient(line))
		}
	}
	return out
}

func parseClient(line string) Client {
	l := clientLine{fields: map[string]string{}}
	for part := range strings.FieldsSeq(line) {
		k, v, ok := strings.Cut(part, "=")
		_, twice := l.fields[k]
		l.odd = l.odd || !ok || twice
		l.fields[k] = v
	}
	c := Client{
		ID: l.number("id"), Addr: l.text("addr"), Name: l.text("name"), User: l.text("user"), Flags: l.text("flags"), Cmd: l.text("cmd"),
		Idle: l.number("idle"), Multi: l.number("multi"), Input: l.number("qbuf"),
		Subs:   l.number("sub") + l.number("psub") + l.since("ssub").Or(0),
		Output: l.number("obl") + l.number("oll") + l.number("omem"),
		Watch:  l.since("watch").Or(0), Redirect: l.since("redir"),
	}
	c.Unreadable = l.odd || c.ID <= 0 || c.Addr == "" || c.Flags == "" || c.Idle < 0
	return c
}

// clientLine is the fields of one line. odd is set by the first that is missing or no number.
type clientLine struct {
	fields map[string]string
	odd    bool
}

func (l *clientLine) text(name string) string {
	v, ok := l.fields[name]
	l.odd = l.odd || !ok
	return v
}

func (l *clientLine) number(name string) int64 {
	n, err := strconv.ParseInt(l.text(name), 10, 64)
	l.odd = l.odd || err != nil
	return n
}

// since is a number that only later versions tell.
func (l *clientLine) since(name string) Opt[int64] {
	if _, ok := l.fields[name]; !ok {
		return Opt[int64]{}
	}
	return Known(l.number(name))
}

// Spared says why a client is not closed; empty: nothing protects it.
type Spared string

// The reasons, in the order in which they are looked for. One by a pattern of protect names the pattern.
const (
	SparedUnreadable  Spared = "unreadable"
	SparedOurs        Spared = "ours"
	SparedActive      Spared = "active" // not idle for long enough
	SparedSentinel    Spared = "sentinel"
	SparedReplication Spared = "replication"
	SparedMonitor     Spared = "monitor"
	SparedPubSub      Spared = "pubsub"
	SparedBlocked     Spared = "blocked"
	SparedTransaction Spared = "transaction"
	SparedTracking    Spared = "tracking"     // it tracks, or is told of what another tracks
	SparedPerhapsTold Spared = "perhaps-told" // another tracks, and 6.0 does not say who is told
	SparedNoEvict     Spared = "no-evict"
	SparedClosing     Spared = "closing"
	SparedOther       Spared = "other-flags" // no ordinary client
	SparedNamed       Spared = "named"
	SparedOutput      Spared = "output-waiting"
	SparedInput       Spared = "input-waiting"
	sparedProtected   Spared = "protect "
)

// ownName is how the names of our own connections begin.
const ownName = "dcshealer-"

// OwnClients tell our own connections: by the id of the action's, by name, and by the user that is ours alone.
type OwnClients struct {
	ID   int64
	User string // as the config has it; empty or default: everybody's
}

func (o OwnClients) has(c Client) bool {
	return c.ID == o.ID || strings.HasPrefix(c.Name, ownName) || o.User != "" && o.User != "default" && c.User == o.User
}

// KillRules decide which clients of one CLIENT LIST may be closed.
type KillRules struct {
	policy Kill
	own    OwnClients
	told   map[int64]bool // clients that are told of what others track
	blind  bool           // some client tracks, and the server does not say who is told
}

// NewKillRules reads off the whole list what no line tells alone.
func NewKillRules(p Kill, own OwnClients, all []Client) KillRules {
	r := KillRules{policy: p, own: own, told: map[int64]bool{}}
	for _, c := range all {
		tracks := strings.ContainsAny(c.Flags, "tRB")
		r.blind = r.blind || tracks && !c.Redirect.Known
		if c.Redirect.Or(0) > 0 {
			r.told[c.Redirect.V] = true
		}
	}
	return r
}

// Spare says why the client must not be closed. Only a client of which every single thing is known and ordinary gives no reason: a
// flag that a later version may add spares it.
func (r KillRules) Spare(c Client) Spared {
	switch {
	case c.Unreadable:
		return SparedUnreadable
	case r.own.has(c):
		return SparedOurs
	case time.Duration(c.Idle)*time.Second <= r.policy.Idle:
		return SparedActive
	}
	if s := c.kind(); s != "" {
		return s
	}
	switch {
	case r.told[c.ID]:
		return SparedTracking
	case r.blind:
		return SparedPerhapsTold
	case r.protects(c) != "":
		return sparedProtected + Spared(r.protects(c))
	case c.Name != "":
		return SparedNamed
	case c.Output > 0:
		return SparedOutput
	case c.Input > 0:
		return SparedInput
	}
	return ""
}

// kind is what makes a client more than an ordinary one that waits for its next command.
func (c Client) kind() Spared {
	flag := func(any string) bool { return strings.ContainsAny(c.Flags, any) }
	switch {
	case strings.HasPrefix(c.Name, "sentinel-"):
		return SparedSentinel
	case flag("SM"):
		return SparedReplication
	case flag("O"):
		return SparedMonitor
	case flag("P") || c.Subs > 0:
		return SparedPubSub
	case flag("b"):
		return SparedBlocked
	case flag("xd") || c.Multi >= 0 || c.Watch > 0 || strings.EqualFold(c.Cmd, "watch"):
		return SparedTransaction
	case flag("tRB"):
		return SparedTracking
	case flag("e"):
		return SparedNoEvict
	case flag("cA"):
		return SparedClosing
	case strings.Trim(c.Flags, "NU") != "": // N: none, U: a Unix socket
		return SparedOther
	}
	return ""
}

// protects is the first pattern of protect that the client's name, user or address is of. An address is taken with its port and without.
func (r KillRules) protects(c Client) string {
	texts := []string{c.User, c.Addr}
	if c.Name != "" {
		texts = append(texts, c.Name)
	}
	if i := strings.LastIndexByte(c.Addr, ':'); i >= 0 {
		texts = append(texts, c.Addr[:i], strings.Trim(c.Addr[:i], "[]"))
	}
	for _, p := range r.policy.Protect {
		if slices.ContainsFunc(texts, func(s string) bool { return MatchPattern(p, s) }) {
			return p
		}
	}
	return ""
}

// Victims is what the rules make of one CLIENT LIST.
type Victims struct {
	Close     []Client       // to be closed now, the longest idle first
	Qualify   int            // that nothing protects
	Spared    map[Spared]int // the others, by reason
	Connected int64          // as connected_clients counts: without replicas; those that are just being closed are left out too
	Target    int64          // where it stops
}

// Choose takes the longest idle clients that nothing protects, most at most, and no more than it takes to come down to the target of
// maxClients connections.
func (r KillRules) Choose(all []Client, maxClients, most int64) Victims {
	v := Victims{Spared: map[Spared]int{}, Target: r.policy.Target.Of(maxClients)}
	var may []Client
	for _, c := range all {
		if !strings.ContainsAny(c.Flags, "SA") {
			v.Connected++
		}
		if s := r.Spare(c); s != "" {
			v.Spared[s]++
			continue
		}
		may = append(may, c)
	}
	slices.SortFunc(may, func(a, b Client) int { return cmp.Or(cmp.Compare(b.Idle, a.Idle), cmp.Compare(a.ID, b.ID)) })
	v.Qualify = len(may)
	v.Close = may[:max(0, min(int64(len(may)), most, v.Connected-v.Target))]
	return v
}

// SparedText lists the reasons, the most frequent first.
func (v Victims) SparedText() string {
	reasons := slices.SortedFunc(maps.Keys(v.Spared), func(a, b Spared) int {
		return cmp.Or(cmp.Compare(v.Spared[b], v.Spared[a]), cmp.Compare(a, b))
	})
	parts := make([]string, len(reasons))
	for i, s := range reasons {
		parts[i] = fmt.Sprintf("%d %s", v.Spared[s], s)
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// KillFacts is what the guards of kill-idle-clients need.
type KillFacts struct {
	Facts
	S       Snapshot // the node whose clients are too many
	Clients []Client
	Own     OwnClients
	ListErr error // CLIENT LIST was not answered
	Full    bool  // every connection is taken, ours for the list too
}

// Choice is what would be closed now.
func (f KillFacts) Choice() Victims {
	k := f.Policy.Kill
	return NewKillRules(k, f.Own, f.Clients).Choose(f.Clients, f.S.Clients.Max.Or(0), k.MaxClients)
}

// PlanKill makes the plan that closes idle clients, and asks every guard. It sends nothing.
func PlanKill(f KillFacts, cause Cause) Plan {
	f.Commands = []string{"client"}
	p := Plan{Action: KillIdleClients, Node: f.S.Node, Mode: f.Mode, Cause: cause, Commands: [][]string{{"CLIENT", "KILL", "ID", "id"}}, Guards: KillGuards(f)}
	if f.ListErr == nil {
		p.Expect.Clients = Known(int64(len(f.Choice().Close)))
	}
	p.Decide()
	return p
}

// KillGuards asks every guard of kill-idle-clients, the common ones first.
func KillGuards(f KillFacts) []Ruling {
	return append(CommonGuards(f.Facts),
		Rule(GuardOptIn, f.optIn()),
		Rule(GuardBusy, f.busy()),
		Rule(GuardVictims, f.victims()),
	)
}

// busy: while clients are paused, or told to wait for the data set, all of them look idle.
func (f KillFacts) busy() Verdict {
	switch {
	case !f.S.Loading.Known:
		return deny("%s does not say whether it loads", f.S.Node)
	case f.S.Loading.V:
		return hold("%s is loading its data set", f.S.Node)
	case clientsPaused(f.S):
		return hold("clients are paused on %s (%s): all of them look idle then", f.S.Node, f.S.Clients.Paused.V)
	}
	return allow("%s neither loads nor pauses its clients", f.S.Node)
}

func (f KillFacts) victims() Verdict {
	k, node := f.Policy.Kill, f.S.Node
	switch {
	case f.Full:
		return hold("every connection of %s is taken, so that none is left to list its clients and to close them: it is tried again", node)
	case f.ListErr != nil:
		return deny("the clients of %s could not be listed (%v): grant +client|list, +client|id and +client|kill to the user", node, f.ListErr)
	case f.S.Clients.Max.Or(0) <= 0:
		return deny("%s does not tell its maxclients: grant +config|get to the user", node)
	}
	v := f.Choice()
	switch {
	case v.Connected <= v.Target:
		return deny("%d clients are connected to %s, the target of %s of %d is %d: none is closed", v.Connected, node, k.Target, f.S.Clients.Max.V, v.Target)
	case v.Qualify == 0:
		return deny("none of the clients of %s may be closed, idle for more than %s and unprotected: %s", node, k.Idle, v.SparedText())
	}
	return allow("%d of %d clients of %s are idle for more than %s and unprotected, %d would be closed now (down to %d, %s of maxclients; %d at a time); spared: %s",
		v.Qualify, v.Connected, node, k.Idle, len(v.Close), v.Target, k.Target, k.MaxClients, v.SparedText())
}
