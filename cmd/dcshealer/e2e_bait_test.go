package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe/redistest"
)

// Every secret starts with baitPassword, every key name with baitKey; only what the servers hold may have either.
const baitPassword = "bait-password-52c1e9"

// baits finds what must not be seen, and shows where.
func baits(outputs map[string]string) (found []string) {
	for name, text := range outputs {
		for _, bait := range []string{"bait-password", "bait-key"} {
			if i := strings.Index(text, bait); i >= 0 {
				found = append(found, fmt.Sprintf("%s holds %s: …%q…", name, bait, text[max(0, i-80):min(len(text), i+60)]))
			}
		}
	}
	return found
}

// Passwords and key names appear nowhere: no output, no log, no file of ours, no alarm on the bus, not in a process's arguments. The servers are
// full of them: in all databases, in the slow log, in client names, in scripts and in what they say when they refuse.
func TestSecretsAndKeyNamesAppearNowhere(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.policies = eager
	m := startServer(t, "--requirepass", baitPassword)
	r := startReplica(t, m, "--requirepass", baitPassword, "--masterauth", baitPassword)
	bus := startServer(t, "--requirepass", baitPassword+"-bus")
	f.bus, f.busMore = bus.url(), "password_file: bus.pass\nhmac_key_file: hmac.keys"
	f.beside("bus.pass", baitPassword+"-bus\n")
	f.beside("hmac.keys", baitPassword+"-hmac\n")
	f.beside("one.pass", baitPassword+"\n")
	f.beside("wrong.pass", baitPassword+"-wrong\n")
	f.beside("rights.pass", baitPassword+"-rights\n")
	f.beside("token", baitPassword+"-token\n")
	f.listen, f.dashboard = "127.0.0.1:0", "token_file: token"
	nobody := "127.0.0.1:" + strconv.Itoa(redistest.FreePort(t))
	f.beside("hook.url", "http://ann:"+baitPassword+"-user@"+nobody+"/"+baitPassword+"-path?token="+baitPassword+"-query\n")
	f.beside("mail.url", "smtp://ann:"+baitPassword+"-mail@"+nobody+"/?from=a@example.org&to=b@example.org\n")
	f.notify = "  receivers:\n    - {name: hook, webhook: {url_file: hook.url, hmac_key_file: hmac.keys}}\n    - {name: mail, url_file: mail.url}\n" + atOnce
	m.do("ACL", "SETUSER", "narrow", "on", ">"+baitPassword+"-rights", "~none*", "+@all", "-scan", "-config|set")
	r.do("ACL", "SETUSER", "narrow", "on", ">"+baitPassword+"-rights", "~none*", "+@all")
	m.do("CONFIG", "SET", "slowlog-log-slower-than", "0") // commands with key names in the slow log, which is read
	f.add("one", liveBoth+"\npassword_file: one.pass", master("m", m), replica("r", r))
	f.add("wrong", "password_file: wrong.pass", master("wrong-m", startServer(t, "--requirepass", baitPassword)))
	m.baited(t)
	m.expire(30_000)
	until(t, "the replica has all keys", func() bool { return r.linked() && r.info("db0") == m.info("db0") })
	r.do("DEBUG", "SET-ACTIVE-EXPIRE", "0") // or its own deletions would count as writes that only it has
	r.detach()

	file := f.write()
	p := running(t, "-c", file, "--log-level", "debug")
	p.until("both are healed", func() bool { return len(f.records("--outcome", "succeeded")) >= 2 })
	outputs := map[string]string{"run.json": ""}
	ask := func(name string, args ...string) {
		t.Helper()
		_, stdout, stderr := command(t, args...)
		outputs[name] += stdout + stderr
	}
	narrow := strings.NewReplacer("password_file: one.pass", "username: narrow\n    password_file: rights.pass").Replace
	for _, args := range [][]string{{"status"}, {"plan"}, {"actions", "list"}, {"alarms", "list"}, {"live", "list"}, {"config", "check"}, {"heal", "--instance", "one"}, {"heal", "--instance", "wrong"},
		{"actions", "export"}, {"actions", "verify"}, {"incidents", "list"}, {"controls", "list"}, {"controls", "list", "--since", "1h"}, {"why", "one"}, {"why", "wrong"}, {"report"}, {"doctor"}, {"acl"}, {"alarms", "trend"}, {"config", "reload"}, {"notify", "list"}, {"notify", "test"}, {"notify", "retry"}, {"publish", "--severity", "notice", "--instance", "one", "--metric", "m"}} {
		for _, format := range []string{"text", "json"} {
			ask(strings.Join(args, " ")+" "+format, append(args, "-c", file, "-o", format)...)
		}
	}
	base := p.serves()
	for _, path := range []string{"/", "/metrics", "/readyz", "/api/v1/session", "/api/v1/status", "/api/v1/incidents", "/api/v1/actions", "/api/v1/alarms", "/api/v1/trend", "/api/v1/report",
		"/api/v1/live", "/api/v1/nodes", "/api/v1/nodes?node=wrong-m", "/api/v1/why/one", "/api/v1/why/nosuch"} {
		_, outputs["dashboard "+path] = request(t, http.DefaultClient, base+path, "")
	}
	_, outputs["dashboard login"] = request(t, http.DefaultClient, base+"/api/v1/login", `{"token":"`+baitPassword+`-wrong"}`)
	// What a user without rights meets, with the keys expired anew; and a password that changes in a reload.
	m.do("FLUSHDB")
	m.expire(20_000)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(narrow(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	ask("config reload of another user", "config", "reload", "-c", file)
	if !strings.Contains(outputs["config reload of another user"], "instances.one.password: changed") {
		t.Errorf("the reload: %s", outputs["config reload of another user"])
	}
	p.until("what the user may not do is on record", func() bool {
		return len(f.records("--outcome", "unsupported")) > 0 || len(f.records("--outcome", "denied")) > 0
	})
	p.until("what a server says that refuses is shown", func() bool { return strings.Contains(p.stdout.String(), "NOPERM") })
	ask("plan without rights", "plan", "-c", file, "-o", "json")
	for _, rec := range f.records() {
		for _, format := range []string{"text", "json"} {
			ask("actions show", "actions", "show", rec.ID, "-c", file, "-o", format)
		}
	}
	cmdline, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	outputs["stream"] = fmt.Sprint(bus.do("XRANGE", "redis:monitor:stream", "-", "+"))
	f.stateFiles(outputs) // beside the run: with the write-ahead logs
	p.stopsWell(sigterm)
	f.stateFiles(outputs)
	outputs["stdout of run"], outputs["stderr of run"], outputs["arguments"] = p.stdout.String(), p.stderr.String(), string(cmdline)
	outputs["outbox"] = outputs["notify.db"] + outputs["notify.db-wal"] // whichever it is in at the end
	ask("publish to a dead bus", "publish", "-c", file, "--severity", "notice", "--instance", "one", "--metric", "m", "--bus", "redis://:"+baitPassword+"@127.0.0.1:"+strconv.Itoa(redistest.FreePort(t)))
	ask("publish with a wrong password", "publish", "-c", file, "--severity", "notice", "--instance", "one", "--metric", "m", "--bus", "redis://:"+baitPassword+"-no@"+bus.addr())

	m.holdsBait(t)
	for _, text := range baits(outputs) {
		t.Error(text)
	}
	f.searched(outputs)
}

// baited puts baits everywhere in a server where a client can.
func (s *server) baited(t *testing.T) {
	t.Helper()
	for _, db := range []int{0, 3, 15} {
		c := s.Client(func(o *redis.Options) { o.DB = db })
		for i := range 20 {
			if err := c.Set(t.Context(), fmt.Sprintf("%slive-%d", baitKey, i), baitPassword, 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	named := s.Client(func(o *redis.Options) { o.PoolSize = 1 })
	for _, args := range [][]any{{"CLIENT", "SETNAME", baitKey + "client"}, {"EVAL", "return redis.call('GET', KEYS[1])", 1, baitKey + "script"}, {"SUBSCRIBE", baitKey + "channel"}} {
		if err := named.Do(context.Background(), args...).Err(); err != nil && err != redis.Nil {
			t.Fatal(err)
		}
	}
	wantBait(t, "the slow log", s.do("SLOWLOG", "GET", "-1"))
	_ = s.Client(func(o *redis.Options) { o.Username, o.Password = "narrow", baitPassword+"-rights" }).Get(t.Context(), baitKey+"refused").Err()
	_ = s.Client(func(o *redis.Options) { o.Username, o.Password = baitKey+"user", baitPassword+"-none" }).Ping(t.Context()).Err()
}

// holdsBait is the proof that there was something to find, by the same search. The slow log is a ring: it was looked at when it was full.
func (s *server) holdsBait(t *testing.T) {
	t.Helper()
	for _, args := range [][]any{{"CLIENT", "LIST"}, {"ACL", "LOG"}} {
		wantBait(t, args, s.do(args...))
	}
	for _, db := range []int{3, 15} {
		keys, err := s.Client(func(o *redis.Options) { o.DB = db }).Keys(t.Context(), "*").Result()
		if err != nil {
			t.Fatal(err)
		}
		wantBait(t, db, keys)
	}
}

func wantBait(t *testing.T, what, answer any) {
	t.Helper()
	if len(baits(map[string]string{"server": fmt.Sprint(answer)})) == 0 {
		t.Errorf("%v shows no bait: the search would find nothing anywhere", what)
	}
}

// searched checks that what was searched is what was meant: each holds what it should hold, and a bait in any of it would be found.
func (f *fleet) searched(outputs map[string]string) {
	t := f.t
	t.Helper()
	for name, has := range map[string]string{"healer.db": "reattach-replica", "healer.db-wal": "reattach-replica", "alarms.db": "used_memory_mb", "run.json": `"pid"`, "stream": `"sig":`,
		"outbox": "reattach-replica", "notify list json": `"smtp"`, "notify test text": "connection refused", "dashboard /metrics": `dcshealer_notifications_failed_total{receiver="hook"}`,
		"plan json": `"instances"`, "actions list json": `"reclaim-expired"`, "actions export text": `"hash"`, "alarms list json": `"one"`, "status json": `"state"`, "actions show": "REPLICAOF",
		"stdout of run": "NOPERM", "stderr of run": "WRONGPASS", "plan without rights": "capability", "publish with a wrong password": "WRONGPASS", "heal --instance wrong text": "wrong"} {
		if !strings.Contains(outputs[name], has) {
			t.Errorf("%s has no %q: was it searched?\n%s", name, has, tail(outputs[name]))
			continue
		}
		i := strings.Index(outputs[name], has)
		if len(baits(map[string]string{name: outputs[name][:i] + baitKey + outputs[name][i:]})) == 0 {
			t.Errorf("a bait in %s is not found", name)
		}
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
