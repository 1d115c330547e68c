package bus

import (
	"maps"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dcshealer/policies"
)

func TestGapsOfASource(t *testing.T) {
	type seen struct {
		seq   int64
		after time.Duration // since the start: when it was made, and when it comes
	}
	second := time.Second
	for name, c := range map[string]struct {
		seen    []seen
		missing int64
		lines   int
	}{
		"none":                               {[]seen{{5, 0}, {6, 0}, {7, 20 * second}}, 0, 0},
		"what came before the first":         {[]seen{{500, 0}, {501, 20 * second}}, 0, 0},
		"one run, said once":                 {[]seen{{1, 0}, {5, 0}, {6, 20 * second}, {7, 30 * second}}, 3, 1},
		"out of order within the grace":      {[]seen{{1, 0}, {3, 0}, {2, 5 * second}, {4, 20 * second}}, 0, 0},
		"too late, and yet here":             {[]seen{{1, 0}, {3, 0}, {4, 20 * second}, {2, 25 * second}}, 0, 1},
		"half of a run comes":                {[]seen{{1, 0}, {10, 0}, {5, second}, {11, 20 * second}}, 7, 2},
		"a source that began anew":           {[]seen{{90, 0}, {1, second}, {2, 20 * second}}, 0, 0},
		"one that lost its first alarms":     {[]seen{{90, 0}, {4, second}, {5, 20 * second}}, 3, 1},
		"runs of before a restart are final": {[]seen{{1, 0}, {3, 0}, {1, second}, {2, 2 * second}}, 1, 1},
	} {
		var log logBuffer
		g := &gaps{log: log.logger(), sources: map[string]*numbered{}}
		start := time.Now()
		for _, s := range c.seen {
			at := start.Add(s.after)
			g.note(policies.Alarm{Source: "agent@a", Seq: s.seq, At: at}, at)
		}
		if got := g.sources["agent@a"].missing; got != c.missing {
			t.Errorf("%s: %d missing, want %d", name, got, c.missing)
		}
		if n := log.count("alarms of a source are missing"); n != c.lines {
			t.Errorf("%s: %d lines, want %d:\n%s", name, n, c.lines, &log)
		}
	}
}

func TestGapsAreBounded(t *testing.T) {
	g := &gaps{log: (&logBuffer{}).logger(), sources: map[string]*numbered{}}
	now := time.Now()
	g.note(policies.Alarm{Source: strings.Repeat("x", gapName+1), Seq: 1, At: now}, now)
	if len(g.sources) != 0 {
		t.Error("a name of any length is kept")
	}
	for i := range 3 * gapSources {
		for seq := int64(1); seq < 1000; seq += 2 { // every second one is missing
			if i > 0 && seq > 1 {
				break
			}
			g.note(policies.Alarm{Source: "s" + strconv.Itoa(i), Seq: seq, At: now}, now)
		}
	}
	if len(g.sources) != gapSources || len(g.sources["s0"].open) != gapRuns {
		t.Errorf("%d sources and %d runs are kept", len(g.sources), len(g.sources["s0"].open))
	}
	g.note(policies.Alarm{Source: "s0", Seq: 1001, At: now}, now.Add(time.Minute))
	if n := g.sources["s0"].missing; n < 499 {
		t.Errorf("%d missing, want all of them", n)
	}
}

func TestTheDecoderCountsWhatIsMissingWhereAskedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, d := range []*Decoder{NewDecoder("p", nil), NewDecoder("p", nil).CountGaps()} {
			for _, seq := range []int64{1, 4} {
				payload, err := policies.EncodeAlarm(policies.Alarm{Instance: "i", Source: "agent@a", Seq: seq, At: time.Now(), ID: strconv.FormatInt(seq, 10)})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := d.Decode(policies.Message{Channel: "p:notice", Payload: payload}); err != nil {
					t.Fatal(err)
				}
			}
			if got := d.Missing(); len(got) != 0 {
				t.Errorf("missing %v before the rest had time to come", got)
			}
			time.Sleep(gapGrace)
			want := map[string]int64{}
			if d.gaps != nil {
				want["agent@a"] = 2
			}
			if got := d.Missing(); !maps.Equal(got, want) {
				t.Errorf("missing %v, want %v", got, want)
			}
		}
	})
}
