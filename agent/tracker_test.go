package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

// A step is one judgement of one metric: its severity, ? for unknown, and what is to be published.
type step struct {
	at    time.Duration
	level string // healthy, notice, warning, critical, ?
	want  string // such as "warning firing, critical resolved"
}

func play(t *testing.T, tr *tracker, m policies.Metric, steps []step) {
	t.Helper()
	start := time.Unix(1_700_000_000, 0)
	for i, s := range steps {
		j := policies.Judgement{Finding: policies.Finding{Metric: m, Node: "n", Msg: "msg " + s.level}, Known: s.level != "?"}
		if s.level != "?" && s.level != "healthy" {
			severity, err := policies.ParseSeverity(s.level)
			if err != nil {
				t.Fatal(err)
			}
			j.Severity = severity
		}
		var got []string
		for _, a := range tr.step([]policies.Judgement{j}, start.Add(s.at)) {
			got = append(got, fmt.Sprintf("%s %s", a.Severity, a.Status))
			if a.Status == policies.Resolved != strings.HasPrefix(a.Msg, policies.ResolvedPrefix) {
				t.Errorf("step %d: %s with msg %q", i, a.Status, a.Msg)
			}
			if a.Since.IsZero() {
				t.Errorf("step %d: no since", i)
			}
		}
		if text := strings.Join(got, ", "); text != s.want {
			t.Errorf("step %d at %v, %s: got %q, want %q", i, s.at, s.level, text, s.want)
		}
	}
}

