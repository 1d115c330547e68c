package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

const rightsPassword = "pw-of-the-test"

// rightsFleet is a pair whose config names a user, and a bus with one.
func rightsFleet(t *testing.T, settings string) (*fleet, pair, *server) {
	t.Helper()
	f, in, bus := newFleet(t), newPair(t), startServer(t)
	f.policies = eager
	f.bus = "redis://bus-user:" + rightsPassword + "@" + bus.addr()
	f.password(rightsPassword)
	f.addPair("one", "username: healer\npassword_file: pass\n"+settings, in)
	return f, in, bus
}

// password writes the file pass beside the config.
func (f *fleet) password(text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(f.file), "pass"), []byte(text+"\n"), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// grant has every server make the users that acl prints.
func (f *fleet) grant(profile policies.Profile, in pair, bus *server) {
	f.t.Helper()
	out := succeeds(f.t, "acl", "-c", f.write(), "--profile", string(profile), "--server", "7.0", "-o", "json")
	for _, u := range parse[aclReport](f.t, out).Users {
		servers := []*server{in.m, in.r}
		if u.For == "bus" {
			servers = []*server{bus}
		}
		for _, s := range servers {
			s.do(withPassword(u.Command, rightsPassword)...)
		}
	}
	if strings.Contains(out, rightsPassword) {
		f.t.Errorf("acl shows the password: %s", out)
	}
}

// noRefusals: nothing that was done was refused.
func noRefusals(t *testing.T, servers ...*server) {
	t.Helper()
	for _, s := range servers {
		for _, e := range s.c.ACLLog(t.Context(), 100).Val() {
			t.Errorf("%s refused %s %q to %q", s.addr(), e.Reason, e.Object, e.Username)
		}
	}
}

// As users with the rights that acl prints, all of the program works, and nothing else is allowed to it.
func TestTheRightsOfHealAreEnoughAndAll(t *testing.T) {
	t.Parallel()
	f, in, bus := rightsFleet(t, liveBoth)
	f.grant(policies.ProfileHeal, in, bus)
	p := running(t, "-c", f.write())
	p.prints(policies.ArchiverStartLine("redis:monitor"))
	in.r.detach()
	p.until("the replica is healed", in.r.linked)
	f.outcome("one", policies.OutcomeSucceeded)
	in.m.expire(20_000)
	p.until("the master takes writes again", in.m.takesWrites)
	p.until("the sweep is recorded", func() bool { return len(f.records("--outcome", "succeeded", "--action", "reclaim-expired")) > 0 })
	p.prints("[On-duty DBA] !!! Critical alarm !!! one | ")
	p.prints("[Log archiving] [CRITICAL] one | ")
	p.stopsWell(sigterm)
	noRefusals(t, in.m, in.r, bus)

	cfg, err := loadConfig(f.file)
	if err != nil {
		t.Fatal(err)
	}
	granted := policies.RightsFor(cfg, cfg.Instances[0], policies.ProfileHeal).Commands(policies.ACLLine70)
	if n := othersRefused(t, in.m.c, nil, "healer", granted, policies.ACLLine70); n < 200 {
		t.Errorf("%d commands were tried, want all that the server has", n)
	}
	f.onlyKeysAndChannels(in, bus)
}

// onlyKeysAndChannels: commands that are granted reach nothing that is not.
func (f *fleet) onlyKeysAndChannels(in pair, bus *server) {
	t := f.t
	t.Helper()
	user := bus.Client(func(o *redis.Options) { o.Username, o.Password = "bus-user", rightsPassword })
	for _, args := range [][]any{{"PUBLISH", "other", "x"}, {"SUBSCRIBE", "other"}, {"PSUBSCRIBE", "*"}, {"XADD", "other", "*", "k", "v"}, {"XRANGE", "other", "-", "+"}, {"GET", "redis:monitor:stream"}} {
		if err := user.Do(t.Context(), args...).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			t.Errorf("%v on the bus: %v, want NOPERM", args, err)
		}
	}
	healer := in.m.Client(func(o *redis.Options) { o.Username, o.Password = "healer", rightsPassword })
	for _, args := range [][]any{{"GET", "k"}, {"SET", "k", "x"}, {"UNLINK", "k"}, {"CONFIG", "REWRITE"}, {"CONFIG", "RESETSTAT"}, {"MEMORY", "PURGE"}, {"FLUSHALL"}, {"SHUTDOWN"}, {"ACL", "SETUSER", "healer", "+@all"}} {
		if err := healer.Do(t.Context(), args...).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			t.Errorf("%v on a node: %v, want NOPERM", args, err)
		}
	}
}

