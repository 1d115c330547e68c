package probe

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"dcshealer/policies"
)

// recordedSubnet is the network of the recorded servers, so that each node has the same address in all recordings.
const recordedSubnet = "10.213.77."

// recordedNodes are the nodes by the last part of their address. f is a foreign server, of which nothing is recorded.
var recordedNodes = []struct {
	name, host string
	role       policies.Role
}{{"m", "11", policies.RoleMaster}, {"n", "15", policies.RoleMaster}, {"x", "12", policies.RoleReplica}, {"y", "13", policies.RoleReplica}, {"f", "14", ""}}

func recordedIP(node string) string {
	for _, n := range recordedNodes {
		if n.name == node {
			return recordedSubnet + n.host
		}
	}
	panic("no such node: " + node)
}

// looksAt are the names of a story that was looked at four times.
func looksAt(story string) []string {
	return []string{story + "-1", story + "-2", story + "-3", story + "-4"}
}

// What triage has to make of each recording. The master is m, or n where that is the newer one.
var recordedFaults = []struct {
	name   string
	after  []string // what the healer saw of the same servers before
	x, y   policies.Cause
	text   string   // a part of the message about x
	port   int      // by which the config has the master; 0: 6379
	absent []string // versions that cannot be brought there
}{
	{name: "in-step"},
	{name: "in-step-idle"}, // 9 s after the last PING
	{name: "promoted", after: []string{"in-step"}, x: policies.CausePromoted},
	{name: "promoted-with-writes", after: []string{"in-step"}, x: policies.CausePromotedWithWrites},
	{name: "wrong-master-live", x: policies.CauseWrongMaster},
	{name: "wrong-master-dead-port", x: policies.CauseWrongMaster},
	{name: "wrong-master-itself", x: policies.CauseWrongMaster},
	{name: "chain"},
	{name: "chained", after: []string{"chain"}, x: policies.CauseChained, y: policies.CauseNetwork},
	{name: "chain-middle-promoted", after: []string{"chain"}, x: policies.CauseChained, y: policies.CausePromoted},
	{name: "network-drop", after: []string{"network-drop-first"}, x: policies.CauseNetwork},
	{name: "network-reject", after: []string{"network-reject-first"}, x: policies.CauseNetwork},
	{name: "network-reject-password", after: []string{"network-reject-password-first"}, x: policies.CauseNetwork},
	{name: "auth-none", after: []string{"auth-none-first"}, x: policies.CauseAuth, text: "masterauth"},
	// On 7.0, 8.0 and Valkey 8.1 it tries again hundreds of times a second, and may be met in the middle of it.
	{name: "auth-none-connecting", after: []string{"auth-none-first", "auth-none"}, x: policies.CauseAuth, absent: []string{"redis-6.0", "valkey-9.1"}},
	{name: "auth-wrong-password", after: []string{"auth-wrong-password-first"}, x: policies.CauseAuth},
	{name: "auth-no-right", after: []string{"auth-no-right-first"}, x: policies.CauseAuth},
	{name: "auth-no-right-connecting", after: []string{"auth-no-right-first", "auth-no-right"}, x: policies.CauseAuth, absent: []string{"redis-6.0", "valkey-9.1"}},
	{name: "maxclients", after: []string{"maxclients-first"}, x: policies.CauseNetwork, text: "maxclients"},
	{name: "tls-in-step", port: 6380},
	{name: "tls-to-plaintext", after: []string{"tls-to-plaintext-first"}, x: policies.CauseTLS},
	{name: "plaintext-to-tls", after: []string{"plaintext-to-tls-first"}, x: policies.CauseTLS, port: 6380},
	{name: "tls-not-trusted", after: []string{"tls-not-trusted-first"}, x: policies.CauseTLS, port: 6380},
	{name: "tls-rejected", after: []string{"tls-rejected-first"}, x: policies.CauseTLS, port: 6380}, // no field tells it from the one before
	{name: "stuck-early", x: policies.CauseStuckLink},                                               // silent for 13 s
	{name: "stuck", after: []string{"stuck-early"}, x: policies.CauseStuckLink},
	{name: "loading-replica", x: policies.CauseLoading},
	{name: "loading-copy", x: policies.CauseLoading},
	{name: "loading-master", after: []string{"loading-master-first"}, x: policies.CauseLoading},
	{name: "syncing", after: []string{"syncing-first"}, x: policies.CauseSyncing},
	{name: "syncing-beside-backups", after: []string{"syncing-first", "syncing", "syncing-beside-backups-first"}, x: policies.CauseSyncing}, // redis-cli --rdb
	{name: "syncing-delay", after: []string{"syncing-delay-first"}, x: policies.CauseSyncing},
	{name: "resync-loop-4", after: looksAt("resync-loop")[:3], x: policies.CauseResyncLoop},
	{name: "load-failed-version-4", after: looksAt("load-failed-version")[:3], x: policies.CauseLoadFailed, absent: []string{"redis-8.0"}}, // it reads all the others
	{name: "load-failed-disk-4", after: looksAt("load-failed-disk")[:3], x: policies.CauseLoadFailed},
	{name: "master-down", x: policies.CauseMasterDown},
	{name: "master-empty", after: []string{"master-empty-first"}, x: policies.CauseMasterEmpty},
	{name: "master-empty-promoted", after: []string{"master-empty-first", "master-empty"}, x: policies.CauseMasterEmpty},
	{name: "switched-over", x: policies.CauseSwitchedOver},
	{name: "two-masters", after: []string{"two-masters-first"}, x: policies.CauseTwoMasters, y: policies.CauseTwoMasters},
	{name: "cycle", x: policies.CauseCycle},
	{name: "same-node", x: policies.CauseSameNode},
}

