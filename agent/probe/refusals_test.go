package probe

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// entry is one of ACL LOG as Redis 6.0 answers it.
func entry(reason, object, age, client string) []any {
	return []any{"count", int64(1), "reason", reason, "context", "toplevel", "object", object, "username", "repl", "age-seconds", age, "client-info", client}
}

func TestParseRefusals(t *testing.T) {
	const client = "id=9 addr=172.17.0.4:45088 fd=8 name= age=0 idle=0 flags=N db=0 cmd=psync user=repl"
	tests := []struct {
		name  string
		entry any
		want  []policies.Refusal
	}{
		{"a login", entry("auth", "auth", "2.5", client), []policies.Refusal{{Host: "172.17.0.4", Reason: "auth", Object: "AUTH", Age: 2500 * time.Millisecond}}},
		{"a command", entry("command", "psync", "0.25", client), []policies.Refusal{{Host: "172.17.0.4", Reason: "command", Object: "psync", Age: 250 * time.Millisecond}}},
		{"a key keeps its name to itself", entry("key", "secret:1", "1", client), []policies.Refusal{{Host: "172.17.0.4", Reason: "key", Age: time.Second}}},
		{"IPv6", entry("auth", "AUTH", "1", "id=9 addr=[fd00::7]:45088 fd=8"), []policies.Refusal{{Host: "fd00::7", Reason: "auth", Object: "AUTH", Age: time.Second}}},
		{"IPv4 in IPv6", entry("auth", "AUTH", "1", "addr=[::ffff:10.0.0.1]:1"), []policies.Refusal{{Host: "10.0.0.1", Reason: "auth", Object: "AUTH", Age: time.Second}}},
		{"the first address counts", entry("auth", "AUTH", "1", "addr=10.0.0.1:1 name=x addr=10.0.0.2:2"), []policies.Refusal{{Host: "10.0.0.1", Reason: "auth", Object: "AUTH", Age: time.Second}}},
		{"a Unix socket", entry("auth", "AUTH", "1", "addr=/run/redis.sock:0"), nil},
		{"no address", entry("auth", "AUTH", "1", "id=9 fd=8"), nil},
		{"no client", []any{"reason", "auth", "age-seconds", "1"}, nil},
		{"no reason", entry("", "AUTH", "1", client), nil},
		{"no age", entry("auth", "AUTH", "", client), nil},
		{"an age that is none", entry("auth", "AUTH", "nan", client), nil},
		{"an age without end", entry("auth", "AUTH", "1e300", client), nil},
		{"an age to come", entry("auth", "AUTH", "-1", client), nil},
		{"a name without a value", []any{"reason"}, nil},
		{"names that are none", []any{int64(1), "auth", nil, nil}, nil},
		{"not a list", "auth", nil},
		{"nothing", nil, nil},
	}
	for _, tt := range tests {
		if got := parseRefusals([]any{tt.entry}); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
	two := parseRefusals([]any{entry("auth", "AUTH", "1", client), nil, entry("command", "psync", "2", client)})
	if len(two) != 2 || two[0].Reason != "auth" || two[1].Reason != "command" {
		t.Errorf("two with a bad one between: got %+v", two)
	}
}

// ACL LOG is asked of servers without error counters alone, and not again of a run that refused it.
func TestRefusalsAreAskedWhereNothingElseTells(t *testing.T) {
	old := policies.Snapshot{RunID: "a"}
	modern := policies.Snapshot{RunID: "a", Stats: policies.Stats{WrongPassErrors: policies.Known[int64](0)}}
	if p := new(Prober); p.asksRefusals(&modern) || !p.asksRefusals(&old) {
		t.Errorf("with counters: asked %v, want false; without: %v, want true", p.asksRefusals(&modern), p.asksRefusals(&old))
	}
	for text, again := range map[string]bool{
		"NOPERM this user has no permissions to run the 'acl' command or its subcommand": false,
		"ERR unknown command `acl`, with args beginning with: `log`, ":                   false,
		"ERR Unknown subcommand or wrong number of arguments for 'log'.":                 false,
		"LOADING Redis is loading the dataset in memory":                                 true,
	} {
		p, snap := new(Prober), old
		cmd := redis.NewCmd(t.Context(), "acl", "log", refusalsMax)
		cmd.SetErr(errors.New(text))
		p.refusals(&snap, cmd)
		restarted := policies.Snapshot{RunID: "b"}
		if p.asksRefusals(&old) != again || !p.asksRefusals(&restarted) || snap.Refusals != nil {
			t.Errorf("%s: asked again %v, want %v; asked of the next run %v, want true", text, p.asksRefusals(&old), again, p.asksRefusals(&restarted))
		}
	}
}

// A deep probe of a server that has error counters sends no ACL LOG; what it would answer there has the same form.
func TestRefusalsOfARealServer(t *testing.T) {
	s := startServer(t, "--requirepass", "pw")
	stranger := s.Client(func(o *redis.Options) { o.Password = "wrong" })
	if err := stranger.Ping(t.Context()).Err(); err == nil {
		t.Fatal("a wrong password is taken")
	}
	p := s.prober(func(o *Options) { o.Password = "pw" })
	got := p.ProbeDeep(t.Context())
	if got.Refusals != nil || got.Stats.WrongPassErrors.Or(0) < 1 {
		t.Errorf("refusals %v, want none; wrong passwords %v, want some", got.Refusals, got.Stats.WrongPassErrors)
	}
	reply, err := p.s.client.Do(t.Context(), "acl", "log", refusalsMax).Slice()
	if err != nil {
		t.Fatal(err)
	}
	r := parseRefusals(reply)
	if len(r) == 0 || r[0].Host != "127.0.0.1" || r[0].Reason != "auth" || r[0].Age > time.Minute {
		t.Errorf("got %+v, want a login from 127.0.0.1", r)
	}
}
