package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

// Logs go to stderr alone, without colours in a pipe; as JSON each line parses, with durations as text.
func TestLogsAreForMachinesToo(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text"} {
		t.Run(format, func(t *testing.T) {
			f := newFleet(t)
			f.policies = eager
			bus := startServer(t)
			f.bus = bus.url()
			in := newPair(t)
			f.addPair("one", liveBoth, in)
			p := running(t, "-c", f.write(), "--log-format", format, "--log-level", "debug")
			p.prints(policies.DBAStartLine)
			in.r.detach()
			p.until("healed", in.r.linked)
			bus.end()
			bus.relaunch() // its return is logged with how long it was away
			f.subscribersHear(p, bus, "back")
			p.stopsWell(sigterm)
			stdout, stderr := p.stdout.String(), p.stderr.String()
			if strings.Contains(stdout+stderr, "\x1b") {
				t.Error("an escape sequence went into a pipe")
			}
			for line := range strings.Lines(stdout) {
				if !regexp.MustCompile(`^\[(Monitoring agent|On-duty DBA|O&M dashboard|Self-healing service|Log archiving)\] `).MatchString(line) {
					t.Errorf("stdout holds what is no role's line: %q", line)
				}
			}
			if format == "json" {
				checkJSONLogs(t, stderr)
			} else if !strings.Contains(stderr, "level=INFO msg=running ") || regexp.MustCompile(`took=\d+(\s|$)`).MatchString(stderr) {
				t.Errorf("text logs: %s", tail(stderr))
			}
		})
	}
}

func checkJSONLogs(t *testing.T, stderr string) {
	t.Helper()
	took := 0
	for line := range strings.Lines(stderr) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("no JSON: %q", line)
			continue
		}
		for _, key := range []string{"time", "level", "msg"} {
			if _, ok := entry[key].(string); !ok {
				t.Errorf("no %s in %s", key, line)
			}
		}
		if v, has := entry["took"]; has {
			took++
			if s, ok := v.(string); !ok {
				t.Errorf("took is no text: %s", line)
			} else if _, err := time.ParseDuration(s); err != nil {
				t.Errorf("took: %v", err)
			}
		}
	}
	if took == 0 {
		t.Errorf("no log with a duration was seen:\n%s", tail(stderr))
	}
}

// What a caller's script goes by: the exit codes, and JSON alone on stdout.
func TestExitCodesAndPureJSON(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.policies = eager
	in := newPair(t)
	f.addPair("one", "", in)
	file := f.write()
	in.r.detach()
	in.r.do("SET", "only-here", "x") // writes that a reattachment would lose
	until(t, "the write counts", func() bool { return in.r.number("rdb_changes_since_last_save") > 0 })
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("instances: []\nintervall: 5s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		code int
		json bool
		args []string
	}{
		{"plan of a fault", 2, true, []string{"plan", "-c", file, "-o", "json"}},
		{"heal without --live", 3, true, []string{"heal", "-c", file, "--instance", "one", "-o", "json"}},
		{"heal that a guard denies", 3, true, []string{"heal", "-c", file, "--instance", "one", "--live", "--yes", "-o", "json"}},
		{"heal of another action", 0, true, []string{"heal", "-c", file, "--instance", "one", "--action", "reclaim-expired", "-o", "json"}},
		{"heal that a person allowed", 0, true, []string{"heal", "-c", file, "--instance", "one", "--live", "--yes", "--allow-lost-writes", "one-r", "-o", "json"}},
		{"heal of a healthy instance", 0, true, []string{"heal", "-c", file, "--instance", "one", "-o", "json"}},
		{"plan of a healthy fleet", 0, true, []string{"plan", "-c", file, "-o", "json"}},
		{"actions", 0, true, []string{"actions", "list", "-c", file, "-o", "json"}},
		{"alarms before any", 0, true, []string{"alarms", "list", "-c", file, "-o", "json"}},
		{"trend before any", 0, true, []string{"alarms", "trend", "-c", file, "-o", "json"}},
		{"status", 0, true, []string{"status", "-c", file, "-o", "json"}},
		{"a config with faults", 1, true, []string{"config", "check", "-c", bad, "-o", "json"}},
		{"plan with it", 1, false, []string{"plan", "-c", bad, "-o", "json"}},
		{"heal with it", 1, false, []string{"heal", "-c", bad, "--instance", "one"}},
		{"run with it", 1, false, []string{"run", "-c", bad}},
		{"a config that is not there", 1, false, []string{"plan", "-c", bad + ".gone"}},
		{"an unknown flag", 1, false, []string{"plan", "-c", file, "--liv"}},
		{"an unknown output", 1, false, []string{"plan", "-c", file, "-o", "xml"}},
		{"an unknown instance", 1, false, []string{"plan", "-c", file, "--instance", "three"}},
		{"--live without --yes", 1, false, []string{"heal", "-c", file, "--instance", "one", "--live"}},
		{"an unknown role", 1, false, []string{"run", "-c", file, "--roles", "healer,cook"}},
		{"an unknown log level", 1, false, []string{"run", "-c", file, "--log-level", "loud"}},
	} {
		code, stdout, stderr := command(t, c.args...)
		if code != c.code {
			t.Errorf("%s: exit %d, want %d\n%s%s", c.name, code, c.code, stdout, stderr)
		}
		if c.json {
			parse[any](t, stdout)
		} else if stdout != "" || stderr == "" || strings.Contains(stderr, "Usage:") {
			t.Errorf("%s: stdout %q, stderr %q, want one error on stderr", c.name, stdout, stderr)
		}
	}
	if !in.r.linked() || in.m.info("role") != "master" {
		t.Error("the person's heal did not attach the replica")
	}
	in.r.signal(sigkill)
	if code, stdout, _ := command(t, "heal", "-c", file, "--instance", "one"); code != exitDenied || !strings.Contains(stdout, "node-down") {
		t.Errorf("heal of a dead node: exit %d, want 3: no action cures it\n%s", code, stdout)
	}
}