// What real servers of each version showed in each fault, read by the probe's own parser, leads to the right cause.
func TestRecordedFaults(t *testing.T) {
	for _, v := range versions {
		t.Run(v.file, func(t *testing.T) {
			rec := openRecording(t, v.file)
			for _, f := range recordedFaults {
				if slices.Contains(f.absent, v.file) {
					continue
				}
				t.Run(f.name, func(t *testing.T) {
					g := rec.group(t, f.port, append(slices.Clone(f.after), f.name)...)
					got := map[string]policies.Triage{}
					for _, tr := range policies.TriageReplication(g, g.Snapshots[0].At) {
						got[tr.Node] = tr
					}
					for node, want := range map[string]policies.Cause{"x": f.x, "y": f.y} {
						if tr := got[node]; tr.Cause != want {
							t.Errorf("%s: got %q, want %q: %s\n%s", node, tr.Cause, want, tr.Msg, rec.show(f.name))
						}
					}
					if !strings.Contains(got["x"].Msg, f.text) {
						t.Errorf("x: got %q, want a word of %q", got["x"].Msg, f.text)
					}
				})
			}
			for _, name := range rec.unused() {
				t.Errorf("%s is recorded and not asked for", name)
			}
		})
	}
}

// A recording is what the servers of one version showed, by NAME/NODE.KIND.
type recording struct {
	files map[string]string
	times map[string]time.Duration
	used  map[string]bool
	order []string
}

