package probe

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"dcshealer/policies"
)

// The recordings of testdata/memory are of real servers at 99 % of maxmemory: the sections of INFO that tell of memory, and CLIENT LIST.
func recordedMemory(t *testing.T, fault, version string) policies.Snapshot {
	t.Helper()
	a, err := txtar.ParseFile(filepath.Join("testdata", "memory", fault+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range a.Files {
		files[f.Name] = string(f.Data)
	}
	in := parseInfo(files[version+".info"])
	if !in.isNode() || files[version+".clients"] == "" {
		t.Fatalf("%s has no recording of %s", fault, version)
	}
	var s policies.Snapshot
	in.fill(&s)
	fillClients(&s, files[version+".clients"])
	return s
}

// Where the memory of a full server is, on each version, and what would help.
func TestMemoryOfRealServers(t *testing.T) {
	type wanted struct {
		cause  policies.Cause
		part   policies.Part
		share  float64 // of the counted memory, at least
		advice string
	}
	for fault, want := range map[string]wanted{
		"client-that-does-not-read":     {policies.CauseClientBuffers, policies.PartClients, 0.9, "of output that it does not read (omem): CLIENT KILL ADDR 172.17.0.1:"},
		"subscriber-that-does-not-read": {policies.CauseClientBuffers, policies.PartClients, 0.9, "a smaller client-output-buffer-limit pubsub"},
		"data-without-ttl":              {policies.CauseDataWithoutTTL, policies.PartDataWithoutTTL, 0.85, "30000 keys without a TTL"},
		"large-stream":                  {policies.CauseDataWithoutTTL, policies.PartDataWithoutTTL, 0.9, "XTRIM shortens a stream"},
		"large-backlog":                 {policies.CauseReplicationBuffers, policies.PartReplication, 0.9, "(repl-backlog-size 25165824): CONFIG SET repl-backlog-size"},
	} {
		for _, v := range versions {
			t.Run(fault+"/"+v.file, func(t *testing.T) {
				want := want
				if v.file == "valkey-9.1" && fault == "subscriber-that-does-not-read" {
					// 94 MB of messages wait for the subscriber, and no figure of its own shows it.
					want = wanted{policies.CauseOverhead, policies.PartOther, 0.9, "does not read, and Valkey 9 shows in no figure"}
				}
				s := recordedMemory(t, fault, v.file)
				d := policies.DiagnoseMemory(s, policies.PresetDefault(), policies.Estimate{})
				if d.Cause != want.cause {
					t.Errorf("cause %s, want %s", d.Cause, want.cause)
				}
				if advice := strings.Join(d.Advice, "\n"); !strings.Contains(advice, want.advice) {
					t.Errorf("advice %q does not say %q", advice, want.advice)
				}
				var sum int64
				for _, p := range d.Parts {
					sum += p.Bytes.Or(0)
					if p.Part == want.part && p.Share.Or(0) < want.share {
						t.Errorf("%s holds %.2f of it, want %.2f at least", p.Part, p.Share.V, want.share)
					}
					if p.Part == policies.PartOther && p.Part != want.part && p.Share.Or(1) > 0.02 {
						t.Errorf("%.2f of it is not told apart", p.Share.V)
					}
				}
				if counted := s.Memory.Counted(); !counted.Known || sum != counted.V {
					t.Errorf("the parts are %d bytes together, counted are %v", sum, counted)
				}
				if t.Failed() {
					t.Log(d.Where())
				}
			})
		}
	}
}
