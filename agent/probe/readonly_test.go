package probe

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"
)

func TestReadOnly(t *testing.T) {
	tests := []struct {
		command         string
		master, replica bool
	}{
		{"INFO", true, true},
		{"info everything", true, true},
		{"Role", true, true},
		{"DBSIZE", true, true},
		{"CONFIG GET maxclients", true, true},
		{"config get *", true, true},
		{"CONFIG SET maxmemory 0", false, false},
		{"CONFIG RESETSTAT", false, false},
		{"CONFIG REWRITE", false, false},
		{"CONFIG", false, false},
		{"CLIENT LIST", true, true},
		{"CLIENT ID", true, true},
		{"CLIENT INFO", true, true},
		{"CLIENT SETNAME x", true, true},
		{"CLIENT KILL TYPE master", false, false},
		{"CLIENT PAUSE 1000", false, false},
		{"CLIENT NO-EVICT on", false, false},
		{"SLOWLOG GET 128", true, true},
		{"SLOWLOG LEN", true, true},
		{"SLOWLOG RESET", false, false},
		{"LATENCY LATEST", true, true},
		{"LATENCY RESET", false, false},
		{"COMMAND INFO scan", true, true},
		{"COMMAND COUNT", true, true},
		{"MEMORY USAGE k", true, true},
		{"MEMORY STATS", true, true},
		{"MEMORY PURGE", false, false},
		{"ACL LOG 10", true, true},
		{"acl Log 0", true, true},
		{"ACL LOG", false, false},
		{"ACL LOG RESET", false, false},
		{"ACL LOG reset", false, false},
		{"ACL LOG 10 RESET", false, false},
		{"ACL LOG -1", false, false},
		{"ACL LOG 1e1", false, false},
		{"ACL LOG ", false, false},
		{"ACL LIST 10", false, false},
		{"ACL SETUSER 10", false, false},
		{"ACL", false, false},
		{"PING", true, true},
		{"HELLO 2", true, true},
		{"AUTH x", true, true},
		{"SELECT 3", true, true},
		{"SCAN 0", false, true},
		{"PTTL k", false, true},
		{"TTL k", false, false},
		{"TYPE k", false, false},
		{"RANDOMKEY", false, false},
		{"EXISTS k", false, false},
		{"OBJECT ENCODING k", false, false},
		{"GET k", false, false},
		{"DUMP k", false, false},
		{"KEYS *", false, false},
		{"MULTI", false, false},
		{"EXEC", false, false},
		{"EVAL return 1", false, false},
		{"EVAL_RO return 1", false, false},
		{"EVALSHA_RO x 0", false, false},
		{"FCALL_RO f 0", false, false},
		{"DEBUG SLEEP 1", false, false},
		{"MONITOR", false, false},
		{"REPLICAOF NO ONE", false, false},
		{"SLAVEOF NO ONE", false, false},
		{"FLUSHALL", false, false},
		{"SHUTDOWN NOSAVE", false, false},
		{"BGSAVE", false, false},
		{"UNLINK k", false, false},
		{"PSYNC ? -1", false, false},
		{"info\r\nflushall", false, false},
		{"", false, false},
	}
	for _, tt := range tests {
		args := anys(strings.Split(tt.command, " "))
		if got := ReadOnly(args, false); got != tt.master {
			t.Errorf("%s on a master: got %v, want %v", tt.command, got, tt.master)
		}
		if got := ReadOnly(args, true); got != tt.replica {
			t.Errorf("%s on a replica: got %v, want %v", tt.command, got, tt.replica)
		}
	}
	for _, args := range [][]any{nil, {}, {1}, {nil}, {"config"}, {"config", 1}, {"config", nil}, {"acl", "log", nil}, {"acl", "log", -1}, {"acl", "log", []byte("RESET")}} {
		if ReadOnly(args, true) {
			t.Errorf("%v: got read-only", args)
		}
	}
	if !ReadOnly([]any{"acl", "log", 10}, false) {
		t.Error("a number is one as text and as it is")
	}
	if !ReadOnly([]any{[]byte("CONFIG"), []byte("Get")}, false) {
		t.Error("bytes are names too")
	}
}

// Whatever its case, a command is allowed exactly when the list has it.
func TestReadOnlyHoldsForRandomNames(t *testing.T) {
	words := []string{"info", "role", "config", "get", "set", "scan", "client", "list", "kill", "slowlog", "reset", "eval", "multi", "del", "memory", "usage", "command", "docs", "latency"}
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.OneOf(rapid.SampledFrom(words), rapid.String())
		name, sub := word.Draw(t, "name"), word.Draw(t, "sub")
		cased := mixCase(rapid.SliceOfN(rapid.Bool(), len(name), len(name)).Draw(t, "case"), name)
		subs := readOnly[lower(name)]
		want := slices.Contains(subs, anySub) || slices.Contains(subs, lower(sub))
		if got := ReadOnly([]any{cased, sub, "x"}, false); got != want {
			t.Fatalf("%q %q: got %v, want %v", cased, sub, got, want)
		}
		if want && !ReadOnly([]any{name, sub}, true) {
			t.Fatalf("%q %q: a replica refuses what a master may be asked", name, sub)
		}
	})
}

