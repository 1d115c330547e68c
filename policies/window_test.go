package policies

import (
	"testing"
	"time"
)

// nightly opens at 02:00 UTC each day.
func nightly(d time.Duration) Window {
	return Window{Cron: "0 2 * * *", Duration: d, Next: func(t time.Time) time.Time {
		start := time.Date(t.Year(), t.Month(), t.Day(), 2, 0, 0, 0, time.UTC)
		if !start.After(t) {
			start = start.AddDate(0, 0, 1)
		}
		return start
	}}
}

func TestWindowOpen(t *testing.T) {
	at := func(day, h, m, s, ns int) time.Time { return time.Date(2026, 3, day, h, m, s, ns, time.UTC) }
	never := func(time.Time) time.Time { return time.Time{} }
	for _, c := range []struct {
		name string
		w    Window
		now  time.Time
		want bool
	}{
		{"a nanosecond before the start", nightly(4 * time.Hour), at(4, 1, 59, 59, 999999999), false},
		{"at the start", nightly(4 * time.Hour), at(4, 2, 0, 0, 0), true},
		{"inside", nightly(4 * time.Hour), at(4, 4, 0, 0, 0), true},
		{"a nanosecond before the end", nightly(4 * time.Hour), at(4, 5, 59, 59, 999999999), true},
		{"at the end", nightly(4 * time.Hour), at(4, 6, 0, 0, 0), false},
		{"over midnight", nightly(23 * time.Hour), at(5, 0, 30, 0, 0), true},
		{"over midnight, ended", nightly(23 * time.Hour), at(5, 1, 0, 0, 0), false},
		{"as long as the day never closes", nightly(24 * time.Hour), at(5, 1, 59, 59, 0), true},
		{"longer than the day never closes", nightly(36 * time.Hour), at(5, 1, 0, 0, 0), true},
		{"no duration", nightly(0), at(4, 2, 0, 0, 0), false},
		{"a duration below zero", nightly(-time.Hour), at(4, 2, 0, 0, 0), false},
		{"a cron text that never comes", Window{Duration: time.Hour, Next: never}, at(4, 2, 0, 0, 0), false},
		{"not parsed", Window{Cron: "0 2 * * *", Duration: 24 * time.Hour}, at(4, 2, 0, 0, 0), false},
	} {
		if got := c.w.Open(c.now); got != c.want {
			t.Errorf("%s: open %t at %s, want %t", c.name, got, c.now, c.want)
		}
	}
}

func TestWindowGuard(t *testing.T) {
	for _, c := range []struct {
		name    string
		windows []Window
		now     time.Time
		allow   bool
		reason  string
	}{
		{"no windows: always", nil, noon, true, "no windows are set: acting is allowed at any time"},
		{"in the second of two", []Window{{}, nightly(12 * time.Hour)}, noon, true, `inside the window "0 2 * * *" for 12h0m0s`},
		{"outside, the next is named", []Window{{}, nightly(time.Hour)}, noon, false, "outside every window of the policy; the next opens at 2026-03-05T02:00:00Z"},
		{"none ever opens", []Window{{}}, noon, false, "outside every window of the policy; the next opens at no time: correct the windows of the policy"},
	} {
		f := healthyFacts()
		f.Policy.Windows = c.windows
		f.Now = c.now
		r := rulingOf(CommonGuards(f), GuardWindow)
		if r.Denied() == c.allow || r.Reason != c.reason || r.Temporary == c.allow {
			t.Errorf("%s: got %+v, want allow %t, %q", c.name, r, c.allow, c.reason)
		}
	}
}
