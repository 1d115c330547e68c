package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"dcshealer/agent/observer/notify"
	"dcshealer/policies"
)

const hookKey = baitPassword + "-of-the-webhook"

// webhook is a receiver of the outside world: it checks signatures by a library of others, and answers as it is told.
type webhook struct {
	*httptest.Server
	mu     sync.Mutex // guards what follows
	status int        // 0: 200
	got    []notify.Notice
}

func newWebhook(t *testing.T) *webhook {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhookRaw([]byte(hookKey))
	if err != nil {
		t.Fatal(err)
	}
	h := &webhook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = verifier.Verify(body, r.Header)
		}
		var n notify.Notice
		if err == nil {
			err = json.Unmarshal(body, &n)
		}
		if err != nil {
			t.Errorf("%s: %v", body, err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.status != 0 {
			w.WriteHeader(h.status)
			return
		}
		h.got = append(h.got, n)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *webhook) answers(status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status = status
}

func (h *webhook) notices() []notify.Notice {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.got)
}

// events are those that came, of a kind and instance; "": of any.
func (h *webhook) events(kind notify.Kind, instance string) (out []notify.Event) {
	for _, n := range h.notices() {
		for _, e := range n.Events {
			if (kind == "" || e.Kind == kind) && (instance == "" || e.Instance == instance) {
				out = append(out, e)
			}
		}
	}
	return out
}

// tells has the fleet tell the webhook, without rest, beside further lines of the section.
func (f *fleet) tells(h *webhook, more string) {
	f.beside("hook.keys", hookKey+"\n")
	f.beside("hook.url", h.URL+"/"+baitPassword+"\n")
	f.notify = "  receivers:\n    - {name: hook, webhook: {url_file: hook.url, hmac_key_file: hook.keys}}\n" + more
}

func (f *fleet) account(receiver string) receiverRow {
	f.t.Helper()
	code, stdout, stderr := here(f.t, "notify", "list", "-c", f.file, "-o", "json")
	if code != 0 {
		f.t.Fatalf("notify list: exit %d\n%s", code, stderr)
	}
	for _, r := range parse[notifyReport](f.t, stdout).Receivers {
		if r.Receiver == receiver {
			return r
		}
	}
	f.t.Fatalf("notify list has no %s:\n%s", receiver, stdout)
	return receiverRow{}
}

const atOnce = "  group: 0s\n  gap: 0s\n"

// A receiver that a reload brings hears of a fault, its repair and its end, each once, signed.
func TestAReceiverHearsOfAFaultItsRepairAndItsEnd(t *testing.T) {
	t.Parallel()
	f, h := newFleet(t), newWebhook(t)
	f.policies, f.agent = eager, "interval: 200ms, timeout: 1s, repeat: 1s" // a flapping alarm ends after a repeat
	in := newPair(t)
	f.addPair("one", liveBoth, in)
	p := running(t, "-c", f.write())
	in.r.detach()
	until(t, "it is healed before anybody is told", in.r.linked)
	f.outcome("one", policies.OutcomeSucceeded)

	f.tells(h, atOnce)
	f.write()
	if out := succeeds(t, "config", "reload", "-c", f.file); !strings.Contains(out, "notify.receivers.hook.url: added") || strings.Contains(out, "bait") {
		t.Errorf("config reload: %s", out)
	}
	p.until("it tells", func() bool { return strings.Contains(p.stderr.String(), "notifications are told") })
	in.r.detach()
	p.until("it is told that it has ended", func() bool {
		return len(h.events(notify.KindResolved, "one")) > 0 && len(h.events(notify.KindRepair, "one")) > 0
	})
	record := f.records("--outcome", "succeeded")[0]
	for kind, says := range map[notify.Kind]string{notify.KindAlarm: "", notify.KindRepair: "reattach-replica on one-r (promoted): succeeded; dcshealer actions show " + record.ID, notify.KindResolved: ""} {
		if list := h.events(kind, ""); len(list) != 1 || !strings.Contains(list[0].Msg, says) || list[0].Instance != "one" || list[0].Node != "one-r" {
			t.Errorf("%s: %+v, want one with %q", kind, list, says)
		}
	}
	if e := h.events(notify.KindRepair, ""); len(e) > 0 && (e[0].Incident != record.Incident || e[0].Record != record.ID) {
		t.Errorf("the repair %+v is not the record %s", e[0], record.ID)
	}
	until(t, "nothing is left", func() bool {
		a := f.account("hook")
		return a.Pending == 0 && a.Delivered == int64(len(h.notices())) && !a.Failing
	})
	p.stopsWell(sigterm)
}