// The profile observe plans, and the server refuses what it would send.
func TestTheRightsOfObservePlanAndCannotWrite(t *testing.T) {
	t.Parallel()
	f, in, bus := rightsFleet(t, "")
	f.grant(policies.ProfileObserve, in, bus)
	in.r.detach()
	code, stdout, stderr := here(t, "plan", "-c", f.write())
	if code != exitPlanned || !strings.Contains(stdout, "REPLICAOF "+in.m.Addr.Host) {
		t.Fatalf("plan: exit %d\n%s%s", code, stdout, stderr)
	}
	noRefusals(t, in.m, in.r, bus)
	code, stdout, stderr = here(t, "heal", "-c", f.file, "--instance", "one", "--live", "--yes")
	if code != exitDenied || !strings.Contains(stdout+stderr, "NOPERM") {
		t.Errorf("heal: exit %d\n%s%s, want the server's refusal", code, stdout, stderr)
	}
	if in.r.info("role") != "master" {
		t.Error("the replica was reattached")
	}
	granted := policies.Rights{Profile: policies.ProfileObserve}.Commands(policies.ACLLine70)
	if n := othersRefused(t, in.r.c, nil, "healer", granted, policies.ACLLine70); n < 200 {
		t.Errorf("%d commands were tried, want all that the server has", n)
	}
}

func TestACLNeverTouchesTheDefaultUser(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--user", "default"}, {"--user", "Default"}, {"--user", "a b"}, {"--profile", "all"}, {"--with", "all"}, {"--server", "5.0"}, {"--server", "new"}} {
		if code, stdout, stderr := command(t, append([]string{"acl"}, args...)...); code != exitFailed || stdout != "" || !strings.Contains(stderr, args[0]) {
			t.Errorf("acl %v: exit %d, %s%s", args, code, stdout, stderr)
		}
	}
	f := newFleet(t)
	f.bus = "redis://default:" + rightsPassword + "@10.0.0.1:6379/3"
	f.add("one", "username: default", "      - {name: n, address: 10.0.0.2:6379, role: master}\n")
	out := succeeds(t, "acl", "-c", f.write())
	if strings.Contains(out, "SETUSER default") || strings.Contains(out, rightsPassword) || !strings.Contains(out, "SETUSER "+defaultACLUser+" ") || !strings.Contains(out, "SETUSER "+defaultBusUser+" ") {
		t.Errorf("acl: %s", out)
	}
	if !strings.Contains(out, "+acl|dryrun +select\n") {
		t.Errorf("the bus of database 3 takes no +select: %s", out)
	}
}

// README shows what acl prints, and no other rules.
func TestReadmeShowsTheRightsOfTheCode(t *testing.T) {
	want := map[string]bool{}
	var options []string
	for _, profile := range policies.Profiles {
		r, err := aclFlags{profile: string(profile), server: "7.0"}.report(policies.DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range r.Users {
			want[strings.Join(u.Command, " ")] = true
		}
		for _, o := range r.Options {
			options = append(options, fmt.Sprintf("| `%s` | %s | `%s` |", o.Need, o.Why, o.Rules))
		}
	}
	text := readme(t)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "ACL SETUSER ") {
			if !want[line] {
				t.Errorf("README.md has rules that the code does not print: %s", line)
			}
			delete(want, line)
		}
	}
	for line := range want {
		t.Errorf("README.md lacks: %s", line)
	}
	for _, line := range options {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("README.md lacks: %s", line)
		}
	}
}
