package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"dcshealer/policies"
)

const testKey = "a key of the tests, long enough"

// hook is a receiver that answers as it is told and keeps what it was sent.
type hook struct {
	*httptest.Server
	mu     sync.Mutex // guards what follows
	answer func(w http.ResponseWriter)
	got    []Notice
	tries  int
}

func newHook(t *testing.T) *hook {
	h := &hook{answer: func(http.ResponseWriter) {}}
	verifier, err := standardwebhooks.NewWebhookRaw([]byte(testKey))
	if err != nil {
		t.Fatal(err)
	}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = verifier.Verify(body, r.Header)
		}
		var n Notice
		if err := errors.Join(err, json.Unmarshal(body, &n)); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.tries++
		rec := httptest.NewRecorder()
		h.answer(rec)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		if rec.Code < 300 {
			h.got = append(h.got, n)
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) answers(f func(w http.ResponseWriter)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = f
}

func (h *hook) notices() []Notice {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Notice{}, h.got...)
}

func (h *hook) tried() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tries
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func openOutbox(t *testing.T, path string) *Outbox {
	t.Helper()
	o, err := OpenOutbox(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	return o
}

func quickPace() Pace {
	return Pace{Group: 100 * time.Millisecond, Gap: 100 * time.Millisecond, Retry: 10 * time.Millisecond, RetryMax: 50 * time.Millisecond, GiveUp: time.Hour}
}

// deliver runs a receiver until the test, or stop, ends it.
func deliver(t *testing.T, o *Outbox, s Sender, pace Pace) (stop func()) {
	t.Helper()
	ids := 0
	r := &Receiver{Name: "oncall", Sender: s, Outbox: o, Pace: pace, Source: "host-1", Log: slog.New(slog.DiscardHandler), NewID: func() string {
		ids++
		return "notice-" + strconv.Itoa(ids)
	}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return stop
}

func (h *hook) sender(t *testing.T) *Webhook {
	t.Helper()
	w, err := NewWebhook(policies.Secret(h.URL+"/hook/s3cr3t-path"), testKey)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func alarm(instance string, status policies.Status) policies.Alarm {
	return policies.Alarm{Severity: policies.Critical, Instance: instance, Metric: policies.MetricReplication, Node: "dcs-slave-01", Status: status,
		Since: time.Unix(1_700_000_000, 0), Msg: "the link is down\x1b[31m"}
}

func tellAlarms(t *testing.T, o *Outbox, alarms ...policies.Alarm) {
	t.Helper()
	n := NewNotifier(o, []string{"oncall"}, 0, nil, slog.New(slog.DiscardHandler))
	if err := n.Alarms(t.Context(), alarms, time.Now()); err != nil {
		t.Fatal(err)
	}
}

func TestAStormIsOneNotice(t *testing.T) {
	h, o := newHook(t), openOutbox(t, filepath.Join(t.TempDir(), FileName))
	var storm []policies.Alarm
	for i := range 300 {
		storm = append(storm, alarm(fmt.Sprintf("dcs-%03d", i), policies.Firing))
	}
	tellAlarms(t, o, storm...)
	deliver(t, o, h.sender(t), quickPace())
	eventually(t, "the notice is there", func() bool { return len(h.notices()) > 0 })
	tellAlarms(t, o, alarm("dcs-last", policies.Resolved))
	eventually(t, "the next notice is there", func() bool { return len(h.notices()) > 1 })
	got := h.notices()
	if len(got) != 2 || len(got[0].Events) != MaxEvents || got[0].More != 300-MaxEvents || got[0].Title != "dcshealer: 300 critical alarms on 300 instances" {
		t.Errorf("%d notices; the first: %q, %d events and %d more", len(got), got[0].Title, len(got[0].Events), got[0].More)
	}
	if strings.ContainsRune(got[0].Text, '\x1b') || strings.Count(got[0].Text, "\n") > maxLines || len(got[0].Text) > 2000 {
		t.Errorf("text of %d bytes: %q", len(got[0].Text), got[0].Text)
	}
}

func TestAReceiverThatIsDownGetsOneNoticeOfItAllAfterwards(t *testing.T) {
	h := newHook(t)
	path := filepath.Join(t.TempDir(), FileName)
	o := openOutbox(t, path)
	h.answers(func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) })
	stop := deliver(t, o, h.sender(t), quickPace())
	tellAlarms(t, o, alarm("dcs-1", policies.Firing))
	eventually(t, "it is tried again", func() bool { return h.tried() > 3 })
	for i := range 20 {
		tellAlarms(t, o, alarm(fmt.Sprintf("dcs-more-%d", i), policies.Firing))
	}
	stop() // and a restart in between
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	o = openOutbox(t, path)
	h.answers(func(http.ResponseWriter) {})
	deliver(t, o, h.sender(t), quickPace())
	eventually(t, "both are there", func() bool { return len(h.notices()) == 2 })
	got := h.notices()
	if len(got[0].Events) != 1 || len(got[1].Events) != 20 {
		t.Errorf("events: %d and %d, want 1 and 20", len(got[0].Events), len(got[1].Events))
	}
	eventually(t, "nothing is left", func() bool { l, err := o.Letters(t.Context()); return err == nil && len(l) == 0 })
}

func TestARefusedNoticeIsADeadLetterThatCanBeRevived(t *testing.T) {
	h, o := newHook(t), openOutbox(t, filepath.Join(t.TempDir(), FileName))
	h.answers(func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) })
	deliver(t, o, h.sender(t), quickPace())
	tellAlarms(t, o, alarm("dcs-1", policies.Firing))
	letters := func() []Letter {
		l, err := o.Letters(t.Context())
		if err != nil {
			t.Error(err)
		}
		return l
	}
	eventually(t, "it is dead", func() bool { l := letters(); return len(l) == 1 && l[0].Dead })
	if l := letters()[0]; l.Attempts != 1 || l.Error != "the webhook answers 403 Forbidden" || l.Receiver != "oncall" {
		t.Errorf("%+v", l)
	}
	h.answers(func(http.ResponseWriter) {})
	if n, err := o.Revive(t.Context(), "oncall"); n != 1 || err != nil {
		t.Errorf("revived %d, %v", n, err)
	}
	eventually(t, "it is there", func() bool { return len(h.notices()) == 1 })
}