func openRecording(t *testing.T, version string) *recording {
	t.Helper()
	ar, err := txtar.ParseFile(filepath.Join("testdata", "cases", version+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	rec := &recording{files: map[string]string{}, times: map[string]time.Duration{}, used: map[string]bool{}}
	for _, f := range ar.Files {
		rec.files[f.Name] = string(f.Data)
	}
	for line := range strings.Lines(rec.files["times"]) {
		name, seconds, _ := strings.Cut(strings.TrimSpace(line), " ")
		s, err := strconv.ParseFloat(seconds, 64)
		if err != nil {
			t.Fatalf("times: %q: %v", line, err)
		}
		rec.times[name] = time.Duration(s * float64(time.Second))
		rec.order = append(rec.order, name)
	}
	return rec
}

func (rec *recording) unused() []string {
	return slices.DeleteFunc(slices.Clone(rec.order), func(name string) bool { return rec.used[name] })
}

// show is what was recorded under a name, for a person.
func (rec *recording) show(name string) string {
	var b strings.Builder
	for file, text := range rec.files {
		if strings.HasPrefix(file, name+"/") {
			b.WriteString("-- " + file + " --\n" + text)
		}
	}
	return b.String()
}

// group is the nodes of the last name, as a healer knows them that saw the names before it, too.
func (rec *recording) group(t *testing.T, port int, names ...string) policies.Group {
	t.Helper()
	g := policies.Group{Courses: map[string]policies.LinkCourse{}, Memory: map[string]policies.NodeMemory{}}
	for _, name := range names {
		g.Instance, g.Snapshots = rec.look(t, port, name)
		m, _ := g.Of(g.Instance.Master().Name)
		for _, s := range g.Snapshots {
			g.Courses[s.Node] = g.Courses[s.Node].Next(s, m)
			g.Memory[s.Node] = policies.NextMemory(g.Memory[s.Node], s)
		}
	}
	return g
}

// look is the instance of the nodes that were recorded under the name, and their snapshots.
func (rec *recording) look(t *testing.T, port int, name string) (in policies.Instance, all []policies.Snapshot) {
	t.Helper()
	rec.used[name] = true
	in.Name = "dcs-test-01"
	for _, n := range recordedNodes {
		s, ok := rec.snapshot(t, name, n.name)
		if !ok {
			continue
		}
		address := policies.Address{Host: recordedIP(n.name), Port: 6379}
		if n.role == policies.RoleMaster && port != 0 {
			address.Port = port
		}
		if s.AuthRequired.Or(false) {
			in.Password = "pw"
		}
		in.Nodes = append(in.Nodes, policies.Node{Name: n.name, Address: address, Role: n.role})
		all = append(all, s)
	}
	if in.Master().Name == "" || len(all) < 2 {
		t.Fatalf("%s: a master and a replica are not recorded", name)
	}
	return in, all
}

// snapshot reads one node with the probe's parser, as a deep probe does. ok is false when it was not recorded.
func (rec *recording) snapshot(t *testing.T, name, node string) (s policies.Snapshot, ok bool) {
	t.Helper()
	at := name + "/" + node
	s = policies.Snapshot{Instance: "dcs-test-01", Node: node, At: time.Unix(1_800_000_000, 0).Add(rec.times[name]), OwnIPs: []string{recordedIP(node)}}
	if reach, ok := rec.files[at+".reach"]; ok {
		s.Reach = policies.Reach(strings.TrimSpace(reach))
		return s, true
	}
	text, own := rec.files[at+".info"]
	if own {
		if rec.files[at+".role"] != "" {
			text = rec.files["common.replica.info"] + text
		}
		text = rec.files["common.info"] + text
	} else if text, ok = rec.files[at+".foreign.info"]; !ok {
		return s, false
	}
	in := parseInfo(text)
	if !in.isNode() {
		t.Fatalf("%s: not taken for a node", at)
	}
	in.fill(&s)
	s.Reach = policies.ReachUp
	if s.Loading.Or(false) {
		s.Reach = policies.ReachLoading
	}
	rec.replies(t, at, &s)
	if host := s.Replication.MasterHost; host != "" {
		s.MasterIPs = []string{host}
	}
	return s, true
}

// replies fills in what a node answered to ROLE, CONFIG GET, ACL LOG and to a stranger.
func (rec *recording) replies(t *testing.T, at string, s *policies.Snapshot) {
	t.Helper()
	role, log := []any{"master"}, []any(nil)
	if text, ok := rec.files[at+".role"]; ok {
		decode(t, text, &role)
	}
	r, state, err := parseRole(role)
	if err != nil || r != s.Replication.Role {
		t.Fatalf("%s: ROLE says %q, INFO %q: %v", at, r, s.Replication.Role, err)
	}
	s.Replication.LinkState = state
	answers := map[string]any{}
	for line := range strings.Lines(rec.files["common.config"] + rec.files[at+".config"]) {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		answers[name] = value
	}
	set, _ := answered(t, answers)
	set.fill(s)
	if text, ok := rec.files[at+".acl"]; ok {
		decode(t, text, &log)
		s.Refusals = parseRefusals(log)
	}
	s.AuthRequired = policies.Known(false)
	if line, ok := rec.files[at+".stranger"]; ok {
		s.AuthRequired = refusesStrangers(line)
	}
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
}

// Nothing secret is recorded, and no file grows out of hand.
func TestRecordingsAreFitToKeep(t *testing.T) {
	for _, v := range versions {
		data, err := os.ReadFile(filepath.Join("testdata", "cases", v.file+".txtar"))
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 90_000 {
			t.Errorf("%s has %d bytes", v.file, len(data))
		}
		if strings.Contains(string(data), "masterauth pw") || strings.Contains(string(data), "masterauth wrong") {
			t.Errorf("%s holds a password", v.file)
		}
	}
}
