package probe

import (
	"context"
	"errors"
	"slices"
	"testing"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

// renamed are commands under other names, and the arguments of a server that knows them so.
func renamed() (names policies.Renames, args []string) {
	names = policies.Renames{}
	for _, name := range []string{"ACL", "CLIENT", "COMMAND", "CONFIG", "DBSIZE", "HELLO", "MEMORY", "PTTL", "ROLE", "SCAN", "SLOWLOG"} {
		names[name] = "x-" + name
		args = append(args, "--rename-command", name, names[name])
	}
	return names, args
}

func TestANodeThatRenamesCommandsIsReadAndCountedInFull(t *testing.T) {
	t.Parallel()
	names, args := renamed()
	args = append(args, "--enable-debug-command", "local")
	m := startServer(t, args...)
	x := replicaOf(t, m, args...)
	fillStale(t, m, 300, 120)
	p := x.prober(func(o *Options) { o.Renamed = names })
	redistest.Eventually(t, "the replica has all keys", func() bool { return p.Probe(t.Context()).Keys() == policies.Known[int64](840) })
	s := p.ProbeDeep(t.Context())
	if s.Reach != policies.ReachUp || !s.CommandsKnown || len(s.Renamed) > 0 || s.ConfigDenied || !s.LazyfreeExpire.Known || !s.Slowlog.Known || !s.SentinelSeen.Known || s.Replication.LinkState != "connected" {
		t.Errorf("%+v", s)
	}
	redistest.Accounted(t, func() string { return x.admin().Info(context.Background(), "server").Val() })
	got, err := p.CountLive(t.Context(), CountOptions{})
	if err != nil || !got.Complete || got.Expired() != policies.Known[int64](240) || !got.Bytes().Known {
		t.Errorf("%+v, %v: want 240 expired keys and their bytes", got, err)
	}
	few := policies.Renames{}
	for own, theirs := range names {
		if own != "SCAN" {
			few[own] = theirs
		}
	}
	q := x.prober(func(o *Options) { o.Renamed = few })
	if s := q.ProbeDeep(t.Context()); !slices.Equal(s.Renamed, []string{"scan"}) {
		t.Errorf("without its name for SCAN it lacks %v, want scan", s.Renamed)
	}
}

// The name that goes out never decides whether a command may.
func TestTheGuardGoesByRedissName(t *testing.T) {
	t.Parallel()
	m := startServer(t, "--rename-command", "SCAN", "XSCAN", "--rename-command", "CONFIG", "YCONFIG")
	p := m.prober(func(o *Options) { o.Renamed = policies.Renames{"SCAN": "XSCAN", "config": "YCONFIG"} })
	s := p.open(true)
	defer s.close()
	refused := [][]any{{"SCAN", 0}, {"XSCAN", 0}, {"xscan", 0}, {"CONFIG", "SET", "hz", 11}, {"YCONFIG", "SET", "hz", 11}, {"YCONFIG", "GET", "hz"}}
	for _, args := range refused {
		if err := s.client.Do(t.Context(), "role").Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.client.Do(t.Context(), args...).Err(); !errors.Is(err, ErrNotReadOnly) {
			t.Errorf("%v: got %v, want ErrNotReadOnly", args, err)
		}
	}
	cmd := s.client.ConfigGet(t.Context(), "hz")
	if cmd.Err() != nil || cmd.Val()["hz"] != "10" {
		t.Errorf("CONFIG GET: %v, %v", cmd.Val(), cmd.Err())
	}
	if got := cmd.Args()[0]; got != "config" {
		t.Errorf("the command is called %v after the call", got)
	}
	if seen := m.CommandCalls(); seen["scan"] > 0 || seen["config|set"] > 0 {
		t.Errorf("the server has seen %v", seen)
	}
}
