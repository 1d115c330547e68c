package probe

import (
	"errors"
	"testing"
	"time"

	"dcshealer/policies"
)

// answered is what one run of a server told of its settings: the answer to each name, nil where it has no such setting.
func answered(t *testing.T, answers map[string]any) (settings, policies.Snapshot) {
	t.Helper()
	cmds := settingsCommands(t.Context())
	for i, name := range settingNames {
		switch a := answers[name].(type) {
		case error:
			cmds[i].SetErr(a)
		case string:
			cmds[i].SetVal([]any{name, a})
		case []any:
			cmds[i].SetVal(a)
		default:
			cmds[i].SetVal([]any{})
		}
	}
	s := readSettings(cmds, "run", time.Now())
	var snap policies.Snapshot
	s.fill(&snap)
	for _, cmd := range cmds {
		if cmd.Val() != nil {
			t.Errorf("the answer to %v is kept", cmd.Args())
		}
	}
	return s, snap
}

func TestSettings(t *testing.T) {
	_, s := answered(t, map[string]any{"replica-priority": "25", "tls-port": "6380", "tls-replication": "yes",
		"client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"})
	want := policies.BufferLimit{Hard: 268435456, Soft: 67108864, SoftSeconds: 60}
	if s.Priority != policies.Known[int64](25) || s.TLSPort != policies.Known(6380) || s.TLSReplication != policies.Known(true) || s.ReplicaBuffer != policies.Known(want) || s.ConfigDenied {
		t.Errorf("got priority %v, tls-port %v, tls-replication %v, replica buffer %v", s.Priority, s.TLSPort, s.TLSReplication, s.ReplicaBuffer)
	}
	if s.MasterAuthSet.Known {
		t.Error("a setting that the server does not have is known")
	}
}

func TestSettingsOfAServerWithoutTLS(t *testing.T) {
	denied := errors.New("NOPERM this user has no permissions to run the 'config|get' command")
	tests := []struct {
		name        string
		port, repl  any
		wantPort    policies.Opt[int]
		wantRepl    policies.Opt[bool]
		wantRefused bool
	}{
		{"built without", nil, nil, policies.Known(0), policies.Known(false), false},
		{"built with, not used", "0", "no", policies.Known(0), policies.Known(false), false},
		{"refused", denied, denied, policies.Opt[int]{}, policies.Opt[bool]{}, true},
		{"one refused", denied, nil, policies.Opt[int]{}, policies.Known(false), true},
		{"not a number", "x", "no", policies.Opt[int]{}, policies.Known(false), false},
		{"an odd answer", []any{"tls-port"}, []any{int64(1), nil}, policies.Opt[int]{}, policies.Opt[bool]{}, false},
	}
	for _, tt := range tests {
		_, s := answered(t, map[string]any{"tls-port": tt.port, "tls-replication": tt.repl})
		if s.TLSPort != tt.wantPort || s.TLSReplication != tt.wantRepl || s.ConfigDenied != tt.wantRefused {
			t.Errorf("%s: got %v %v, refused %v; want %v %v %v", tt.name, s.TLSPort, s.TLSReplication, s.ConfigDenied, tt.wantPort, tt.wantRepl, tt.wantRefused)
		}
	}
}

func TestReplicaBuffer(t *testing.T) {
	tests := map[string]policies.Opt[policies.BufferLimit]{
		"normal 0 0 0 slave 1 2 3 pubsub 4 5 6":   policies.Known(policies.BufferLimit{Hard: 1, Soft: 2, SoftSeconds: 3}),
		"replica 7 8 9":                           policies.Known(policies.BufferLimit{Hard: 7, Soft: 8, SoftSeconds: 9}),
		"slave 0 0 0":                             policies.Known(policies.BufferLimit{}),
		"normal 0 0 0 pubsub 4 5 6":               {},
		"normal 0 0 0 slave 1 2":                  {},
		"slave 1mb 1mb 10":                        {},
		"slave 99999999999999999999999999999 0 0": {},
		"": {},
	}
	for value, want := range tests {
		if got := replicaBuffer(value); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}
