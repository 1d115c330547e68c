package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"dcshealer/agent/probe/redistest"
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

const baitPassword = "bait-password-52c1e9"

// Passwords and key names appear nowhere: no output, no log, no file of ours, not in a process's arguments.
func TestSecretsAndKeyNamesAppearNowhere(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.policies = eager
	m := startServer(t, "--requirepass", baitPassword)
	r := startReplica(t, m, "--requirepass", baitPassword, "--masterauth", baitPassword)
	bus := startServer(t, "--requirepass", baitPassword+"-bus")
	f.bus = "redis://:" + baitPassword + "-bus@" + bus.addr()
	if err := os.WriteFile(filepath.Join(filepath.Dir(f.file), "one.pass"), []byte(baitPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.do("CONFIG", "SET", "slowlog-log-slower-than", "0") // commands with key names in the slow log, which is read
	f.add("one", liveBoth+"\npassword_file: one.pass", master("m", m), replica("r", r))
	m.expire(30_000)
	until(t, "the replica has all keys", func() bool { return r.linked() && r.info("db0") == m.info("db0") })
	r.do("DEBUG", "SET-ACTIVE-EXPIRE", "0") // or its own deletions would count as writes that only it has
	r.detach()
	file := f.write()
	p := running(t, "-c", file, "--log-level", "debug")
	p.until("both are healed", func() bool { return len(f.records("--outcome", "succeeded")) >= 2 })
	outputs := map[string]string{"run.json": ""}
	for _, args := range [][]string{{"status"}, {"plan"}, {"actions", "list"}, {"alarms", "list"}, {"live", "list"}, {"config", "check"}, {"heal", "--instance", "one"}} {
		for _, format := range []string{"text", "json"} {
			_, stdout, stderr := command(t, append(args, "-c", file, "-o", format)...)
			outputs[strings.Join(args, " ")+" "+format] = stdout + stderr
		}
	}
	for _, rec := range f.records() {
		outputs["actions show "+rec.ID] = succeeds(t, "actions", "show", rec.ID, "-c", file) + succeeds(t, "actions", "show", rec.ID, "-c", file, "-o", "json")
	}
	cmdline, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	f.stateFiles(outputs) // beside the run: with the write-ahead logs
	p.stopsWell(sigterm)
	f.stateFiles(outputs)
	outputs["stdout of run"], outputs["stderr of run"], outputs["arguments"] = p.stdout.String(), p.stderr.String(), string(cmdline)
	_, out, errOut := command(t, "publish", "-c", file, "--severity", "notice", "--instance", "one", "--metric", "m", "--bus", "redis://:"+baitPassword+"@127.0.0.1:"+strconv.Itoa(redistest.FreePort(t)))
	outputs["publish to a dead bus"] = out + errOut
	for name, text := range outputs {
		for _, bait := range []string{"bait-password", "bait-key"} {
			if i := strings.Index(text, bait); i >= 0 {
				t.Errorf("%s holds %s: …%q…", name, bait, text[max(0, i-80):min(len(text), i+60)])
			}
		}
	}
	if len(outputs["healer.db"]) < 10_000 || len(outputs["alarms.db"]) < 10_000 || outputs["run.json"] == "" {
		t.Error("the files of the state_dir were not read")
	}
}

// stateFiles adds the content of every file in the state_dir.
func (f *fleet) stateFiles(to map[string]string) {
	f.t.Helper()
	err := filepath.WalkDir(f.state, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		to[d.Name()] += string(data)
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
}
