package probe

import (
	"context"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// sections are those of INFO that a Snapshot is filled from; the default ones lack errorstats.
var sections = []string{"server", "clients", "memory", "persistence", "stats", "replication", "keyspace", "errorstats", "cluster", "cpu"}

// read fills the snapshot. The error is what kept INFO or ROLE from being read; all else that is refused is left unknown.
func (p *Prober) read(ctx context.Context, snap *policies.Snapshot, deep bool) error {
	in, rtt, err := p.connectAndInfo(ctx)
	if err != nil {
		return err
	}
	snap.RTT = rtt
	in.fill(snap)
	if err := p.rest(ctx, snap, deep); err != nil {
		return err
	}
	snap.Reach = policies.ReachUp
	if snap.Loading.Or(false) {
		snap.Reach, snap.Err = policies.ReachLoading, "its data set is still loading"
	}
	p.resolve(ctx, snap, deep)
	return nil
}

// connectAndInfo reads INFO, over a new connection where the one at hand turns out to be gone: a server that was
// restarted between two probes is up.
func (p *Prober) connectAndInfo(ctx context.Context) (info, time.Duration, error) {
	if p.s != nil {
		in, rtt, err := p.info(ctx)
		if err == nil || !isReset(err) {
			return in, rtt, err
		}
		p.hangUp()
	}
	in, rtt, err := p.infoAnew(ctx)
	if p.pass.Met(p.s.used, err) { // the file and the server are changed one after the other
		p.hangUp()
		in, rtt, err = p.infoAnew(ctx)
		p.pass.Met(p.s.used, err)
	}
	return in, rtt, err
}

// infoAnew reads INFO over a new connection.
func (p *Prober) infoAnew(ctx context.Context) (info, time.Duration, error) {
	p.s = p.open(false)
	p.under.Store(p.s)
	p.whole = false
	return p.info(ctx)
}

// info sends one INFO. Before 7.0 it takes a single section and answers a syntax error to more.
func (p *Prober) info(ctx context.Context) (info, time.Duration, error) {
	in, rtt, err := p.infoOf(ctx, p.wanted()...)
	if err != nil && isReply(err) && !p.whole && strings.HasPrefix(err.Error(), "ERR syntax error") {
		p.whole = true
		in, rtt, err = p.infoOf(ctx, p.wanted()...)
	}
	switch {
	case err != nil:
		return info{}, 0, err
	case in.isSentinel():
		return info{}, 0, oddity("this is a Sentinel, not a data node; put the node's own address into the config")
	case !in.isNode():
		return info{}, 0, oddity("INFO answered without redis_version and run_id: not a Redis or Valkey node")
	}
	return in, rtt, nil
}

func (p *Prober) wanted() []string {
	if p.whole {
		return []string{"all"}
	}
	return sections
}

func (p *Prober) infoOf(ctx context.Context, sections ...string) (info, time.Duration, error) {
	start := time.Now()
	text, err := p.s.client.Info(ctx, sections...).Result()
	if err != nil {
		return info{}, 0, err
	}
	return parseInfo(text), p.s.since(start), nil
}

// reads are the commands of a probe that go out together after INFO.
type reads struct {
	role, newest *redis.Cmd
	settings     []*redis.Cmd // empty: those at hand are fresh enough
	deep         *deepReads   // nil: a plain probe
}

func newReads(ctx context.Context, settings, deep, refusals bool, names policies.Renames) reads {
	r := reads{role: redis.NewCmd(ctx, "role"), newest: redis.NewCmd(ctx, "slowlog", "get", 1)}
	if settings {
		r.settings = settingsCommands(ctx)
	}
	if deep {
		r.deep = newDeepReads(ctx, refusals, names)
	}
	return r
}

func (r reads) commands() []redis.Cmder {
	cmds := []redis.Cmder{r.role, r.newest}
	for _, c := range r.settings {
		cmds = append(cmds, c)
	}
	if r.deep != nil {
		cmds = append(cmds, r.deep.commands()...)
	}
	return cmds
}

// rest reads what INFO does not tell, in one round trip and a second where the slow log moved.
func (p *Prober) rest(ctx context.Context, snap *policies.Snapshot, deep bool) error {
	down := snap.Replication.Role == policies.RoleReplica && !snap.Replication.LinkUp.Or(true) // why may be a setting that was changed just now
	r := newReads(ctx, down || deep || p.set.stale(snap.RunID, snap.At), deep, p.asksRefusals(snap), p.opt.Renamed)
	if err := p.s.pipeline(ctx, r.commands()...); err != nil {
		return err
	}
	if err := p.agree(ctx, snap, r.role); err != nil {
		return err
	}
	if len(r.settings) > 0 {
		p.set = readSettings(r.settings, snap.RunID, snap.At)
	}
	p.set.fill(snap)
	if err := p.slowlog(ctx, snap, r.newest); err != nil {
		return err
	}
	if r.deep != nil {
		r.deep.fill(snap)
		p.refusals(snap, r.deep.refusals)
		snap.AuthRequired = p.authRequired(ctx)
	}
	return nil
}

// agree takes ROLE's answer. INFO came first: if the role changed between the two, both are read again, and a node
// that still says two things has no known role.
func (p *Prober) agree(ctx context.Context, snap *policies.Snapshot, cmd *redis.Cmd) error {
	r, state, err := roleOf(cmd)
	if err != nil {
		return err
	}
	if r != snap.Replication.Role {
		in, _, err := p.info(ctx)
		if err != nil {
			return err
		}
		in.fill(snap)
		again := redis.NewCmd(ctx, "role")
		if err := p.s.pipeline(ctx, again); err != nil {
			return err
		}
		if r, state, err = roleOf(again); err != nil {
			return err
		}
	}
	snap.Replication.LinkState = state
	if r != snap.Replication.Role {
		snap.Replication.Role = ""
	}
	return nil
}

func roleOf(cmd *redis.Cmd) (policies.Role, string, error) {
	reply, err := cmd.Slice()
	if err != nil {
		return "", "", err
	}
	return parseRole(reply)
}
