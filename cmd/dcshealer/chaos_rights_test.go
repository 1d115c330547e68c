package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// The operator as a user who may do what acl prints, and nothing else.
var chaosRightsScenarios = []chaosScenario{
	{name: "replica promoted, least rights", least: true, dry: policies.ProfileObserve, run: chaosPromotedLeast},
	{name: "full of expired keys, least rights", least: true, args: chaosSmallBacklog, config: "policy: memory", policy: fmt.Sprintf(chaosMemoryPolicy, "0"), run: chaosFullLeast},
}

const chaosUserName = "healer"

func chaosPromotedLeast(t *testing.T, f *chaosFleet) {
	chaosPromoted(t, f)
	f.nothingRefused(t)
	f.nothingElseAllowed(t)
}

func chaosFullLeast(t *testing.T, f *chaosFleet) {
	chaosFullOfExpired(t, f)
	f.nothingRefused(t)
}

// rights are what the fleet's config opts into.
func (f *chaosFleet) rights(t *testing.T) policies.Rights {
	t.Helper()
	l := testConfigLoader("fleet.yaml")
	l.lookupEnv = func(string) (string, bool) { return chaosPassword, true }
	cfg, err := l.load([]byte(f.config()))
	if err != nil {
		t.Fatal(err)
	}
	profile := policies.ProfileHeal
	if !f.live && f.scenario.dry != "" {
		profile = f.scenario.dry
	}
	return policies.RightsFor(cfg, cfg.Instances[0], profile)
}

// makeUsers sends every server the command that acl prints.
func (f *chaosFleet) makeUsers(t *testing.T) {
	t.Helper()
	for name, n := range f.nodes {
		command := f.rights(t).SetUser(chaosUserName, f.lab.acl)
		if name == chaosBus {
			command = policies.BusUser(chaosUserName, "redis:monitor", f.lab.acl)
		}
		n.do(t, withPassword(command, chaosPassword)...)
	}
}

// withPassword is a command of acl ready to be sent.
func withPassword(command []string, password string) (args []any) {
	for _, arg := range command {
		args = append(args, strings.Replace(arg, ">PASSWORD", ">"+password, 1))
	}
	return args
}

// nothingRefused: what the operator did, it was allowed to.
func (f *chaosFleet) nothingRefused(t *testing.T) {
	t.Helper()
	for name, n := range f.nodes {
		log, err := n.db.ACLLog(t.Context(), 100).Result()
		if err != nil {
			t.Fatalf("ACL LOG of %s: %v", name, err)
		}
		for _, e := range log {
			t.Errorf("%s refused %s %q to %q", name, e.Reason, e.Object, e.Username)
		}
	}
}

func (f *chaosFleet) nothingElseAllowed(t *testing.T) {
	t.Helper()
	n := f.nodes[chaosMaster]
	user := redis.NewClient(&redis.Options{Addr: n.db.Options().Addr, Dialer: n.db.Options().Dialer, Username: chaosUserName, Password: chaosPassword, Protocol: 2,
		DisableIdentity: true, MaxRetries: -1})
	defer user.Close()
	granted := f.rights(t).Commands(f.lab.acl)
	if n := othersRefused(t, n.db, user, chaosUserName, granted, f.lab.acl); n < 150 {
		t.Errorf("%d commands were tried, want all that the server has", n)
	}
}

// othersRefused tries every command of the server that is not granted and returns how many there are: by ACL DRYRUN where there is one,
// else as the user itself.
func othersRefused(t *testing.T, admin, user *redis.Client, name string, granted []string, l policies.ACLLine) (tried int) {
	t.Helper()
	ctx := t.Context()
	for _, c := range serverCommands(t, admin) {
		if slices.Contains(granted, strings.Join(c.name, "|")) || slices.Contains([]string{"auth", "hello", "quit", "reset"}, c.name[0]) {
			continue
		}
		tried++
		args := []any{}
		if l == policies.ACLLine70 {
			args = append(args, "ACL", "DRYRUN", name)
		}
		for i := range max(c.args, len(c.name)) {
			if i < len(c.name) {
				args = append(args, c.name[i])
			} else {
				args = append(args, "1")
			}
		}
		if l == policies.ACLLine70 {
			if answer, err := admin.Do(ctx, args...).Text(); err != nil || !strings.Contains(answer, "permission") {
				t.Errorf("%v: %q, %v, want no permission", args, answer, err)
			}
			continue
		}
		if err := user.Do(ctx, args...).Err(); err == nil || !strings.Contains(err.Error(), "NOPERM") { // EXEC says so after EXECABORT
			t.Errorf("%v as %s: %v, want NOPERM", args, name, err)
		}
	}
	return tried
}

// serverCommand is a command, or a command and its subcommand, and the least number of words it takes.
type serverCommand struct {
	name []string
	args int
}

// subcommandsBefore7 are tried on servers that do not list their subcommands.
var subcommandsBefore7 = []string{"config set", "config rewrite", "config resetstat", "client pause", "client reply", "client kill", "client id", "slowlog reset", "memory purge",
	"memory usage", "command count", "acl setuser", "acl list", "acl getuser", "acl deluser", "acl save", "xgroup create", "script flush"}

func serverCommands(t *testing.T, admin *redis.Client) (all []serverCommand) {
	t.Helper()
	reply, err := admin.Do(context.WithoutCancel(t.Context()), "COMMAND").Slice()
	if err != nil {
		t.Fatal(err)
	}
	add := func(entry any) (subs []any) {
		fields, _ := entry.([]any)
		name, _ := fields[0].(string)
		arity, _ := fields[1].(int64)
		if len(fields) > 9 {
			subs, _ = fields[9].([]any)
		}
		if len(subs) == 0 {
			all = append(all, serverCommand{strings.Split(strings.ToLower(name), "|"), int(max(arity, -arity))})
		}
		return subs
	}
	for _, entry := range reply {
		name, _ := entry.([]any)[0].(string)
		container := slices.ContainsFunc(subcommandsBefore7, func(s string) bool { return strings.HasPrefix(s, name+" ") })
		subs := entry.([]any)
		if len(subs) <= 9 && container {
			continue
		}
		for _, sub := range add(entry) {
			add(sub)
		}
	}
	if len(reply[0].([]any)) <= 9 {
		for _, s := range subcommandsBefore7 {
			all = append(all, serverCommand{strings.Fields(s), 4})
		}
	}
	return all
}
