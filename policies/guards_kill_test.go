package policies

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// The forms of a line of CLIENT LIST, as the releases print it; ID, NAME, IDLE and FLAGS are filled in.
var clientForms = map[string]string{
	"6.0":        "id=ID addr=10.0.0.5:41090 fd=11 name=NAME age=2000 idle=IDLE flags=FLAGS db=0 sub=0 psub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 obl=0 oll=0 omem=0 tot-mem=20504 events=r cmd=get user=default",
	"7.0":        "id=ID addr=10.0.0.5:41090 laddr=127.0.0.1:6379 fd=9 name=NAME age=2000 idle=IDLE flags=FLAGS db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=20474 argv-mem=0 multi-mem=0 rbs=1024 rbp=0 obl=0 oll=0 omem=0 tot-mem=22303 events=r cmd=get user=default redir=-1 resp=2",
	"8.0":        "id=ID addr=10.0.0.5:41090 laddr=127.0.0.1:6379 fd=18 name=NAME age=2000 idle=IDLE flags=FLAGS db=0 sub=0 psub=0 ssub=0 multi=-1 watch=0 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=1024 rbp=0 obl=0 oll=0 omem=0 tot-mem=1997 events=r cmd=get user=default redir=-1 resp=2 lib-name= lib-ver= io-thread=0",
	"valkey 9.1": "id=ID addr=10.0.0.5:41090 laddr=127.0.0.1:6379 fd=10 name=NAME age=2000 idle=IDLE flags=FLAGS capa= db=0 sub=0 psub=0 ssub=0 multi=-1 watch=0 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=1024 rbp=0 obl=0 oll=0 omem=0 tot-mem=1664 events=r cmd=get user=default redir=-1 resp=2 lib-name= lib-ver= tot-net-in=98 tot-net-out=224 tot-cmds=3",
}

func clientLineOf(form string, id, idle int) string {
	return strings.NewReplacer("IDLE", fmt.Sprint(idle), "ID", fmt.Sprint(id), "NAME", "", "FLAGS", "N").Replace(clientForms[form])
}

// killPolicy closes clients idle for more than ten minutes, ten at a time.
var killPolicy = Kill{Idle: 10 * time.Minute, Target: 50, MaxClients: 10, Protect: []string{"billing-*", "10.9.*", "backup", "[^-]-odd"}}

