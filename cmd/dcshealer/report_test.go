package main

import (
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

func TestReportBeforeAnyJournal(t *testing.T) {
	d := newStateDir(t)
	r := decode[report](t, d.ok(t, "report", "-o", "json"))
	if len(r.Instances) != 2 || len(r.Notes) != 1 || r.Until.Sub(r.Since) != 30*24*time.Hour || r.Instances[0].Actions[1].Mode != policies.Live {
		t.Errorf("%+v", r)
	}
	wantWords(t, "report", d.ok(t, "report"), "there is no journal in", "dcs-prod-02: 0 incidents", "no evidence: no fault that it is for")
	d.fails(t, []string{"report", "--since", "soon"}, "--since", "soon")
	for _, nothing := range []string{"0d", "0s", time.Now().Add(time.Hour).Format(time.RFC3339)} {
		for _, of := range []string{"report", "actions list", "alarms trend"} {
			d.fails(t, append(strings.Fields(of), "--since", nothing), "--since", nothing, "no time has passed since then")
		}
	}
	d.fails(t, []string{"report", "--instance", "x"}, `"x"`, "dcs-prod-01")
	d.fails(t, []string{"report", "-o", "yaml"}, "yaml", "text, json or markdown")
	d.fails(t, []string{"status", "-o", "markdown"}, "markdown", "text or json")
}

func TestReport(t *testing.T) {
	d := newStateDir(t)
	d.healed(t)
	d.incident3(t)
	since := decided.Add(-time.Hour).Format(time.RFC3339)
	text := d.ok(t, "report", "--since", since)
	wantWords(t, "report", text, "the journal begins at 2026-03-01 1", "dcs-prod-01: 1 incident\n", "reattach-replica (live now): 1 of 1 actions helped, none failed or was undone", "acted             1 time: succeeded 1", "detected after    1s\n", "repaired after    5s\n")
	md := d.ok(t, "report", "--since", since, "-o", "markdown")
	rows := 0
	for line := range strings.Lines(md) {
		if strings.HasPrefix(line, "| dcs-prod") {
			rows++
			if n := strings.Count(line, "|"); n != 11 {
				t.Errorf("%d bars, want 11: %s", n, line)
			}
		}
	}
	if rows != 4 {
		t.Errorf("%d rows, want one an instance and action:\n%s", rows, md)
	}
	one := decode[report](t, d.ok(t, "report", "--since", since, "--instance", "dcs-prod-02", "-o", "json"))
	if len(one.Instances) != 1 || one.Instances[0].Instance != "dcs-prod-02" {
		t.Errorf("%+v", one)
	}
	if later := decode[report](t, d.ok(t, "report", "--since", decided.Add(time.Minute).Format(time.RFC3339), "-o", "json")); later.Instances[0].Incidents != 0 || later.Instances[0].Actions[1].Sent != 0 {
		t.Errorf("what was over then is counted: %+v", later.Instances[0])
	}
}

func TestMarkdownCells(t *testing.T) {
	if got := markdown("a|b\n<i>*_x_*\x1b[1m"); strings.ContainsAny(got, "\n\x1b<") || !strings.Contains(got, `a\|b`) || !strings.Contains(got, `\*\_x\_\*`) {
		t.Errorf("%q", got)
	}
}

func TestSpans(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", 12345 * time.Microsecond: "12ms", 1234 * time.Millisecond: "1.2s", 90 * time.Second: "1m30s", 90 * time.Minute: "1h30m", 50 * time.Hour: "2.1 days", -time.Second: "-1s"} {
		if got := span(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