// lower folds ASCII alone, as the server does.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

func mixCase(upper []bool, s string) string {
	b := []byte(s)
	for i := range b {
		if upper[i] && b[i] >= 'a' && b[i] <= 'z' {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b)
}

func anys(words []string) []any {
	out := make([]any, len(words))
	for i, w := range words {
		out[i] = w
	}
	return out
}

// Nothing that is refused reaches the server, in whatever way it is sent.
func TestGuardSendsNothingElse(t *testing.T) {
	s := startServer(t)
	admin := s.admin()
	s.do(admin, "set", "k", "v")
	s.do(admin, "config", "resetstat")
	ctx := context.Background()
	p := s.prober()
	sess := p.open(false)
	defer sess.close()
	refused := [][]any{{"DEL", "k"}, {"flushall"}, {"SCAN", 0}, {"get", "k"}, {"eval", "return 1", 0}, {"CONFIG", "SET", "hz", "11"}, {"client", "kill", "type", "normal"}, {"replicaof", "no", "one"}, {"ttl", "k"}, {"randomkey"}, {"wait", 0, 0}, {"ACL", "LOG", "RESET"}}
	for _, args := range refused {
		if err := sess.client.Do(ctx, args...).Err(); !errors.Is(err, ErrNotReadOnly) {
			t.Errorf("%v: got %v, want ErrNotReadOnly", args, err)
		}
		one, two := redis.NewCmd(ctx, "role"), redis.NewCmd(ctx, args...)
		if err := sess.pipeline(ctx, one, two); !errors.Is(err, ErrNotReadOnly) || !errors.Is(one.Err(), ErrNotReadOnly) {
			t.Errorf("pipeline of ROLE and %v: got %v and %v, want ErrNotReadOnly for all", args, err, one.Err())
		}
	}
	if _, err := sess.client.TxPipelined(ctx, func(p redis.Pipeliner) error { p.DBSize(ctx); return nil }); !errors.Is(err, ErrNotReadOnly) {
		t.Errorf("transaction: got %v, want ErrNotReadOnly", err)
	}
	if err := sess.client.Do(ctx, "role").Err(); err != nil {
		t.Fatal(err)
	}
	for _, name := range commandsOf(t, admin) {
		if !slices.Contains([]string{"config|resetstat", "hello", "role", "client|setname", "info"}, name) {
			t.Errorf("the server has seen %s", name)
		}
	}
	if n := s.do(admin, "dbsize"); n != int64(1) {
		t.Errorf("keys left: got %v, want 1", n)
	}
}

// A SCAN is sent only after a ROLE that said slave, one for one.
func TestGuardPermitsOneScanARole(t *testing.T) {
	m := startServer(t)
	x := replicaOf(t, m)
	ctx := context.Background()
	scan := func(s *session) error { return s.client.Scan(ctx, 0, "", 10).Err() }
	role := func(s *session) {
		t.Helper()
		if err := s.client.Process(ctx, redis.NewCmd(ctx, "role")); err != nil {
			t.Fatal(err)
		}
	}
	sess := x.prober().open(true)
	defer sess.close()
	if err := scan(sess); !errors.Is(err, ErrNotReadOnly) {
		t.Errorf("before ROLE: got %v, want ErrNotReadOnly", err)
	}
	role(sess)
	if err := scan(sess); err != nil {
		t.Errorf("after ROLE: got %v", err)
	}
	if err := scan(sess); !errors.Is(err, ErrNotReadOnly) {
		t.Errorf("a second time: got %v, want ErrNotReadOnly", err)
	}
	if err := sess.pipeline(ctx, redis.NewCmd(ctx, "role"), redis.NewCmd(ctx, "scan", 0)); !errors.Is(err, ErrNotReadOnly) {
		t.Errorf("ROLE and SCAN in one write: got %v, want ErrNotReadOnly", err)
	}
	onMaster := m.prober().open(true)
	defer onMaster.close()
	role(onMaster)
	if err := scan(onMaster); !errors.Is(err, ErrNotReadOnly) {
		t.Errorf("on a master: got %v, want ErrNotReadOnly", err)
	}
}

// commandsOf is the names in INFO commandstats.
func commandsOf(t *testing.T, c *redis.Client) []string {
	t.Helper()
	text, err := c.Info(context.Background(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range parseInfo(text).fields {
		names = append(names, strings.TrimPrefix(name, "cmdstat_"))
	}
	return names
}