func TestWhoIsSpared(t *testing.T) {
	change := func(pairs ...string) func(string) string {
		return func(line string) string {
			for i := 0; i < len(pairs); i += 2 {
				if !strings.Contains(line, pairs[i]) {
					return "" // this release does not have the field
				}
				line = strings.Replace(line, pairs[i], pairs[i+1], 1)
			}
			return line
		}
	}
	for name, c := range map[string]struct {
		change func(string) string
		want   Spared
	}{
		"an ordinary idle client":            {change(), ""},
		"at a Unix socket":                   {change("10.0.0.5:41090", "/run/redis.sock:0", "flags=N", "flags=U"), ""},
		"over IPv6":                          {change("10.0.0.5:41090", "[::1]:41090"), ""},
		"never sent anything":                {change("cmd=get", "cmd=NULL"), ""},
		"idle for exactly so long":           {change("idle=601", "idle=600"), SparedActive},
		"active":                             {change("idle=601", "idle=0"), SparedActive},
		"replica":                            {change("flags=N", "flags=S"), SparedReplication},
		"master":                             {change("flags=N", "flags=M"), SparedReplication},
		"monitor":                            {change("flags=N", "flags=O"), SparedMonitor},
		"subscriber by flag":                 {change("flags=N", "flags=P"), SparedPubSub},
		"subscriber to a channel":            {change(" sub=0", " sub=1"), SparedPubSub},
		"subscriber to a pattern":            {change("psub=0", "psub=1"), SparedPubSub},
		"subscriber to a shard channel":      {change("ssub=0", "ssub=1"), SparedPubSub},
		"blocked":                            {change("flags=N", "flags=b"), SparedBlocked},
		"in MULTI by flag":                   {change("flags=N", "flags=x"), SparedTransaction},
		"in MULTI, nothing queued":           {change("multi=-1", "multi=0"), SparedTransaction},
		"what it watched changed":            {change("flags=N", "flags=d"), SparedTransaction},
		"watches a key":                      {change("watch=0", "watch=1"), SparedTransaction},
		"watches a key, as 6.0 and 7.0 show": {change("cmd=get", "cmd=watch"), SparedTransaction},
		"tracks":                             {change("flags=N", "flags=t", "redir=-1", "redir=0"), SparedTracking},
		"tracks for one that is gone":        {change("flags=N", "flags=tR", "redir=-1", "redir=0"), SparedTracking},
		"tracks by prefix":                   {change("flags=N", "flags=tB", "redir=-1", "redir=0"), SparedTracking},
		"no-evict":                           {change("flags=N", "flags=e"), SparedNoEvict},
		"closes after its reply":             {change("flags=N", "flags=c"), SparedClosing},
		"being closed":                       {change("flags=N", "flags=A"), SparedClosing},
		"no-touch":                           {change("flags=N", "flags=T"), SparedOther},
		"a flag of a later version":          {change("flags=N", "flags=Z"), SparedOther},
		"a name":                             {change("name=", "name=web-1"), SparedNamed},
		"a protected name":                   {change("name=", "name=billing-7"), "protect billing-*"},
		"a protected user":                   {change("user=default", "user=backup"), "protect backup"},
		"a protected address":                {change("addr=10.0.0.5", "addr=10.9.0.5"), "protect 10.9.*"},
		"a Sentinel":                         {change("name=", "name=sentinel-0a1b2c-cmd"), SparedSentinel},
		"a probe of ours":                    {change("name=", "name=dcshealer-probe"), SparedOurs},
		"the action's own connection":        {change("id=5 ", "id=99 "), SparedOurs},
		"one of our user":                    {change("user=default", "user=healer"), SparedOurs},
		"one of our user, active":            {change("user=default", "user=healer", "idle=601", "idle=0"), SparedOurs},
		"output in the fixed buffer":         {change("obl=0", "obl=7"), SparedOutput},
		"output in the list":                 {change("oll=0", "oll=1"), SparedOutput},
		"output by its bytes":                {change("omem=0", "omem=20480"), SparedOutput},
		"half a command":                     {change("qbuf=0", "qbuf=9"), SparedInput},
		"no id":                              {change("id=5 ", ""), SparedUnreadable},
		"an id that is no number":            {change("id=5 ", "id=x "), SparedUnreadable},
		"an id of 0":                         {change("id=5 ", "id=0 "), SparedUnreadable},
		"no address":                         {change("addr=10.0.0.5:41090", "addr="), SparedUnreadable},
		"no flags":                           {change("flags=N ", ""), SparedUnreadable},
		"no name field":                      {change("name= ", ""), SparedUnreadable},
		"no user field":                      {change(" user=default", ""), SparedUnreadable},
		"no multi":                           {change("multi=-1 ", ""), SparedUnreadable},
		"no omem":                            {change("omem=0 ", ""), SparedUnreadable},
		"negative idle":                      {change("idle=601", "idle=-1"), SparedUnreadable},
		"a field twice":                      {change("flags=N", "flags=N flags=S"), SparedUnreadable},
		"a word without a value":             {change("flags=N", "flags=N stray"), SparedUnreadable},
		"a number that is none":              {change("redir=-1", "redir=x"), SparedUnreadable},
		"the socket's path holds a space":    {change("10.0.0.5:41090", "/run/my redis.sock:0"), SparedUnreadable},
	} {
		seen := false
		for form := range clientForms {
			line := c.change(clientLineOf(form, 5, 601))
			if line == "" {
				continue
			}
			seen = true
			all := ParseClients(line + "\r\n")
			if len(all) != 1 {
				t.Fatalf("%s, %s: %d clients", name, form, len(all))
			}
			if got := NewKillRules(killPolicy, OwnClients{ID: 99, User: "healer"}, all).Spare(all[0]); got != c.want {
				t.Errorf("%s, %s: %q, want %q", name, form, got, c.want)
			}
		}
		if !seen {
			t.Errorf("%s: no release has the field", name)
		}
	}
}

func TestPatternsOfProtect(t *testing.T) {
	for _, c := range []struct {
		pattern, addr, name, user string
		want                      bool
	}{
		{"*", "10.0.0.1:5", "", "default", true},
		{"10.0.0.1", "10.0.0.1:5", "", "default", true},
		{"10.0.0.1:5", "10.0.0.1:5", "", "default", true},
		{"10.0.0.1", "10.0.0.11:5", "", "default", false},
		{"::1", "[::1]:5", "", "default", true},
		{"/run/*", "/run/redis.sock:0", "", "default", true},
		{"default", "10.0.0.1:5", "", "default", true},
		{"worker-*", "10.0.0.1:5", "worker-3", "default", true},
		{"worker-*", "10.0.0.1:5", "Worker-3", "default", false},
		{"?*", "10.0.0.1:5", "", "default", true},
		{"", "10.0.0.1:5", "", "default", false}, // the config does not take it
	} {
		r := NewKillRules(Kill{Protect: []string{"nobody", c.pattern}}, OwnClients{}, nil)
		if got := r.protects(Client{Addr: c.addr, Name: c.name, User: c.user}); (got == c.pattern && got != "") != c.want {
			t.Errorf("%q protects %s %q %q: %q, want %t", c.pattern, c.addr, c.name, c.user, got, c.want)
		}
	}
}