// The role dba runs in a process of its own, its receiver is down, and it is killed. What happened before and meanwhile is told once it is back,
// and nothing twice: not the alarm that it had kept, not the repair that it has not seen.
func TestNothingIsLostOrDoubledOverACrash(t *testing.T) {
	t.Parallel()
	f, h := newFleet(t), newWebhook(t)
	bus := startServer(t)
	f.policies, f.bus = eager, bus.url()
	one, two := newPair(t), newPair(t)
	f.addPair("one", "", one)
	f.addPair("two", "", two)
	f.tells(h, atOnce)
	h.answers(http.StatusServiceUnavailable)
	healer := running(t, "-c", f.write(), "--roles", "agent,healer")
	dba := running(t, "-c", f.file, "--roles", "dba")
	dba.until("it tells", func() bool { return strings.Contains(dba.stderr.String(), "notifications are told") })
	one.r.detach()
	two.r.detach()
	f.outcome("one", policies.OutcomePlanned)
	f.outcome("two", policies.OutcomePlanned)
	until(t, "both alarms wait, and the receiver fails", func() bool { a := f.account("hook"); return a.Pending == 2 && a.Failing })
	dba.kill()

	succeeds(t, "live", "enable", "one", "-c", f.file, "--action", "reattach-replica", "--for", "1h", "--reason", "e2e")
	until(t, "it is healed while nobody tells", one.r.linked)
	f.outcome("one", policies.OutcomeSucceeded)
	h.answers(0)
	dba = running(t, "-c", f.file, "--roles", "dba")
	dba.until("all is told", func() bool {
		return len(h.events(notify.KindResolved, "one")) > 0 && len(h.events(notify.KindRepair, "one")) > 0
	})
	dba.stopsWell(sigterm)
	healer.stopsWell(sigterm) // and both are started again, with two's alarm standing
	healer = running(t, "-c", f.file, "--roles", "agent,healer")
	dba = running(t, "-c", f.file, "--roles", "dba")
	succeeds(t, "live", "enable", "two", "-c", f.file, "--action", "reattach-replica", "--for", "1h", "--reason", "e2e")
	dba.until("the rest is told", func() bool {
		return len(h.events(notify.KindResolved, "two")) > 0 && len(h.events(notify.KindRepair, "two")) > 0
	})
	dba.stopsWell(sigterm)
	healer.stopsWell(sigterm)
	for _, instance := range []string{"one", "two"} {
		for _, kind := range []notify.Kind{notify.KindAlarm, notify.KindRepair, notify.KindResolved} {
			if n := len(h.events(kind, instance)); n != 1 {
				t.Errorf("%s of %s is told %d times, want once", kind, instance, n)
			}
		}
	}
	if n := len(h.events("", "")); n != 6 {
		t.Errorf("%d events are told, want 6: %+v", n, h.events("", ""))
	}
}

// What no action cures needs a person: they are told once, and reminded until somebody takes the incident.
func TestAPersonIsAskedForAndRemindedUntilSomebodyTakesIt(t *testing.T) {
	t.Parallel()
	f, h := newFleet(t), newWebhook(t)
	one, two := startServer(t), startServer(t)
	f.add("one", liveBoth, master("one-m", one)).add("two", liveBoth, master("two-m", two))
	f.tells(h, atOnce+"  remind: 1s\n")
	p := running(t, "-c", f.write())
	one.end()
	two.end()
	reminders := func(instance string) []notify.Event { return h.events(notify.KindReminder, instance) }
	p.until("both are reminded of", func() bool {
		of := func(instance string) bool {
			list := reminders(instance)
			return len(list) > 1 && list[len(list)-1].Incident != ""
		}
		return of("one") && of("two")
	})
	list := reminders("one")
	succeeds(t, "ack", list[len(list)-1].Incident, "-c", f.file, "--by", "ann")
	taken, others := len(reminders("one")), len(reminders("two"))
	p.until("the other one goes on", func() bool { return len(reminders("two")) >= others+4 })
	if n := len(reminders("one")); n > taken+1 { // one may have been on its way
		t.Errorf("%d reminders after it was taken", n-taken)
	}
	for _, instance := range []string{"one", "two"} {
		refused := h.events(notify.KindRefusal, instance)
		if len(refused) != 1 || !strings.Contains(refused[0].Msg, "no action cures node-down") || len(h.events(notify.KindAlarm, instance)) != 1 {
			t.Errorf("%s: refusals %+v, alarms %+v; want one of each", instance, refused, h.events(notify.KindAlarm, instance))
		}
	}
	p.stopsWell(sigterm)
}

