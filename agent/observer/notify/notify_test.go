package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
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

func notifier(o *Outbox) *Notifier {
	return &Notifier{Outbox: o, Receivers: []policies.Receiver{{Name: "oncall"}}, Log: slog.New(slog.DiscardHandler)}
}

func tellAlarms(t *testing.T, o *Outbox, alarms ...policies.Alarm) {
	t.Helper()
	n := notifier(o)
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
	tellAlarms(t, o, alarm("dcs-last", policies.Firing))
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

func TestAReceiverThatIsDownIsRemindedOfAnAlarmOnce(t *testing.T) {
	o := openOutbox(t, filepath.Join(t.TempDir(), FileName))
	n := notifier(o)
	n.Remind = time.Minute
	now := time.Now()
	two := []policies.Alarm{alarm("dcs-1", policies.Firing), alarm("dcs-2", policies.Firing)}
	waits := func(when string, want ...string) {
		t.Helper()
		var got []string
		rows, err := o.db.QueryContext(t.Context(), "SELECT json_extract(event, '$.kind') || ' ' || json_extract(event, '$.instance') FROM waiting ORDER BY 1")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				t.Fatal(err)
			}
			got = append(got, s)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	for range 4 {
		if err := n.Alarms(t.Context(), two, now); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Minute)
		if err := n.RemindNow(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	waits("after four minutes", "alarm dcs-1", "alarm dcs-2", "reminder dcs-1", "reminder dcs-2")
	var first, newest int64
	if err := o.db.QueryRowContext(t.Context(), "SELECT min(at), max(unixepoch(json_extract(event, '$.at'))) FROM waiting WHERE json_extract(event, '$.kind') = 'reminder'").Scan(&first, &newest); err != nil {
		t.Fatal(err)
	}
	if first != now.Add(-3*time.Minute).UnixMilli() || newest != now.Unix() {
		t.Errorf("it waits since %d and is of %d: want the first's place, %s, and the newest's words, %s", first, newest, now.Add(-3*time.Minute), now)
	}
	if err := n.Alarms(t.Context(), []policies.Alarm{alarm("dcs-1", policies.Resolved)}, now); err != nil {
		t.Fatal(err)
	}
	waits("after the end of one", "alarm dcs-1", "alarm dcs-2", "reminder dcs-2", "resolved dcs-1")
}

func TestTitleOfSeveral(t *testing.T) {
	refusal := Event{Kind: KindRefusal, Instance: "one"}
	if got := title([]Event{{Kind: KindAlarm, Instance: "one"}, refusal}); got != "dcshealer: 1 critical alarm, 1 needs a person: one" {
		t.Error(got)
	}
	if got := title([]Event{refusal, refusal}); got != "dcshealer: 2 need a person: one" {
		t.Error(got)
	}
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
	if n, err := o.Revive(t.Context(), "oncall", time.Now()); n != 1 || err != nil {
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
	if err := s.Send(t.Context(), n); !permanent(err) || !strings.Contains(err.Error(), "no redirect is followed; put the address") || other.tried() != 0 {
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
		"nosuch://" + secret, secret, "matrix://ann:" + secret + "@h?rooms=", "slack+https://" + secret, "smtp://ann:" + secret + "@h/?form=" + secret, "slack://" + secret, "telegram://" + secret + "@telegram?chats=1", "smtp://%zz" + secret,
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
	due := func() int { return len(s.Due(now, func(Event) (string, bool) { return "an incident", taken })) }
	firing := alarm("dcs-1", policies.Firing)
	onset := func(after time.Duration) policies.Alarm {
		a := firing
		a.Since = firing.Since.Add(after)
		return a
	}
	warning, stranger, strange := firing, alarm("dcs-2", policies.Firing), alarm("dcs-2", policies.Resolved)
	warning.Severity = policies.Warning
	stranger.Since, strange.Since = time.Time{}, time.Time{}
	for i, step := range []struct {
		after time.Duration
		do    func() any
		want  any
	}{
		{0, func() any { return told(warning) }, Kind("")},
		{0, func() any { return told(alarm("dcs-1", policies.Resolved)) }, Kind("")}, // nobody was told of it
		{0, func() any { return told(firing) }, KindAlarm},
		{time.Minute, func() any { return told(firing) }, Kind("")},
		{8 * time.Minute, func() any { return due() }, 0},
		{time.Minute, func() any { return due() }, 1},
		{time.Second, func() any { return due() }, 0},
		{0, func() any { return told(firing) }, Kind("")},
		{10 * time.Minute, func() any { taken = true; return due() }, 0},
		{0, func() any { return told(onset(time.Hour)) }, Kind("")}, // of an agent that was started again
		{time.Minute, func() any { return told(alarm("dcs-1", policies.Resolved)) }, KindResolved},
		{time.Second, func() any { return told(alarm("dcs-1", policies.Resolved)) }, Kind("")}, // once more, after a crash
		{time.Second, func() any { return told(firing) }, Kind("")},                            // late
		{time.Second, func() any { return told(onset(2 * time.Hour)) }, KindAlarm},
		{0, func() any { taken = false; return due() }, 0},
		{Forgotten, func() any { return due() }, 0},                              // it may have ended unheard
		{time.Hour, func() any { return told(onset(2 * time.Hour)) }, Kind("")},  // it had not
		{Forgotten, func() any { return told(onset(3 * time.Hour)) }, KindAlarm}, // another one
		{time.Hour, func() any { return told(alarm("dcs-1", policies.Resolved)) }, KindResolved},
		{0, func() any { return told(stranger) }, KindAlarm}, // who says no onset repeats the alarm that there is
		{time.Minute, func() any { return told(stranger) }, Kind("")},
		{time.Minute, func() any { return told(strange) }, KindResolved},
		{time.Minute, func() any { return told(stranger) }, KindAlarm},
		{Remembered, func() any { return due() + len(s.alarms) }, 0},
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
	dropped, err := o.tell(t.Context(), []policies.Receiver{{Name: "b"}}, telling{events: events, once: make([]string, len(events))}, time.Unix(1, 0))
	if dropped != 5 || err != nil {
		t.Errorf("dropped %d, %v; want 5", dropped, err)
	}
	l, ok, err := o.next(t.Context(), "b", func(e []Event) Notice { return NewNotice("n", "host", e, time.Now()) })
	if !ok || err != nil || l.notice.More+len(l.notice.Events) != maxWaiting || !l.notice.Events[0].At.Equal(time.Unix(6, 0)) {
		t.Errorf("%d events, the oldest of %v, %v", l.notice.More+len(l.notice.Events), l.notice.Events[0].At.Unix(), err)
	}
	list, err := o.Accounts(t.Context())
	if err != nil || len(list) != 1 || list[0].Pending != maxWaiting {
		t.Errorf("%+v, %v", list, err)
	}
}

// A process that crashed and starts again goes on where it was: what was told is not told again, and what was not is.
func TestNothingIsToldTwiceOverARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	now := time.Unix(1_700_000_000, 0)
	repair := policies.Record{ID: "R1", Instance: "dcs-1", Mode: policies.Live, Outcome: policies.OutcomeSucceeded}
	refused := policies.Record{ID: "R2", Incident: "I1", Instance: "dcs-1", Cause: policies.CauseNetwork, Outcome: policies.OutcomeDenied}
	again := refused
	again.ID = "R3"
	for i, step := range []struct {
		do      func(n *Notifier) error
		pending int
		place   int64
	}{
		{func(n *Notifier) error {
			return n.Alarms(t.Context(), []policies.Alarm{alarm("dcs-1", policies.Firing), alarm("dcs-1", policies.Firing)}, now)
		}, 1, -1},
		{func(n *Notifier) error {
			return n.Alarms(t.Context(), []policies.Alarm{alarm("dcs-1", policies.Firing)}, now.Add(time.Hour))
		}, 1, -1},
		{func(n *Notifier) error {
			return n.Decisions(t.Context(), []policies.Record{repair, refused}, 7, now)
		}, 3, 7},
		{func(n *Notifier) error { return n.Decisions(t.Context(), []policies.Record{again}, 8, now) }, 3, 8},
		{func(n *Notifier) error { n.Remind = time.Minute; return n.RemindNow(t.Context(), now.Add(time.Hour)) }, 4, 8},
		{func(n *Notifier) error { n.Remind = time.Minute; return n.RemindNow(t.Context(), now.Add(time.Hour)) }, 4, 8},
		{func(n *Notifier) error {
			return n.Alarms(t.Context(), []policies.Alarm{alarm("dcs-1", policies.Resolved)}, now.Add(time.Hour))
		}, 4, 8}, // in the place of the reminder
	} {
		o := openOutbox(t, path) // another process each time
		if err := step.do(notifier(o)); err != nil {
			t.Fatal(err)
		}
		list, err := o.Accounts(t.Context())
		if err != nil || len(list) != 1 || list[0].Pending != step.pending {
			t.Errorf("step %d: %+v, %v; want %d events", i, list, err, step.pending)
		}
		if place, ok, err := o.Place(t.Context()); err != nil || ok != (step.place >= 0) || ok && place != step.place {
			t.Errorf("step %d: place %d, %v, %v; want %d", i, place, ok, err, step.place)
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What could not be kept was not told.
func TestWhatCouldNotBeKeptIsToldAgain(t *testing.T) {
	o := openOutbox(t, filepath.Join(t.TempDir(), FileName))
	n := notifier(o)
	if _, err := o.db.ExecContext(t.Context(), "CREATE TRIGGER full BEFORE INSERT ON standing BEGIN SELECT RAISE(ABORT, 'no room'); END"); err != nil {
		t.Fatal(err)
	}
	tell := func() error {
		return n.Alarms(t.Context(), []policies.Alarm{alarm("dcs-1", policies.Firing)}, time.Now())
	}
	if err := tell(); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("%v", err)
	}
	if _, err := o.db.ExecContext(t.Context(), "DROP TRIGGER full"); err != nil {
		t.Fatal(err)
	}
	if err := tell(); err != nil {
		t.Error(err)
	}
	if list, err := o.Accounts(t.Context()); err != nil || len(list) != 1 || list[0].Pending != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

// Anybody on the bus can send a megabyte, and colours.
func TestAnEventIsBoundedAndPlain(t *testing.T) {
	a := alarm("dcs-1\x1b[31m", policies.Firing)
	a.Msg, a.Metric = strings.Repeat("long\n", 200_000), policies.Metric(strings.Repeat("m", 1<<20))
	e, tell := (&Standing{}).Alarm(a, time.Now())
	if body, err := json.Marshal(e); !tell || err != nil || len(body) > 2000 || strings.Contains(string(body), `\u001b`) || strings.Contains(string(body), `\n`) || e.Instance != "dcs-1" {
		t.Errorf("%d bytes: %.300s", len(body), body)
	}
}

func TestAReceiverGetsWhatItAskedFor(t *testing.T) {
	o := openOutbox(t, filepath.Join(t.TempDir(), FileName))
	n := notifier(o)
	n.Receivers = []policies.Receiver{{Name: "all"}, {Name: "ends", Events: []Kind{KindResolved}}, {Name: "two", Instances: []string{"dcs-2"}},
		{Name: "both", Events: []Kind{KindAlarm, KindRepair}, Instances: []string{"dcs-1"}}}
	if err := n.Alarms(t.Context(), []policies.Alarm{alarm("dcs-1", policies.Firing), alarm("dcs-2", policies.Firing), alarm("dcs-1", policies.Resolved)}, time.Now()); err != nil {
		t.Fatal(err)
	}
	list, err := o.Accounts(t.Context())
	got := map[string]int{}
	for _, a := range list {
		got[a.Receiver] = a.Pending
	}
	if want := map[string]int{"all": 3, "ends": 1, "two": 1, "both": 1}; err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if n, err := o.Keep(t.Context(), n.Receivers[:1]); n != 3 || err != nil {
		t.Errorf("dropped %d of receivers that are gone, %v", n, err)
	}
}

func TestWhatADecisionTells(t *testing.T) {
	deny := policies.Ruling{Guard: policies.GuardLineage, Verdict: "deny", Reason: "they share no history"}
	hold := policies.Ruling{Guard: policies.GuardMode, Verdict: "deny", Reason: "dry run", Temporary: true}
	for name, c := range map[string]struct {
		r    policies.Record
		want Kind
		says string
	}{
		"a repair":                    {policies.Record{Mode: policies.Live, Outcome: policies.OutcomeSucceeded, Action: policies.ReattachReplica, Node: "r", Cause: policies.CausePromoted}, KindRepair, "reattach-replica on r (promoted): succeeded; dcshealer actions show R"},
		"one that failed":             {policies.Record{Mode: policies.Live, Outcome: policies.OutcomeFailed, Error: "no answer"}, KindRepair, "failed: no answer"},
		"one by hand":                 {policies.Record{Mode: policies.Live, Outcome: policies.OutcomeIneffective, Trigger: policies.TriggerManual}, KindRepair, "ineffective"},
		"one that a crash broke off":  {policies.Record{Mode: policies.Live, Outcome: policies.OutcomeInterrupted}, KindRepair, "interrupted"},
		"one under way":               {policies.Record{Mode: policies.Live, Outcome: policies.OutcomeRunning}, "", ""},
		"a plan":                      {policies.Record{Outcome: policies.OutcomePlanned, Action: policies.ReattachReplica, Guards: []policies.Ruling{hold}}, "", ""},
		"what time lifts":             {policies.Record{Mode: policies.Live, Outcome: policies.OutcomeDenied, Action: policies.ReattachReplica, Guards: []policies.Ruling{hold}}, "", ""},
		"what a person has to decide": {policies.Record{Mode: policies.Live, Outcome: policies.OutcomeDenied, Action: policies.ReattachReplica, Node: "r", Guards: []policies.Ruling{hold, deny}}, KindRefusal, "reattach-replica on r is refused by lineage: they share no history"},
		"also in dry run":             {policies.Record{Mode: policies.DryRun, Outcome: policies.OutcomeDenied, Action: policies.ReattachReplica, Guards: []policies.Ruling{deny}}, KindRefusal, "refused by lineage"},
		"but not whom it asked":       {policies.Record{Mode: policies.Live, Outcome: policies.OutcomeDenied, Action: policies.ReattachReplica, Guards: []policies.Ruling{deny}, Trigger: policies.TriggerManual}, "", ""},
		"what no action cures":        {policies.Record{Outcome: policies.OutcomeDenied, Error: "no action cures node-down: it is gone"}, KindRefusal, "no action cures node-down: it is gone"},
		"what the server does not do": {policies.Record{Mode: policies.Live, Outcome: policies.OutcomeUnsupported, Action: policies.ReattachReplica, Node: "r", Error: "NOPERM"}, KindRefusal, "not supported there: NOPERM"},
	} {
		c.r.ID = "R"
		e, once, tell := Decision(c.r)
		if tell != (c.want != "") || tell && (e.Kind != c.want || !strings.Contains(e.Msg, c.says) || e.Record != "R" || (once != "") != (e.Kind == KindRefusal)) {
			t.Errorf("%s: %v %+v, once %q", name, tell, e, once)
		}
	}
}

func TestATemplateWritesTitleAndText(t *testing.T) {
	two := []Event{{Kind: KindRepair, Instance: "dcs-2", Msg: "mended\x1b[31m\u202e"}, {Kind: KindAlarm, Instance: "dcs-1", Msg: "the link is down\nforged"}}
	tpl, err := ParseTemplate("{{len .Events}} from {{.Source}}\n", "{{range .Events}}{{.Kind}}: {{.Instance}}: {{.Msg}}\n{{end}}")
	if err != nil {
		t.Fatal(err)
	}
	n := tpl.Apply(NewNotice("n", "host", two, time.Now()))
	if want := "alarm: dcs-1: the link is down\nforged\nrepair: dcs-2: mended"; n.Title != "2 from host" || n.Text != want {
		t.Errorf("%q: %q, want %q", n.Title, n.Text, want)
	}
	if long, err := ParseTemplate("", `{{range .Events}}{{printf "%05000d" 1}}{{end}}`); err != nil || len(long.Apply(NewNotice("n", "host", two, time.Now())).Text) > maxText+len("…") {
		t.Errorf("a long one: %v", err)
	}
	for text, want := range map[string]string{
		"{{.Nosuch}}":               "Nosuch",
		"{{":                        "unclosed action",
		"{{(index .Events 1).Msg}}": "index",
		`{{printf "%0100000d" 1}}`:  "more than 65536 bytes",
	} {
		if _, err := ParseTemplate("", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	odd, err := ParseTemplate("", `{{if gt (len .Events) 50}}{{end}}{{if eq .More 7}}{{slice .ID 99}}{{end}}x`)
	if err != nil {
		t.Fatal(err)
	}
	if n := odd.Apply(NewNotice("n", "host", make([]Event, MaxEvents+7), time.Now())); !strings.Contains(n.Text, "the receiver's template failed") || !strings.Contains(n.Text, "and 45 more") {
		t.Errorf("%q", n.Text)
	}
}

// Receivers change their keys one after another: each key signs, and a receiver with any of them takes it.
func TestEachKeySigns(t *testing.T) {
	var headers http.Header
	var body []byte
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		headers = r.Header
		body, _ = io.ReadAll(r.Body)
	}))
	defer s.Close()
	const coded = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // that of the specification's examples
	w, err := NewWebhook(policies.Secret(s.URL), testKey, coded)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Send(t.Context(), NewNotice("n", "host", []Event{{Kind: KindTest}}, time.Now())); err != nil {
		t.Fatal(err)
	}
	raw, err := standardwebhooks.NewWebhookRaw([]byte(testKey))
	named, err2 := standardwebhooks.NewWebhook(coded)
	if err := errors.Join(err, err2, raw.Verify(body, headers), named.Verify(body, headers)); err != nil {
		t.Error(err)
	}
	for _, key := range []policies.Secret{"whsec_not base64", "whsec_c2hvcnQ="} {
		if _, err := NewWebhook("https://h", key); err == nil || strings.Contains(err.Error(), string(key)) {
			t.Errorf("%s: %v", key.Reveal(), err)
		}
	}
}

func TestFewEventsAreToldWholeAndManyStayWithinAChatMessage(t *testing.T) {
	msg := strings.Repeat("x", 650) + "END"
	for n, whole := range map[int]bool{1: true, 2: true, 3: false, 12: false, 40: false} {
		text := NewNotice("n", "host", slices.Repeat([]Event{{Kind: KindRefusal, Instance: "dcs-prod-01", Node: "dcs-slave-01", Msg: msg}}, n), time.Now()).Text
		if got := strings.Contains(text, "END"); got != whole || len([]rune(text)) > 2000 {
			t.Errorf("%d events: whole is %t, %d characters", n, got, len([]rune(text)))
		}
	}
}
