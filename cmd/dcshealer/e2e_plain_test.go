package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"dcshealer/policies"
)

// The lines of each role for the seven alarms of sampleCycle, in `run`. The healer looks at the fleet, finds it well, and says so.
var runLines = map[string][]string{
	"[On-duty DBA] ": {
		"[On-duty DBA] The critical channel has been subscribed to.",
		"[On-duty DBA] !!! Critical alarm !!! dcs-prod-01 | m4",
		"[On-duty DBA] !!! Critical alarm !!! dcs-prod-02 | m6",
		"[On-duty DBA] !!! Critical alarm !!! dcs-prod-03 | m8",
	},
	"[O&M dashboard] ": {
		"[O&M dashboard] The critical and warning channels have been subscribed to.",
		"[O&M dashboard] [WARNING] dcs-prod-02 | used_memory_mb | m2",
		"[O&M dashboard] [WARNING] dcs-prod-01 | slowlog_count | m3",
		"[O&M dashboard] [CRITICAL] dcs-prod-01 | replication_status | m4",
		"[O&M dashboard] [CRITICAL] dcs-prod-02 | used_memory_mb | m6",
		"[O&M dashboard] [WARNING] dcs-prod-03 | connected_clients | m7",
		"[O&M dashboard] [CRITICAL] dcs-prod-03 | connected_clients | m8",
	},
	"[Log archiving] ": {
		"[Log archiving] The redis:monitor:* channel has been subscribed to via pattern matching.",
		"[Log archiving] [NOTICE  ] dcs-prod-01 | m1",
		"[Log archiving] [WARNING ] dcs-prod-02 | m2",
		"[Log archiving] [WARNING ] dcs-prod-01 | m3",
		"[Log archiving] [CRITICAL] dcs-prod-01 | m4",
		"[Log archiving] [NOTICE  ] dcs-prod-03 | m5",
		"[Log archiving] [CRITICAL] dcs-prod-02 | m6",
		"[Log archiving] [WARNING ] dcs-prod-03 | m7",
		"[Log archiving] [CRITICAL] dcs-prod-03 | m8",
	},
	"[Self-healing service] ": {
		"[Self-healing service] The critical channel has been subscribed to.",
		"[Self-healing service] Replication interruption detected -> Attempting to reconnect to the replica: dcs-slave-01",
		"[Self-healing service] dcs-prod-01 | refuted: our own probe finds no critical fault",
		"[Self-healing service] Full memory detected -> Automatic cleanup triggered: dcs-prod-02",
		"[Self-healing service] dcs-prod-02 | refuted: our own probe finds no critical fault",
		"[Self-healing service] Alarms received: dcs-prod-03 | m8",
		"[Self-healing service] dcs-prod-03 | refuted: our own probe finds no critical fault",
	},
}

// sampleFleet is the fleet of the sample, all well: a master with a replica, and two masters.
type sampleFleet struct {
	*fleet
	master1, slave1, master2, master3 *server
}

func newSampleFleet(t *testing.T) *sampleFleet {
	s := &sampleFleet{fleet: newFleet(t), master1: startServer(t), master2: startServer(t), master3: startServer(t)}
	s.slave1 = startReplica(t, s.master1)
	s.add("dcs-prod-01", "", master("dcs-master-01", s.master1), replica("dcs-slave-01", s.slave1))
	s.add("dcs-prod-02", "", master("dcs-master-02", s.master2))
	s.add("dcs-prod-03", "", master("dcs-master-03", s.master3))
	return s
}

// Outsiders that know the basic fields alone are understood, on a bus of theirs and on the embedded one, and understand us.
func TestPlainClientsWorkBothWays(t *testing.T) {
	t.Parallel()
	s := newSampleFleet(t)
	theirs := startServer(t)
	s.bus = theirs.url()
	p := running(t, "-c", s.write())
	plainSampleCycle(t, p, dialPlain(t, theirs.addr()))
	p.stopsWell(sigint)

	s.bus = ""
	p = running(t, "-c", s.write())
	embedded := strings.TrimPrefix(s.status().Bus, "redis://")
	plainSampleCycle(t, p, dialPlain(t, embedded))
	ourAlarmsReadPlain(t, s, p, dialPlain(t, embedded))
	p.stopsWell(sigterm)
}