// A storm of alarms is one message.
func TestAStormIsOneMessage(t *testing.T) {
	t.Parallel()
	f, h := newFleet(t), newWebhook(t)
	bus := startServer(t)
	f.bus = bus.url()
	f.add("one", "", master("one-m", startServer(t)))
	f.tells(h, "  group: 2s\n  gap: 1s\n")
	p := running(t, "-c", f.write(), "--roles", "dba")
	p.until("it tells", func() bool { return strings.Contains(p.stderr.String(), "notifications are told") })
	c := dialPlain(t, bus.addr())
	const storm = 60
	for i := range 2 * storm { // each comes twice
		c.publish("redis:monitor:critical", fmt.Sprintf(`{"instance":"dcs-%d","metric":"instance_up","value":0,"msg":"gone"}`, i%storm))
	}
	p.until("it is told", func() bool { return len(h.notices()) > 0 })
	c.publish("redis:monitor:critical", `{"instance":"dcs-last","metric":"instance_up","value":0,"msg":"gone"}`)
	p.until("the next one is told", func() bool { return len(h.events("", "dcs-last")) > 0 })
	got := h.notices()
	if len(got) != 2 || len(got[0].Events)+got[0].More != storm || got[0].Title != fmt.Sprintf("dcshealer: %d critical alarms on %d instances", storm, storm) {
		t.Errorf("%d notices, the first: %s, %d events and %d more", len(got), got[0].Title, len(got[0].Events), got[0].More)
	}
	p.stopsWell(sigterm)
}

// mailServer is one of the outside world that keeps what it takes.
type mailServer struct {
	mu    sync.Mutex // guards mails
	mails []string
}

func (m *mailServer) NewSession(*smtp.Conn) (smtp.Session, error) { return m, nil }
func (*mailServer) Reset()                                        {}
func (*mailServer) Logout() error                                 { return nil }
func (*mailServer) Mail(string, *smtp.MailOptions) error          { return nil }
func (*mailServer) Rcpt(string, *smtp.RcptOptions) error          { return nil }
func (m *mailServer) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mails = append(m.mails, string(data))
	return err
}

