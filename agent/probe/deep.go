package probe

import (
	"bufio"
	"context"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// needed are the commands that repairs use; managed services rename or forbid some.
var needed = []string{"scan", "replicaof", "select", "config", "client"}

// topClientBytes is what a client has to hold to be named.
const topClientBytes = 1 << 20

// sentinelName is what a Sentinel calls its two connections to a node.
var sentinelName = regexp.MustCompile(`^sentinel-[0-9a-f]+-(cmd|pubsub)$`)

// deepReads are the commands that only a deep probe sends.
type deepReads struct {
	clients, known *redis.Cmd
	refusals       *redis.Cmd // nil: not asked
}

func newDeepReads(ctx context.Context, refusals bool, names policies.Renames) *deepReads {
	args := []any{"command", "info"}
	for _, name := range needed {
		args = append(args, names.Sent(name))
	}
	d := &deepReads{clients: redis.NewCmd(ctx, "client", "list"), known: redis.NewCmd(ctx, args...)}
	if refusals {
		d.refusals = redis.NewCmd(ctx, "acl", "log", refusalsMax)
	}
	return d
}

func (d *deepReads) commands() []redis.Cmder {
	cmds := []redis.Cmder{d.clients, d.known}
	if d.refusals != nil {
		cmds = append(cmds, d.refusals)
	}
	return cmds
}

func (d *deepReads) fill(snap *policies.Snapshot) {
	if text, err := d.clients.Text(); err == nil {
		fillClients(snap, text)
	}
	if reply, err := d.known.Slice(); err == nil && len(reply) == len(needed) {
		snap.CommandsKnown = true
		for i, known := range reply {
			if !isCommand(known, needed[i]) {
				snap.Renamed = append(snap.Renamed, needed[i])
			}
		}
	}
}

// isCommand reports whether an entry of COMMAND INFO is about this command: asked for the server's name, it answers with Redis's.
func isCommand(entry any, name string) bool {
	fields, ok := entry.([]any)
	if !ok || len(fields) == 0 {
		return false
	}
	own, ok := fields[0].(string)
	return ok && strings.EqualFold(own, name)
}

// fillClients reads CLIENT LIST: who watches the node, and who makes it hold memory. Replicas, whose buffers the
// server does not count against maxmemory, and the link to the master are left out.
func fillClients(snap *policies.Snapshot, text string) {
	var output, memory int64
	seen, whole := false, true
	snap.TopClient, snap.TopClientUse = "", policies.ClientUse{}
	for line := range strings.Lines(text) {
		c := clientFields(line)
		seen = seen || sentinelName.MatchString(c["name"])
		if strings.ContainsAny(c["flags"], "SM") {
			continue
		}
		use := useOf(c)
		output, memory = output+use.Output, memory+use.Memory
		whole = whole && c["tot-mem"] != ""
		if use.Memory > max(topClientBytes, snap.TopClientUse.Memory) {
			snap.TopClient, snap.TopClientUse = c["addr"], use
		}
	}
	snap.SentinelSeen, snap.ClientOutput = policies.Known(seen), policies.Known(output)
	snap.ClientMemory = policies.Opt[int64]{V: memory, Known: whole}
}

// useOf is what a client holds, input and output.
func useOf(c map[string]string) policies.ClientUse {
	use := policies.ClientUse{Kind: policies.ClientNormal, Output: bytesOf(c["omem"]) + bytesOf(c["obl"]), Waiting: strings.Contains(c["events"], "w")}
	use.Memory = max(bytesOf(c["tot-mem"]), use.Output)
	switch {
	case strings.Contains(c["flags"], "P"):
		use.Kind = policies.ClientPubSub
	case strings.Contains(c["flags"], "O"):
		use.Kind = policies.ClientMonitor
	}
	return use
}

// clientFields reads one line of CLIENT LIST; a name cannot hold a space, so that none can forge a field.
func clientFields(line string) map[string]string {
	fields := map[string]string{}
	for part := range strings.FieldsSeq(line) {
		if k, v, ok := strings.Cut(part, "="); ok {
			if _, twice := fields[k]; !twice {
				fields[k] = v
			}
		}
	}
	return fields
}

func bytesOf(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// authRequired asks a connection that has not authenticated. Without a password in the config our own connection is
// one, and it was answered.
func (p *Prober) authRequired(ctx context.Context) policies.Opt[bool] {
	if p.opt.Password == "" {
		return policies.Known(false)
	}
	conn, err := p.dial(ctx, "tcp", p.opt.Node.Address.String(), new(atomic.Int32))
	if err != nil {
		return policies.Opt[bool]{}
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // a connection that takes no deadline is ended by its reply or its peer
	}
	if _, err := conn.Write([]byte(p.opt.Renamed.Sent("PING") + "\r\n")); err != nil {
		return policies.Opt[bool]{}
	}
	line, err := bufio.NewReaderSize(conn, 512).ReadString('\n')
	if err != nil {
		return policies.Opt[bool]{}
	}
	return refusesStrangers(line)
}

// refusesStrangers reads the answer to an unauthenticated PING. The server asks for authentication before all that
// the other errors are about; one that says nothing of it, such as a full client table, leaves the question open.
func refusesStrangers(line string) policies.Opt[bool] {
	for prefix, required := range map[string]bool{
		"-NOAUTH": true, "-NOPERM": true, "+": false, "-LOADING": false, "-BUSY": false, "-MASTERDOWN": false, "-MISCONF": false,
	} {
		if strings.HasPrefix(line, prefix) {
			return policies.Known(required)
		}
	}
	return policies.Opt[bool]{}
}
