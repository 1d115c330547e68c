package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"dcshealer/policies"
)

// The parts are shown the largest first, what is nothing is left out, and what is not known says so.
func TestPlanShowsWhereTheMemoryIs(t *testing.T) {
	part := func(p policies.Part, mebi int64, share float64, how policies.How, note string) policies.MemoryPart {
		return policies.MemoryPart{Part: p, Bytes: policies.Known(mebi << 20), Share: policies.Known(share), How: how, Note: note}
	}
	p := policies.Plan{Action: policies.ReclaimExpired, Node: "m", Mode: policies.Live, Commands: [][]string{{"SCAN", "cursor", "COUNT", "n"}}, DeniedBy: []policies.Guard{policies.GuardWorthwhile},
		Memory: &policies.MemoryReport{Cause: policies.CauseClientBuffers, Counted: 100 << 20, Max: 101 << 20, Needed: 9 << 20,
			Parts: []policies.MemoryPart{{Part: policies.PartExpired, How: policies.HowUnknown, Note: "not known"}, part(policies.PartDataWithTTL, 30, 0.3, policies.HowEstimated, "10 keys"),
				part(policies.PartClients, 60, 0.6, policies.HowKnown, ""), part(policies.PartOverhead, 10, 0.1, policies.HowKnown, ""), part(policies.PartScripts, 0, 0, policies.HowKnown, "")},
			Advice: []string{"CLIENT KILL ADDR 10.0.0.1:2\x1b[31m", "another"}, Notes: []string{"the process holds more"}}}
	var out bytes.Buffer
	(&app{stdout: &out}).printOnePlan(p)
	want := `  PLAN     reclaim-expired on m (live): stopped by worthwhile
             send    SCAN cursor COUNT n
             expect  -
             memory  100.0 MiB counted against maxmemory 101.0 MiB, 9.0 MiB must come free: client-buffers
                         60.0 MiB    60.0 %  client-buffers
                         30.0 MiB    30.0 %  data-with-ttl (estimated; 10 keys)
                         10.0 MiB    10.0 %  overhead
                            ? MiB            expired-keys (not known)
             advice  CLIENT KILL ADDR 10.0.0.1:2` + policies.Printable("\x1b[31m", 0) + `
             advice  another
             note    the process holds more
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	b, err := json.Marshal(p)
	if err != nil || !bytes.Contains(b, []byte(`{"part":"expired-keys","bytes":null,"share":null,"how":"unknown","note":"not known"}`)) || !bytes.Contains(b, []byte(`"needed_bytes":9437184`)) {
		t.Errorf("%s, %v", b, err)
	}
	if b, _ := json.Marshal(policies.Plan{}); bytes.Contains(b, []byte("memory")) {
		t.Errorf("a plan about no memory says %s", b)
	}
}