// plainSampleCycle sends the sample's alarms as they are, and one more of dcs-prod-03 that the healer has no remedy for.
func plainSampleCycle(t *testing.T, p *process, c *plainClient) {
	t.Helper()
	for _, start := range []string{"[On-duty DBA] ", "[O&M dashboard] ", "[Log archiving] ", "[Self-healing service] "} {
		p.until(start+"is subscribed", func() bool { return len(p.lines(start)) == 1 })
	}
	cycle := append(slices.Clone(sampleCycle), [2]string{"critical", `{"instance":"dcs-prod-03","metric":"connected_clients","value":495,"msg":"m8"}`})
	for _, a := range cycle {
		if n := c.publish("redis:monitor:"+a[0], a[1]); n == 0 {
			t.Errorf("nobody received %s", a[1])
		}
	}
	for prefix, want := range runLines {
		p.until(prefix+"has all lines", func() bool { return len(p.lines(prefix)) >= len(want) })
		got := p.lines(prefix)
		if prefix == "[Self-healing service] " { // the instances are worked side by side
			slices.Sort(got)
			want = slices.Sorted(slices.Values(want))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s\ngot\n%s\nwant\n%s", prefix, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if got := p.lines("[Monitoring agent] "); len(got) > 0 {
		t.Errorf("the agent found something in a healthy fleet: %q", got)
	}
}

// ourAlarmsReadPlain breaks the fleet for real and reads our agent's alarms as a client that knows the basic fields alone.
func ourAlarmsReadPlain(t *testing.T, s *sampleFleet, p *process, c *plainClient) {
	t.Helper()
	messages := c.psubscribe("redis:monitor:*")
	s.slave1.detach()
	s.master1.do("CONFIG", "SET", "slowlog-log-slower-than", "0")
	s.master2.do("SETRANGE", "big", 20<<20, "x")
	s.master2.do("CONFIG", "SET", "maxmemory", s.master2.number("used_memory")*100/88)
	s.master3.do("CONFIG", "SET", "maxclients", "40")
	for s.master3.number("connected_clients") < 37 {
		dialPlain(t, s.master3.addr()).publish("nobody", "x")
	}
	s.master3.do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	s.master3.do("CONFIG", "SET", "maxmemory", s.master3.number("used_memory")+(1<<20))
	s.master3.do("EVAL", `for i = 1, 4000 do redis.call('SET', 'k' .. i, string.rep('x', 1000)) end`, "0")

	missing := map[string]bool{"warning dcs-prod-02 used_memory_mb": true, "warning dcs-prod-03 connected_clients": true, "warning dcs-prod-01 slowlog_count": true,
		"notice dcs-prod-03 evicted_keys": true, "critical dcs-prod-01 replication_status": true}
	p.until("the five alarms", func() bool {
		for {
			select {
			case m := <-messages:
				delete(missing, plainLine(t, p, m))
			default:
				return len(missing) == 0
			}
		}
	})
	p.prints(policies.AgentCycleLine)
}

// plainLine reads a message by its basic fields and finds the agent's line for it.
func plainLine(t *testing.T, p *process, m [2]string) string {
	t.Helper()
	severity := strings.TrimPrefix(m[0], "redis:monitor:")
	var a struct {
		Instance, Metric, Msg *string
		Value                 any
	}
	if err := json.Unmarshal([]byte(m[1]), &a); err != nil || a.Instance == nil || a.Metric == nil || a.Msg == nil || !isReading(a.Value) {
		t.Fatalf("%s: %s lacks a basic field: %v", m[0], m[1], err)
	}
	line := fmt.Sprintf("[Monitoring agent] %-8s | %s | %s", strings.ToUpper(severity), *a.Instance, *a.Msg)
	p.until("the agent prints "+line, func() bool { return slices.Contains(p.lines("[Monitoring agent] "), line) })
	return severity + " " + *a.Instance + " " + *a.Metric
}
