package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dcshealer/policies"
)

// fleet is a config file and its state_dir.
type fleet struct {
	t           *testing.T
	file, state string
	bus         string // bus.url; empty: embedded
	busMore     string // further lines of the bus section, such as "tls: {ca_file: ca.pem}"
	agent       string // the agent section's values
	listen      string // empty: nothing is served
	dashboard   string // its section's values; empty: none
	policies    string // a policies section; empty: the defaults
	notify      string // a notify section's lines; empty: nobody is told
	instances   []string
}

// newFleet has a fast agent and no instance yet.
func newFleet(t *testing.T) *fleet {
	dir := t.TempDir()
	return &fleet{t: t, file: filepath.Join(dir, "fleet.yaml"), state: filepath.Join(dir, "state"), agent: "interval: 200ms, timeout: 1s, repeat: 1m"}
}

// eager is a policy under which repairs may follow one another at once.
const eager = `policies:
  default:
    thresholds: {used_memory: {for: 1}}
    remediation:
      reclaim-expired: {cooldown: 0s}
      reattach-replica: {cooldown: 0s, undone: 0}
`

// slowSweep makes a sweep of some 100,000 keys last long enough to be met in its middle.
const slowSweep = `policies:
  default:
    thresholds: {used_memory: {for: 1}}
    remediation:
      reclaim-expired: {cooldown: 0s, duty: 1%, call_p99: 50us}
`

// node is a line of the nodes list.
func node(name string, s *server, role policies.Role) string {
	return fmt.Sprintf("      - {name: %s, address: %s, role: %s}\n", name, s.addr(), role)
}

func master(name string, s *server) string  { return node(name, s, policies.RoleMaster) }
func replica(name string, s *server) string { return node(name, s, policies.RoleReplica) }

// add adds an instance; settings are further lines of it, such as "live: [reattach-replica]".
func (f *fleet) add(name, settings string, nodes ...string) *fleet {
	var b strings.Builder
	fmt.Fprintf(&b, "  - name: %s\n", name)
	for line := range strings.Lines(settings) {
		fmt.Fprintf(&b, "    %s\n", strings.TrimSpace(line))
	}
	b.WriteString("    nodes:\n" + strings.Join(nodes, ""))
	f.instances = append(f.instances, b.String())
	return f
}

// write writes the config file and returns its path.
func (f *fleet) write() string {
	f.t.Helper()
	bus := ""
	if f.bus != "" {
		bus = "bus:\n  url: \"" + f.bus + "\"\n"
	}
	for line := range strings.Lines(f.busMore) {
		bus += "  " + strings.TrimSpace(line) + "\n"
	}
	web := fmt.Sprintf("listen: %q\n", f.listen)
	if f.dashboard != "" {
		web += "dashboard: {" + f.dashboard + "}\n"
	}
	told := ""
	if f.notify != "" {
		told = "notify:\n" + f.notify
	}
	text := bus + web + "state_dir: state\nagent: {" + f.agent + "}\ninstances:\n" + strings.Join(f.instances, "") + f.policies + told
	if err := os.WriteFile(f.file, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return f.file
}

const liveBoth = "live: [reattach-replica, reclaim-expired]"

// records is what actions list says, newest first.
func (f *fleet) records(args ...string) []policies.Record {
	f.t.Helper()
	code, stdout, stderr := here(f.t, append([]string{"actions", "list", "-c", f.file, "-o", "json"}, args...)...)
	if code != 0 {
		f.t.Fatalf("actions list: exit %d\n%s", code, stderr)
	}
	return parse[[]policies.Record](f.t, stdout)
}

// outcome waits for the newest record of an instance with an outcome and returns it.
func (f *fleet) outcome(instance string, o policies.Outcome) policies.Record {
	f.t.Helper()
	var found policies.Record
	until(f.t, instance+" has a record "+string(o), func() bool {
		list := f.records("--instance", instance, "--outcome", string(o))
		if len(list) > 0 {
			found = list[0]
		}
		return len(list) > 0
	})
	return found
}

// verifies checks the journal's chain.
func (f *fleet) verifies() {
	f.t.Helper()
	if out := succeeds(f.t, "actions", "verify", "-c", f.file); !strings.Contains(out, "The journal is whole") {
		f.t.Errorf("actions verify: %s", out)
	}
}

func (f *fleet) status() fleetStatus {
	f.t.Helper()
	code, stdout, stderr := here(f.t, "status", "-c", f.file, "-o", "json")
	if code != 0 {
		f.t.Fatalf("status: exit %d\n%s", code, stderr)
	}
	return parse[fleetStatus](f.t, stdout)
}

// parse reads output that holds one JSON value and nothing else.
func parse[T any](t *testing.T, text string) (v T) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, text)
	}
	if rest := strings.TrimSpace(text[d.InputOffset():]); rest != "" {
		t.Fatalf("more than one JSON value: %.200s", rest)
	}
	return v
}
