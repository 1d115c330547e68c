package remediation

import (
	"context"
	"encoding/json"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

// A server that is full of what no sweep frees: the diagnosis names it, nothing is swept although that is live, and who does what the
// advice says has no alarm any more.
func TestAFullMasterIsToldWhatWouldHelp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fill   func(t *testing.T, s *server) (replicas []*server)
		cause  policies.Cause
		part   policies.Part
		share  float64 // of the counted memory that the part holds, at least
		advice string  // a pattern; its group is what a person needs for the cure
		cure   func(s *server, group string)
	}{
		"a client that does not read": {func(t *testing.T, s *server) []*server {
			s.fill(0, 2000, 100, time.Hour)
			deafReader(t, s, 40<<20)
			return nil
		}, policies.CauseClientBuffers, policies.PartClients, 0.7, `CLIENT KILL ADDR (\S+) frees it, a smaller client-output-buffer-limit normal `,
			func(s *server, addr string) { s.do("CLIENT", "KILL", "ADDR", addr) }},
		"a subscriber that does not read": {func(t *testing.T, s *server) []*server {
			s.do("CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0")
			s.fill(0, 2000, 100, time.Hour)
			deaf(t, s, 40<<20)
			return nil
		}, policies.CauseClientBuffers, policies.PartClients, 0.7, `CLIENT KILL ADDR (\S+) frees it, a smaller client-output-buffer-limit pubsub `,
			func(s *server, addr string) { s.do("CLIENT", "KILL", "ADDR", addr) }},
		"data without a TTL": {func(_ *testing.T, s *server) []*server {
			s.fill(0, 50_000, 200, 0)
			s.fill(0, 500, 200, time.Hour)
			return nil
		}, policies.CauseDataWithoutTTL, policies.PartDataWithoutTTL, 0.7, `(50000) keys without a TTL hold about .* or delete some`,
			func(s *server, _ string) {
				s.do("EVAL", "for i = 1, 15000 do redis.call('UNLINK', 'key:0:' .. i) end", 0)
			}},
		"one large stream": {func(_ *testing.T, s *server) []*server {
			s.fill(0, 100, 100, 0)
			s.do("EVAL", "local v = string.rep('x', 8000) for i = 1, 2500 do redis.call('XADD', 'stream', '*', 'f', v) end", 0)
			return nil
		}, policies.CauseDataWithoutTTL, policies.PartDataWithoutTTL, 0.9, `101 keys of [0-9.]+ [KM]iB in the mean: .*(--bigkeys).* on a replica; XTRIM`,
			func(s *server, _ string) { s.do("XTRIM", "stream", "MAXLEN", 1000) }},
		"the replication backlog": {func(t *testing.T, s *server) []*server {
			s.do("CONFIG", "SET", "repl-backlog-size", 24<<20)
			s.fill(0, 2000, 100, time.Hour)
			x := startServer(t)
			x.follow(s)
			s.do("EVAL", "local v = string.rep('x', 20000) for i = 1, 1500 do redis.call('SET', 'again', v) end", 0)
			eventually(t, "the replica has read all of it", func() bool {
				return x.number("replication", "slave_repl_offset") == s.number("replication", "master_repl_offset")
			})
			return []*server{x}
		}, policies.CauseReplicationBuffers, policies.PartReplication, 0.7, `\(repl-backlog-size 25165824\): CONFIG SET repl-backlog-size (\d+) clears the alarm at once`,
			func(s *server, size string) { s.do("CONFIG", "SET", "repl-backlog-size", size) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			replicas := c.fill(t, s)
			s.limit(99)
			r := newRig(t, fleet(instance(prod1, reclaimLive, s, replicas...)), "").start()
			check := untouched(t, s)
			r.alarm(prod1, memory)
			rec := r.refuses(prod1, memory, c.cause, policies.GuardWorthwhile)
			rounds(t, s, 2)
			r.only(prod1, 1)
			check()
			advice := wantParts(t, s, memoryReport(t, rec), c.cause, c.part, c.share)
			found := regexp.MustCompile(c.advice).FindStringSubmatch(advice)
			if found == nil {
				t.Fatalf("advice:\n%s\nwant %s", advice, c.advice)
			}
			r.waitLine("diagnosis: "+string(c.cause), "; held by "+strings.SplitN(string(c.part), "-", 2)[0]) // data-without-ttl is data there
			r.waitLine("escalated: ", "worthwhile: ", string(c.cause)+": of ", strings.SplitN(advice, "\n", 2)[0])
			c.cure(s, found[1])
			r.waitLine("resolved: used_memory_mb")
			r.waitState(prod1, policies.StateIdle)
			r.whole()
		})
	}
}

// memoryReport is what the record says of the memory before.
func memoryReport(t *testing.T, rec policies.Record) (m policies.MemoryReport) {
	t.Helper()
	b, err := json.Marshal(rec.Before["memory"])
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// wantParts checks that the parts add up to what the server counts, by its own INFO to a hundredth, and which is the largest. It returns
// the advice, a line each.
func wantParts(t *testing.T, s *server, m policies.MemoryReport, cause policies.Cause, largest policies.Part, share float64) string {
	t.Helper()
	var sum int64
	for _, p := range m.Parts {
		sum += p.Bytes.Or(0)
		if p.Part == largest && p.Share.Or(0) < share {
			t.Errorf("%s holds %v, want %.2f at least", p.Part, p.Share, share)
		}
	}
	if now := s.counted(); sum != m.Counted || max(now-sum, sum-now) > now/100 {
		t.Errorf("the parts are %d bytes together, %d counted, the server counts %d", sum, m.Counted, now)
	}
	if m.Cause != cause || m.Max != s.number("memory", "maxmemory") || m.Needed <= 0 {
		t.Errorf("report %+v", m)
	}
	if t.Failed() {
		t.Logf("parts %+v", m.Parts)
	}
	return strings.Join(m.Advice, "\n")
}

// deafReader asks for about so many bytes and reads none.
func deafReader(t *testing.T, s *server, bytes int) {
	t.Helper()
	c, err := net.Dial("tcp", s.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	s.do("EVAL", "local v = string.rep('x', 10000) for i = 1, 100 do redis.call('RPUSH', 'list', v) end", 0)
	if _, err := c.Write([]byte(strings.Repeat("LRANGE list 0 -1\r\n", bytes>>20))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the answers wait", func() bool {
		return strings.Contains(s.c.ClientList(context.Background()).Val(), "cmd=lrange") && s.number("memory", "used_memory") > int64(bytes)/2
	})
}