func TestWhoIsToldOfWhatOthersTrackIsSpared(t *testing.T) {
	for form, want := range map[string]string{
		"7.0":        "5:tracking 6:tracking 7:",
		"8.0":        "5:tracking 6:tracking 7:",
		"valkey 9.1": "5:tracking 6:tracking 7:",
		"6.0":        "5:tracking 6:perhaps-told 7:perhaps-told", // it does not say who
	} {
		tracker := strings.NewReplacer("flags=N", "flags=t", "redir=-1", "redir=6").Replace(clientLineOf(form, 5, 601))
		all := ParseClients(tracker + "\n" + clientLineOf(form, 6, 601) + "\n" + clientLineOf(form, 7, 601))
		r := NewKillRules(killPolicy, OwnClients{}, all)
		var got []string
		for _, c := range all {
			got = append(got, fmt.Sprintf("%d:%s", c.ID, r.Spare(c)))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %s, want %s", form, s, want)
		}
	}
}

// crowd is a list of clients of these idle times, ids from 1.
func crowd(idle ...int) []Client {
	var lines []string
	for i, s := range idle {
		lines = append(lines, clientLineOf("7.0", i+1, s))
	}
	return ParseClients(strings.Join(lines, "\n"))
}

func ids(all []Client) (out []int64) {
	for _, c := range all {
		out = append(out, c.ID)
	}
	return out
}

func TestTheLongestIdleGoFirstAndNoMoreThanNeeded(t *testing.T) {
	for _, c := range []struct {
		name        string
		idle        []int
		limit, most int64
		want        []int64
		qualify     int
	}{
		{"the longest idle first, down to the target", []int{700, 900, 800, 1, 601, 5000}, 8, 10, []int64{6, 2}, 5},
		{"no more than at a time", []int{700, 900, 800, 1, 601, 5000}, 2, 3, []int64{6, 2, 3}, 5},
		{"none left at a time", []int{700, 900}, 2, 0, nil, 2},
		{"over the cap already", []int{700, 900}, 2, -1, nil, 2},
		{"at the target", []int{700, 900}, 4, 10, nil, 2},
		{"under the target", []int{700, 900}, 40, 10, nil, 2},
		{"none of them idle for long enough", []int{600, 1, 0}, 2, 10, nil, 0},
		{"the same idle time: the oldest connection first", []int{700, 700, 700}, 4, 10, []int64{1}, 3},
		{"nobody", nil, 4, 10, nil, 0},
	} {
		v := NewKillRules(killPolicy, OwnClients{ID: 99}, nil).Choose(crowd(c.idle...), c.limit, c.most)
		if !slices.Equal(ids(v.Close), c.want) || v.Qualify != c.qualify || v.Connected != int64(len(c.idle)) || v.Target != c.limit/2 {
			t.Errorf("%s: closes %v, %+v, want %v of %d", c.name, ids(v.Close), v, c.want, c.qualify)
		}
	}
}

func TestReplicasAndClientsBeingClosedDoNotCountAsConnected(t *testing.T) {
	all := crowd(700, 700, 700, 700)
	all[0].Flags, all[1].Flags = "S", "A"
	v := NewKillRules(killPolicy, OwnClients{}, all).Choose(all, 2, 10)
	if v.Connected != 2 || !slices.Equal(ids(v.Close), []int64{3}) || !maps.Equal(v.Spared, map[Spared]int{SparedReplication: 1, SparedClosing: 1}) {
		t.Errorf("%+v", v)
	}
}

func killFacts() KillFacts {
	f := KillFacts{Facts: healthyFacts(), S: newTrio().m, Clients: crowd(700, 800, 900, 1), Own: OwnClients{ID: 99}}
	f.S.Clients = Clients{Connected: Known(int64(4)), Max: Known(int64(4))}
	f.Action, f.Target, f.Planned, f.Evidence, f.SentinelNodes = KillIdleClients, f.S, f.S, []Snapshot{f.S}, nil
	f.Instance.Ladder, f.Policy.Kill = []Action{KillIdleClients}, killPolicy
	return f
}