func TestAReceiverIsLeftAloneForAsLongAsItAsks(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "999999999": maxRetryAfter, now.Add(time.Minute).Format(http.TimeFormat): time.Minute, "soon": 0,
	} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
	h := newHook(t)
	h.answers(func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	if err := h.sender(t).Send(t.Context(), NewNotice("n", "host", []Event{{Kind: KindTest}}, time.Now())); wanted(err) != 3*time.Second || permanent(err) {
		t.Errorf("%v: %v", err, wanted(err))
	}
}

func TestAWebhookFollowsNoRedirectAndShowsNoSecret(t *testing.T) {
	other, h := newHook(t), newHook(t)
	h.answers(func(w http.ResponseWriter) {
		w.Header().Set("Location", other.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	s, n := h.sender(t), NewNotice("n", "host", []Event{{Kind: KindTest}}, time.Now())
	if err := s.Send(t.Context(), n); !permanent(err) || other.tried() != 0 {
		t.Errorf("%v, %d requests elsewhere", err, other.tried())
	}
	h.Close()
	if err := s.Send(t.Context(), n); err == nil || strings.Contains(err.Error(), "s3cr3t") || permanent(err) {
		t.Errorf("%v", err)
	}
}

// mailbox keeps mails.
type mailbox struct {
	mu    sync.Mutex // guards mails
	mails []string
}

func (m *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return m, nil }
func (*mailbox) Reset()                                        {}
func (*mailbox) Logout() error                                 { return nil }
func (*mailbox) Mail(string, *smtp.MailOptions) error          { return nil }
func (*mailbox) Rcpt(string, *smtp.RcptOptions) error          { return nil }
func (m *mailbox) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mails = append(m.mails, string(data))
	return err
}

func TestAMailReachesAnSMTPServer(t *testing.T) {
	box := &mailbox{}
	server := smtp.NewServer(box)
	server.Domain = "mail.test"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() { _ = server.Close(); wg.Wait() })
	to := policies.Secret("smtp://" + l.Addr().String() + "/?from=dcshealer@example.org&to=dba@example.org&usestarttls=no&encryption=none&auth=none")
	s, err := NewShout(to)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), NewNotice("n", "host", []Event{{Kind: KindAlarm, Instance: "dcs-1", Msg: "the link is down"}}, time.Now())); err != nil {
		t.Fatal(err)
	}
	box.mu.Lock()
	defer box.mu.Unlock()
	if len(box.mails) != 1 || !strings.Contains(box.mails[0], "Subject: dcshealer: critical alarm: dcs-1") || !strings.Contains(box.mails[0], "ALARM | dcs-1 | the link is down") {
		t.Errorf("%q", box.mails)
	}
}

