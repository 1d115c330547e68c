package agent

import (
	"testing"
	"time"

	"dcshealer/policies"
)

func TestEvictedKeys(t *testing.T) {
	p := policies.PresetDefault()
	steps := []struct {
		at     time.Duration
		runID  string
		total  int64
		known  bool
		counts int64
	}{
		{0, "a", 1000, false, 0}, // what came before we looked is not ours to count
		{5 * time.Second, "a", 1000, true, 0},
		{10 * time.Second, "a", 1300, true, 300},
		{15 * time.Second, "a", 20, true, 320}, // CONFIG RESETSTAT
		{20 * time.Second, "b", 7, true, 327},  // restarted
		{time.Hour + 10*time.Second, "b", 7, true, 327},
		{time.Hour + 11*time.Second, "b", 7, true, 27},
		{2*time.Hour + 11*time.Second, "b", 8, true, 1},
	}
	w := NewWindows()
	start := time.Unix(1_700_000_000, 0)
	for i, s := range steps {
		snap := policies.Snapshot{Reach: policies.ReachUp, RunID: s.runID, Stats: policies.Stats{EvictedKeys: policies.Known(s.total)}}
		c := w.Add(snap, p, start.Add(s.at))
		if c.Evicted.Known != s.known || c.Evicted.V != s.counts || c.Slowlog.Known {
			t.Errorf("step %d: got %v, want %v %d", i, c.Evicted, s.known, s.counts)
		}
	}
	if c := w.Add(policies.Snapshot{Reach: policies.ReachHung}, p, start); c.Evicted.Known {
		t.Errorf("a node that does not answer: %+v", c)
	}
}

func TestSlowCommands(t *testing.T) {
	p := policies.PresetDefault() // window 5 m
	start := time.Unix(1_700_000_000, 0)
	const ahead = 100 // the server's clock is ahead of ours
	entries := func(at time.Duration, newest int64, n int) []policies.SlowEntry {
		var out []policies.SlowEntry
		for i := range n {
			out = append(out, policies.SlowEntry{ID: newest - int64(i), Unix: start.Add(at).Unix() + ahead})
		}
		return out
	}
	steps := []struct {
		name    string
		at      time.Duration
		runID   string
		newest  int64
		entries []policies.SlowEntry
		count   int64
		atLeast bool
	}{
		{"the ring is full at our first look", 0, "a", 199, entries(-10*time.Second, 199, 128), 128, true},
		{"nothing new", 5 * time.Second, "a", 199, entries(-10*time.Second, 199, 1), 128, true},
		{"three more", 10 * time.Second, "a", 202, entries(9*time.Second, 202, 3), 131, true},
		{"more than the ring holds", 20 * time.Second, "a", 402, entries(19*time.Second, 402, 128), 331, true},
		{"emptied: ids go on", 25 * time.Second, "a", -1, nil, 331, true},
		{"one after that", 30 * time.Second, "a", 403, entries(29*time.Second, 403, 1), 332, true},
		{"restarted: ids begin again", 40 * time.Second, "b", 1, entries(39*time.Second, 1, 2), 334, true},
		{"the first ones have left the window", 5 * time.Minute, "b", 1, entries(39*time.Second, 1, 1), 206, false},
		{"all have", 10 * time.Minute, "b", 1, entries(39*time.Second, 1, 1), 0, false},
	}
	w := NewWindows()
	for _, s := range steps {
		now := start.Add(s.at)
		snap := policies.Snapshot{Reach: policies.ReachUp, RunID: s.runID, ServerTime: policies.Known(now.Unix() + ahead),
			Slowlog: policies.Slowlog{Known: true, Newest: s.newest, Entries: s.entries}}
		c := w.Add(snap, p, now)
		if c.Slowlog != policies.Known(s.count) || c.SlowlogAtLeast != s.atLeast {
			t.Errorf("%s: got %v, at least %v; want %d, %v", s.name, c.Slowlog, c.SlowlogAtLeast, s.count, s.atLeast)
		}
	}
	if n := len(w.slow.events); n > 10 {
		t.Errorf("%d entries are kept", n)
	}
}

// Old entries in the log are not news.
func TestSlowCommandsOfYesterday(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	w := NewWindows()
	c := w.Add(policies.Snapshot{Reach: policies.ReachUp, RunID: "a", Slowlog: policies.Slowlog{Known: true, Newest: 40,
		Entries: []policies.SlowEntry{{ID: 40, Unix: now.Unix() - 86400}, {ID: 39, Unix: now.Unix() - 90000}}}}, policies.PresetDefault(), now)
	if c.Slowlog != policies.Known[int64](0) || c.SlowlogAtLeast {
		t.Errorf("got %v, at least %v", c.Slowlog, c.SlowlogAtLeast)
	}
}

func TestStall(t *testing.T) {
	s := newStall(5 * time.Second)
	now := time.Now()
	at := func(d time.Duration) time.Time { return now.Add(d) }
	s.observe(at(time.Second), at(5*time.Second), at(5100*time.Millisecond))
	if s.count() != 0 || s.tilt(at(6*time.Second)) != "" {
		t.Errorf("in time: %d late, %q", s.count(), s.tilt(at(6*time.Second)))
	}
	s.observe(at(12*time.Second), at(10*time.Second), at(15*time.Second))
	if s.count() != 0 {
		t.Error("a probe that outlasted the interval is not a stall of ours")
	}
	s.observe(at(16*time.Second), at(20*time.Second), at(29*time.Second))
	if s.count() != 1 || s.tilt(at(30*time.Second)) == "" {
		t.Errorf("9 s late: %d late, %q", s.count(), s.tilt(at(30*time.Second)))
	}
	if s.tilt(at(29*time.Second+TiltHold+time.Second)) != "" {
		t.Error("a stall is held against us for ever")
	}
}