func TestKillGuards(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*KillFacts)
		want   string
		reason string
	}{
		{"three idle ones, one of them enough", nil, "", "3 of 4 clients of node-m are idle for more than 10m0s and unprotected, 2 would be closed now (down to 2, 50% of maxclients; 10 at a time); spared: 1 active"},
		{"dry run", func(f *KillFacts) { f.Mode = DryRun }, "mode?", "2 would be closed now"},
		{"not opted in", func(f *KillFacts) { f.Instance.Ladder = nil }, "opt-in?", "add kill-idle-clients to ladder"},
		{"opted into another step", func(f *KillFacts) { f.Instance.Ladder = []Action{PurgeMemory} }, "opt-in?", "add kill-idle-clients to ladder"},
		{"none idle", func(f *KillFacts) { f.Clients = crowd(1, 2, 3) }, "victims", "none of the clients of node-m may be closed, idle for more than 10m0s and unprotected: 3 active"},
		{"all protected", func(f *KillFacts) {
			for i := range f.Clients {
				f.Clients[i].Name = "billing-1"
			}
		}, "victims", "3 protect billing-*, 1 active"},
		{"no client at all", func(f *KillFacts) { f.Clients = nil }, "victims", "0 clients are connected"},
		{"under the target by now", func(f *KillFacts) { f.S.Clients.Max = Known(int64(100)) }, "victims", "4 clients are connected to node-m, the target of 50% of 100 is 50"},
		{"not listed", func(f *KillFacts) { f.ListErr = errors.New("NOPERM") }, "victims", "grant +client|list"},
		{"no slot", func(f *KillFacts) { f.ListErr, f.Full = errors.New("ERR max number of clients reached"), true }, "victims?", "every connection of node-m is taken"},
		{"maxclients not known", func(f *KillFacts) { f.S.Clients.Max = Opt[int64]{} }, "victims", "maxclients"},
		{"clients paused", func(f *KillFacts) { f.S.Clients.Paused = Known("client_pause") }, "busy?", "paused"},
		{"loading", func(f *KillFacts) { f.S.Loading = Known(true) }, "busy?", "loading"},
		{"loading not known", func(f *KillFacts) { f.S.Loading = Opt[bool]{} }, "busy", "loads"},
		{"CLIENT renamed", func(f *KillFacts) { f.Target.Renamed = []string{"client"} }, "capability", "CLIENT"},
		{"restarted", func(f *KillFacts) { f.Target.RunID = "another" }, "identity", "restarted"},
		{"cooldown", func(f *KillFacts) { f.Policy.Kill.Cooldown, f.LastFinished = time.Hour, f.Now.Add(-time.Minute) }, "cooldown?", "kill-idle-clients"},
	} {
		f := killFacts()
		if c.change != nil {
			c.change(&f)
		}
		p := PlanKill(f, "")
		checkRulings(t, p.Guards)
		if got := denied(p.Guards); got != c.want || p.Permitted != (c.want == "") {
			t.Errorf("%s: denied by %q, want %q", c.name, got, c.want)
		}
		if !slices.ContainsFunc(p.Guards, func(r Ruling) bool { return strings.Contains(r.Reason, c.reason) }) {
			t.Errorf("%s: no reason with %q: %+v", c.name, c.reason, p.Guards)
		}
		if p.Expect.Clients.Known != (f.ListErr == nil) {
			t.Errorf("%s: expects %+v", c.name, p.Expect)
		}
	}
	if v := (KillFacts{}).victims(); v.Allow {
		t.Errorf("no facts at all: %+v", v)
	}
}

// Whatever a server or a stranger writes into the list: nothing is closed of which not every part is known.
func FuzzParseClients(f *testing.F) {
	for form := range clientForms {
		f.Add(clientLineOf(form, 5, 601))
	}
	f.Add("id=5 addr=a:1 name= idle=9999 flags=N\nid=9223372036854775808\nflags=\x00 =")
	f.Fuzz(func(t *testing.T, text string) {
		all := ParseClients(text)
		v := NewKillRules(killPolicy, OwnClients{ID: 99}, all).Choose(all, 0, 1<<30)
		for _, c := range v.Close {
			if c.Unreadable || c.ID <= 0 || c.ID == 99 || c.Idle <= 600 || c.Name != "" || c.Subs > 0 || c.Multi >= 0 || c.Output > 0 || strings.Trim(c.Flags, "NU") != "" {
				t.Errorf("would close %+v of %q", c, text)
			}
		}
	})
}
