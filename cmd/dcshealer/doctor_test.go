package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

// examined runs doctor and returns what it found that is not well, by "severity instance/node check", and each with its text.
func (f *fleet) examined(wantCode int, args ...string) map[string]string {
	f.t.Helper()
	code, stdout, stderr := here(f.t, append([]string{"doctor", "-c", f.write(), "-o", "json"}, args...)...)
	if code != wantCode {
		f.t.Fatalf("doctor: exit %d, want %d\n%s%s", code, wantCode, stdout, stderr)
	}
	report := parse[doctorReport](f.t, stdout)
	if report.OK != (code == exitDone) {
		f.t.Errorf("doctor exits %d and says ok: %v", code, report.OK)
	}
	found := map[string]string{}
	for _, r := range report.Findings {
		if r.Severity != policies.HealthOK {
			found[strings.Join([]string{string(r.Severity), r.Node, string(r.Check)}, " ")] += r.Seen + " -> " + r.Cure + "\n"
		}
	}
	return found
}

// finds compares the keys of what was found, and what each is to say.
func finds(t *testing.T, found map[string]string, want map[string]string) {
	t.Helper()
	for key, text := range want {
		if got, there := found[key]; !there || !strings.Contains(got, text) {
			t.Errorf("%s: %q, want %q", key, got, text)
		}
	}
	for key, text := range found {
		if _, wanted := want[key]; !wanted {
			t.Errorf("also found %s: %s", key, text)
		}
	}
}

const roomy = "64mb"

func (p pair) limit() {
	for _, s := range []*server{p.m, p.r} {
		s.do("CONFIG", "SET", "maxmemory", roomy)
	}
}

// With the rights that acl prints all is well; nothing is refused to it, nothing is changed, and beside a healer it works too.
func TestDoctorWithTheLeastRights(t *testing.T) {
	t.Parallel()
	f, in, bus := rightsFleet(t, liveBoth)
	in.limit()
	f.grant(policies.ProfileHeal, in, bus)
	for _, s := range []*server{in.m, in.r, bus} {
		s.do("CONFIG", "RESETSTAT")
	}
	finds(t, f.examined(exitDone), nil)
	noRefusals(t, in.m, in.r, bus)
	reads := []string{"ping", "info", "role", "slowlog|get", "client|list", "client|setname", "config|get", "command|info", "acl|whoami", "acl|dryrun",
		"hello", "auth", "acl|log", "config|resetstat"} // the last two are the test's
	for _, s := range []*server{in.m, in.r} {
		calls := s.CommandCalls()
		delete(calls, "psync")
		delete(calls, "replconf")
		for _, name := range (policies.Rights{Profile: policies.ProfileObserve}).Commands(policies.ACLLine70) {
			if calls[name] == 0 {
				t.Errorf("the right to send %s is granted and was not used on %s", name, s.addr())
			}
		}
		for name := range maps.Keys(calls) {
			if !slices.Contains(reads, name) {
				t.Errorf("%s was sent %s", s.addr(), name)
			}
		}
	}
	if n := bus.c.Exists(t.Context(), policies.StreamKey("redis:monitor")).Val(); n != 0 {
		t.Error("doctor wrote to the stream")
	}
	if _, err := os.Stat(f.state); !os.IsNotExist(err) {
		t.Errorf("doctor made %s (%v)", f.state, err)
	}
	p := running(t, "-c", f.file)
	code, stdout, _ := here(t, "doctor", "-c", f.file, "--instance", "one")
	if code != exitDone || !strings.Contains(stdout, "a healer is running on it") || !strings.Contains(stdout, "0 errors, 0 warnings") {
		t.Errorf("doctor beside a healer: exit %d\n%s", code, stdout)
	}
	p.prints(policies.DBAStartLine)
	if got := p.stdout.String(); strings.Contains(got, "canary") {
		t.Errorf("the canary woke somebody: %s", got)
	}
	p.stopsWell(sigterm)
}

// The profile observe is told what a repair would take: a warning in dry run, an error where it is live.
func TestDoctorNamesMissingRights(t *testing.T) {
	t.Parallel()
	f, in, bus := rightsFleet(t, "")
	in.limit()
	f.grant(policies.ProfileObserve, in, bus)
	found := f.examined(exitDone)
	for _, node := range []string{"one-m", "one-r"} {
		if text := found["warning "+node+" rights"]; !strings.Contains(text, "ACL SETUSER healer +replicaof +client|kill") || !strings.Contains(text, "+scan +select") {
			t.Errorf("%s: %s", node, text)
		}
	}
	in.r.do("ACL", "SETUSER", "healer", "-slowlog|get")
	live, _, _ := rightsFleet(t, liveBoth)
	live.instances, live.bus = nil, f.bus
	live.addPair("one", "username: healer\npassword_file: pass\n"+liveBoth, in)
	if text := live.examined(exitFailed)["error one-r rights"]; !strings.Contains(text, "+replicaof") || !strings.Contains(text, "+slowlog|get") {
		t.Errorf("live: %s", text)
	}
}