func TestTracker(t *testing.T) {
	sec := time.Second
	p := policies.PresetDefault()
	slow := p
	slow.Replication.CriticalAfter = 30 * sec
	tests := []struct {
		name   string
		metric policies.Metric
		policy policies.Policy
		steps  []step
	}{
		{"one bad probe is not an alarm", policies.MetricUsedMemory, p, []step{
			{0, "critical", ""}, {5 * sec, "healthy", ""}, {10 * sec, "critical", ""}, {15 * sec, "critical", "critical firing"}}},
		{"a row fires at what all of it reached", policies.MetricUsedMemory, p, []step{
			{0, "warning", ""}, {5 * sec, "critical", "warning firing"}, {10 * sec, "critical", "warning resolved, critical firing"}}},
		{"a change of severity resolves and fires", policies.MetricUsedMemory, p, []step{
			{0, "critical", ""}, {5 * sec, "critical", "critical firing"}, {10 * sec, "warning", "critical resolved, warning firing"}, {15 * sec, "healthy", "warning resolved"}, {20 * sec, "healthy", ""}}},
		{"a standing alarm is repeated", policies.MetricInstanceUp, p, []step{
			{0, "critical", "critical firing"}, {5 * sec, "critical", ""}, {59 * sec, "critical", ""}, {60 * sec, "critical", "critical firing"}, {65 * sec, "critical", ""}, {120 * sec, "critical", "critical firing"}}},
		{"unknown keeps it standing and silent", policies.MetricUsedMemory, p, []step{
			{0, "warning", ""}, {5 * sec, "warning", "warning firing"}, {10 * sec, "?", ""}, {100 * sec, "?", ""}, {105 * sec, "warning", "warning firing"}, {110 * sec, "?", ""}, {115 * sec, "healthy", "warning resolved"}}},
		{"unknown neither breaks nor counts in a row", policies.MetricUsedMemory, p, []step{
			{0, "warning", ""}, {5 * sec, "?", ""}, {10 * sec, "?", ""}, {15 * sec, "warning", "warning firing"}}},
		{"a notice has its channel", policies.MetricEvicted, p, []step{
			{0, "notice", "notice firing"}, {5 * sec, "healthy", "notice resolved"}}},
		{"critical after a while", policies.MetricReplication, slow, []step{
			{0, "critical", "warning firing"}, {25 * sec, "critical", ""}, {30 * sec, "critical", "warning resolved, critical firing"}, {35 * sec, "healthy", "critical resolved"}, {40 * sec, "critical", "warning firing"}}},
		{"critical at once", policies.MetricReplication, p, []step{
			{0, "critical", "critical firing"}, {5 * sec, "warning", "critical resolved, warning firing"}}},
		{"a flapping alarm waits for a repeat of health", policies.MetricInstanceUp, p, []step{
			{0, "critical", "critical firing"}, {5 * sec, "healthy", "critical resolved"},
			{10 * sec, "critical", "critical firing"}, {15 * sec, "healthy", "critical resolved"},
			{20 * sec, "critical", "critical firing"}, {25 * sec, "healthy", ""}, {30 * sec, "critical", ""}, {35 * sec, "healthy", ""}, {40 * sec, "critical", ""},
			{80 * sec, "critical", "critical firing"}, {85 * sec, "healthy", ""}, {140 * sec, "healthy", ""}, {145 * sec, "healthy", "critical resolved"},
			{900 * sec, "critical", "critical firing"}, {905 * sec, "healthy", "critical resolved"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			play(t, newTracker("i", tt.policy, time.Minute), tt.metric, tt.steps)
		})
	}
}

// Since names the alarm: it is the beginning of the row that fired it, stays over repeats, and differs after a change of severity.
func TestSinceNamesTheAlarm(t *testing.T) {
	tr := newTracker("i", policies.PresetDefault(), time.Minute)
	start := time.Unix(1_700_000_000, 0)
	say := func(after time.Duration, s policies.Severity) []policies.Alarm {
		return tr.step([]policies.Judgement{{Finding: policies.Finding{Metric: policies.MetricUsedMemory, Node: "n", Severity: s, Msg: "m"}, Known: true}}, start.Add(after))
	}
	say(0, policies.Critical)
	fired := say(5*time.Second, policies.Critical)
	repeated := say(70*time.Second, policies.Critical)
	fallen := say(75*time.Second, policies.Warning)
	if !fired[0].Since.Equal(start) || !repeated[0].Since.Equal(start) || !fallen[0].Since.Equal(start) {
		t.Errorf("since: fired %v, repeated %v, resolved %v; want %v", fired[0].Since, repeated[0].Since, fallen[0].Since, start)
	}
	if fallen[1].Since.Equal(start) {
		t.Error("the warning after it bears the same name")
	}
	if got := tr.published(); len(got) != 1 || got[0].Severity != policies.Warning {
		t.Errorf("standing: %+v", got)
	}
}

func TestACauseThatChangesIsPublishedSooner(t *testing.T) {
	tr := newTracker("i", policies.PresetDefault(), time.Minute)
	start := time.Unix(1_700_000_000, 0)
	say := func(after time.Duration, c policies.Cause) int {
		return len(tr.step([]policies.Judgement{{Finding: policies.Finding{Metric: policies.MetricReplication, Node: "x", Severity: policies.Critical, Cause: c}, Known: true}}, start.Add(after)))
	}
	for i, s := range []struct {
		after time.Duration
		cause policies.Cause
		want  int
	}{
		{0, policies.CausePromoted, 1}, {5 * time.Second, policies.CauseNodeDown, 0}, {15 * time.Second, policies.CauseNodeDown, 1},
		{20 * time.Second, policies.CauseNodeDown, 0}, {74 * time.Second, policies.CauseNodeDown, 0}, {75 * time.Second, policies.CauseNodeDown, 1},
	} {
		if got := say(s.after, s.cause); got != s.want {
			t.Errorf("step %d: got %d publications, want %d", i, got, s.want)
		}
	}
}

func TestAlarmsOfTwoNodesAreTwo(t *testing.T) {
	tr := newTracker("i", policies.PresetDefault(), time.Minute)
	now := time.Unix(1_700_000_000, 0)
	both := func(a, b policies.Severity) int {
		now = now.Add(time.Second)
		return len(tr.step([]policies.Judgement{
			{Finding: policies.Finding{Metric: policies.MetricInstanceUp, Node: "a", Severity: a}, Known: true},
			{Finding: policies.Finding{Metric: policies.MetricInstanceUp, Node: "b", Severity: b}, Known: true}}, now))
	}
	if n := both(policies.Critical, 0); n != 1 {
		t.Errorf("a down: %d publications", n)
	}
	if n := both(policies.Critical, policies.Critical); n != 1 {
		t.Errorf("b too: %d publications", n)
	}
	if n := both(0, policies.Critical); n != 1 || tr.severity(policies.MetricInstanceUp, "a") != 0 || tr.severity(policies.MetricInstanceUp, "b") != policies.Critical {
		t.Errorf("a up: %d publications", n)
	}
}