// The commands: a test by hand, what was given up, and sending it again; by mail and by webhook.
func TestNotifyCommands(t *testing.T) {
	t.Parallel()
	box := &mailServer{}
	server := smtp.NewServer(box)
	server.Domain = "mail.test"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() { _ = server.Close(); wg.Wait() })

	f, h := newFleet(t), newWebhook(t)
	bus := startServer(t)
	f.bus, f.listen = bus.url(), "127.0.0.1:0"
	f.add("one", "", master("one-m", startServer(t)))
	f.tells(h, "    - name: mail\n      url: \"smtp://"+l.Addr().String()+"/?from=dcshealer@example.org&to=dba@example.org&usestarttls=no&encryption=none&auth=none\"\n"+
		"      events: [resolved]\n      title: \"{{len .Events}} of {{.Source}}\"\n"+atOnce)
	f.write()
	for _, want := range []string{"hook      webhook  0        0     0          never  -", "mail      smtp     0        0     0          never  -"} {
		if out := succeeds(t, "notify", "list", "-c", f.file); !strings.Contains(out, want) {
			t.Errorf("notify list before the first start does not say %q:\n%s", want, out)
		}
	}
	if out := succeeds(t, "notify", "retry", "-c", f.file); out != "No notice was given up.\n" {
		t.Errorf("notify retry before the first start: %s", out)
	}
	results := parse[[]testResult](t, succeeds(t, "notify", "test", "-c", f.file, "-o", "json"))
	if len(results) != 2 || !results[0].OK || !results[1].OK || len(h.events(notify.KindTest, "")) != 1 {
		t.Errorf("notify test: %+v", results)
	}
	box.mu.Lock()
	if len(box.mails) != 1 || !strings.Contains(box.mails[0], "Subject: 1 of ") || !strings.Contains(box.mails[0], "a test of the receiver mail by ") {
		t.Errorf("mails: %q", box.mails)
	}
	box.mu.Unlock()
	h.answers(http.StatusServiceUnavailable)
	code, stdout, stderr := command(t, "notify", "test", "-c", f.file)
	if code != 1 || !strings.Contains(stdout, "the webhook answers 503 Service Unavailable") || !strings.Contains(stdout, "mail      delivered") || !strings.Contains(stderr, "1 of 2 receivers did not take the test notice") {
		t.Errorf("notify test with one down: exit %d\n%s%s", code, stdout, stderr)
	}
	code, _, stderr = command(t, "notify", "test", "nosuch", "-c", f.file)
	if code != 1 || !strings.Contains(stderr, `receiver "nosuch": want one of the config: hook, mail`) {
		t.Errorf("notify test of nobody: exit %d, %s", code, stderr)
	}
	f.givesUp(h, bus)
}

// givesUp has a notice be refused for good, and sends it again.
func (f *fleet) givesUp(h *webhook, bus *server) {
	t := f.t
	t.Helper()
	h.answers(http.StatusForbidden)
	p := running(t, "-c", f.file, "--roles", "dba,dashboard")
	p.until("it tells", func() bool { return strings.Contains(p.stderr.String(), "notifications are told") })
	dialPlain(t, bus.addr()).publish("redis:monitor:critical", `{"instance":"one","metric":"instance_up","value":0,"msg":"gone"}`)
	p.until("it is given up", func() bool { return f.account("hook").Dead == 1 })
	out := succeeds(t, "notify", "list", "-c", f.file)
	for _, want := range []string{"the webhook answers 403 Forbidden", "Given up (dcshealer notify retry sends them again):", "hook: dcshealer: critical alarm: one: the webhook answers 403"} {
		if !strings.Contains(out, want) {
			t.Errorf("notify list does not say %q:\n%s", want, out)
		}
	}
	if out := succeeds(t, "notify", "retry", "mail", "-c", f.file); out != "No notice was given up.\n" {
		t.Errorf("notify retry of another: %s", out)
	}
	const note = "notifications: hook: 1 given up, failing (the webhook answers 403 Forbidden); see dcshealer notify list"
	if s := f.status(); s.NotifyNote != note || len(s.Notifications) != 2 || s.Notifications[0].Dead != 1 {
		t.Errorf("status: %q, %+v", s.NotifyNote, s.Notifications)
	}
	if out := succeeds(t, "status", "-c", f.file); !strings.Contains(out, note+"\n") {
		t.Errorf("status does not say %q:\n%s", note, out)
	}
	base := p.serves()
	p.until("metrics count it", func() bool {
		_, text := request(t, http.DefaultClient, base+"/metrics", "")
		return strings.Contains(text, `dcshealer_notifications_dead{receiver="hook"} 1`) && strings.Contains(text, `dcshealer_notifications_failed_total{receiver="hook"} `+strconv.FormatInt(f.account("hook").Failed, 10)) &&
			strings.Contains(text, `dcshealer_notifications_pending{receiver="mail"} 0`)
	})
	if _, text := request(t, http.DefaultClient, base+"/api/v1/status", ""); !strings.Contains(text, `"notify_note":`) {
		t.Errorf("the API says no word: %s", text)
	}
	before := f.account("hook").Failed
	if out := succeeds(t, "notify", "retry", "hook", "-c", f.file); !strings.HasPrefix(out, "1 notice on the way again") {
		t.Errorf("notify retry: %s", out)
	}
	p.until("it is tried again", func() bool { a := f.account("hook"); return a.Failed > before && a.Dead == 1 })
	p.stopsWell(sigterm)
}