// Several set-ups that are broken, each in its own way.
func TestDoctorOnBrokenFleets(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		make func(t *testing.T, f *fleet)
		want map[string]string
	}{
		"wrong password": {func(t *testing.T, f *fleet) {
			s := startServer(t, "--requirepass", "right")
			f.password("wrong")
			f.add("one", "password_file: pass", master("one-m", s))
		}, map[string]string{"error one-m auth": "WRONGPASS"}},
		"dead node": {func(t *testing.T, f *fleet) {
			in := newPair(t)
			in.limit()
			in.r.end()
			f.addPair("one", "", in)
		}, map[string]string{"error one-r reach": "connection refused"}},
		"renamed command": {func(t *testing.T, f *fleet) {
			f.add("one", "live: [reattach-replica]", master("one-m", startServer(t, "--maxmemory", roomy, "--rename-command", "REPLICAOF", "XREPLICAOF")))
		}, map[string]string{"error one-m commands": "REPLICAOF"}},
		"replica without masterauth": {func(t *testing.T, f *fleet) {
			in := newPair(t)
			in.limit()
			in.m.do("ACL", "SETUSER", "ours", "on", ">"+rightsPassword, "~*", "&*", "+@all")
			in.r.do("ACL", "SETUSER", "ours", "on", ">"+rightsPassword, "~*", "&*", "+@all")
			in.m.do("CONFIG", "SET", "requirepass", rightsPassword)
			f.password(rightsPassword)
			f.addPair("one", "username: ours\npassword_file: pass", in)
		}, map[string]string{"error one-r replication": "masterauth"}},
		"unreachable bus": {func(t *testing.T, f *fleet) {
			s := startServer(t, "--maxmemory", roomy)
			bus := startServer(t)
			f.bus = bus.url()
			bus.end()
			f.add("one", "", master("one-m", s))
		}, map[string]string{"error  bus": "start the bus server"}},
		"bus without rights": {func(t *testing.T, f *fleet) {
			s := startServer(t, "--maxmemory", roomy)
			s.do("ACL", "SETUSER", "mute", "on", ">"+rightsPassword, "resetchannels", "+ping", "+subscribe", "+psubscribe", "&redis:monitor:*")
			f.bus = "redis://mute:" + rightsPassword + "@" + s.addr()
			f.add("one", "", master("one-m", s))
		}, map[string]string{"error  bus": "NOPERM", "warning  bus": "redis:monitor:stream cannot be written"}},
		"another instance's replica": {func(t *testing.T, f *fleet) {
			in := newPair(t)
			in.limit()
			f.add("one", "", master("one-m", in.m))
		}, map[string]string{"warning one-m topology": "is no node of the config"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t)
			tt.make(t, f)
			code := exitFailed
			if !slices.ContainsFunc(slices.Collect(maps.Keys(tt.want)), func(key string) bool { return strings.HasPrefix(key, "error") }) {
				code = exitDone
			}
			finds(t, f.examined(code), tt.want)
		})
	}
}

// A client certificate is spoken of before it ends, for nodes and bus.
func TestDoctorReadsTheDatesOfClientCertificates(t *testing.T) {
	t.Parallel()
	ours := redistest.NewAuthority(t)
	client := ours.Client() // for an hour
	s := startTLS(t, ours, "--maxmemory", roomy)
	f := newFleet(t)
	f.bus, f.busMore = "rediss://"+s.secure.String(), tlsSection(client)
	f.add("one", tlsSection(client), s.node("one-m", policies.RoleMaster))
	finds(t, f.examined(exitDone), map[string]string{"warning  tls": "bus.tls.cert_file is good until"})
	expired := *client
	expired.CertFile, expired.KeyFile = ours.IssueExpired()
	for _, tt := range []struct {
		files policies.TLS
		now   time.Time
		want  policies.Health
	}{
		{policies.TLS{}, time.Now(), ""},
		{*client, time.Now().Add(-50 * 24 * time.Hour), policies.HealthError},
		{*client, time.Now(), policies.HealthWarning},
		{expired, time.Now(), policies.HealthError},
		{policies.TLS{CertFile: "/nowhere", KeyFile: "/nowhere"}, time.Now(), policies.HealthError},
	} {
		var got policies.Health
		for _, r := range checkCertificate(&tt.files, "one", "tls", tt.now) {
			got = r.Severity
		}
		if got != tt.want {
			t.Errorf("%+v at %s: %q, want %q", tt.files, tt.now, got, tt.want)
		}
	}
}

// A journal that somebody changed, and a state_dir that is none.
func TestDoctorLooksAtTheStateDir(t *testing.T) {
	t.Parallel()
	f, s := newFleet(t), startServer(t, "--maxmemory", roomy)
	f.add("one", "", master("one-m", s))
	if err := os.MkdirAll(f.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.state, "healer.db"), []byte("no journal at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	finds(t, f.examined(exitFailed), map[string]string{"error  journal": "healer.db"})
	if got := checkFolder(filepath.Join(f.file, "below")); got.Severity != policies.HealthError {
		t.Errorf("a state_dir below a file: %+v", got)
	}
	if got := checkFolder(filepath.Join(filepath.Dir(f.file), "new", "er")); got.Severity != policies.HealthOK || !strings.Contains(got.Seen, "will be made") {
		t.Errorf("a state_dir that is not there yet: %+v", got)
	}
	link := filepath.Join(filepath.Dir(f.file), "link")
	if err := os.Symlink("/gone", link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{link, filepath.Join(link, "state", "x")} {
		if got := checkFolder(dir); got.Severity != policies.HealthError || !strings.Contains(got.Seen, "the link "+link+" leads to /gone, which is not there") {
			t.Errorf("a state_dir %s over a link that leads nowhere: %+v", dir, got)
		}
	}
	f.instances = nil
	f.add("one", "password_file: link/pass", master("one-m", s))
	if code, _, stderr := here(t, "doctor", "-c", f.write()); code != exitFailed || !strings.Contains(stderr, "password_file") || !strings.Contains(stderr, "the link "+link+" leads to /gone") {
		t.Errorf("doctor about a password file over a link that leads nowhere: exit %d: %s", code, stderr)
	}
}