func TestAShoutShowsNoSecret(t *testing.T) {
	const secret = "hunter2-hunter2"
	for _, u := range []string{
		"smtp://ann:" + secret + "@127.0.0.1:1/?from=a@example.org&to=b@example.org",
		"nosuch://" + secret, secret, "slack://" + secret, "telegram://" + secret + "@telegram?chats=1", "smtp://%zz" + secret,
		"generic+http://127.0.0.1:1/" + secret + "?token=" + secret,
	} {
		s, err := NewShout(policies.Secret(u))
		if err == nil && strings.Contains(u, "127.0.0.1:1") {
			err = s.Send(t.Context(), NewNotice("n", "host", []Event{{Kind: KindTest}}, time.Now()))
		}
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", u, err)
		}
	}
}

func TestStandingTellsAnAlarmOnceAndRemindsUntilSomebodyTakesIt(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	s, taken := Standing{Remind: 10 * time.Minute}, false
	told := func(a policies.Alarm) Kind {
		e, tell := s.Alarm(a, now)
		if !tell {
			return ""
		}
		return e.Kind
	}
	due := func() int { return len(s.Due(now, func(Event) bool { return taken })) }
	firing := alarm("dcs-1", policies.Firing)
	again := firing
	again.Since = firing.Since.Add(time.Hour)
	warning := firing
	warning.Severity = policies.Warning
	for i, step := range []struct {
		after time.Duration
		do    func() any
		want  any
	}{
		{0, func() any { return told(warning) }, Kind("")},
		{0, func() any { return told(firing) }, KindAlarm},
		{time.Minute, func() any { return told(firing) }, Kind("")},
		{8 * time.Minute, func() any { return due() }, 0},
		{time.Minute, func() any { return due() }, 1},
		{time.Second, func() any { return due() }, 0},
		{0, func() any { return told(firing) }, Kind("")},
		{10 * time.Minute, func() any { taken = true; return due() }, 0},
		{0, func() any { return told(again) }, KindAlarm},
		{time.Minute, func() any { return told(alarm("dcs-1", policies.Resolved)) }, KindResolved},
		{time.Hour, func() any { taken = false; return due() }, 0},
		{0, func() any { return told(firing) }, KindAlarm},
		{Forgotten, func() any { return due() }, 0}, // and it is forgotten
		{0, func() any { return told(firing) }, KindAlarm},
	} {
		now = now.Add(step.after)
		if got := step.do(); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}

func TestTheOutboxIsBounded(t *testing.T) {
	o := openOutbox(t, filepath.Join(t.TempDir(), FileName))
	events := make([]Event, maxWaiting+5)
	for i := range events {
		events[i] = Event{Kind: KindAlarm, At: time.Unix(int64(i+1), 0), Instance: "dcs-1"}
	}
	dropped, err := o.Add(t.Context(), []string{"a", "b"}, events)
	if dropped != 10 || err != nil {
		t.Errorf("dropped %d, %v; want 5 of each", dropped, err)
	}
	if at, err := o.Oldest(t.Context(), "b"); !at.Equal(time.Unix(6, 0)) || err != nil {
		t.Errorf("the oldest is of %v, %v", at.Unix(), err)
	}
}
