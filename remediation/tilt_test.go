package remediation

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

// stepped is t as it reads after the wall clock was set by d: its monotonic reading stays. A Time has the wall seconds in
// the upper bits of its first word, above 30 bits of nanoseconds.
func stepped(tb testing.TB, t time.Time, d time.Duration) time.Time {
	tb.Helper()
	out := t
	*(*uint64)(unsafe.Pointer(&out)) += uint64(int64(d/time.Second)) << 30
	if got := out.Round(0).Sub(t.Round(0)); got != d || out.Sub(t) != 0 {
		tb.Fatalf("this Go lays out a Time in another way: wall moved by %s, want %s, monotonic by %s, want 0", got, d, out.Sub(t))
	}
	return out
}

func TestTiltByTicks(t *testing.T) {
	start := time.Now()
	for name, c := range map[string]struct {
		gap, step time.Duration // between two ticks; of the wall clock
		want      string        // in the reason; empty: steady
	}{
		"a tick in time":           {time.Second, 0, ""},
		"a tick a little late":     {tiltStall, 0, ""},
		"a stall":                  {tiltStall + time.Millisecond, 0, "stood still for 5.001s"},
		"clock set forward":        {time.Second, time.Hour, "set by 1h0m0s"},
		"clock set back":           {time.Second, -time.Hour, "set by -1h0m0s"},
		"clock slewed by a second": {time.Second, time.Second, ""},
		"clock slewed back":        {time.Second, -2 * time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var l tilt
			l.observe(start)
			next := stepped(t, start.Add(c.gap), c.step)
			l.observe(next)
			got := l.reason(next)
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Fatalf("reason %q, want %q", got, c.want)
			}
			if c.want == "" {
				return
			}
			for s := range 10 { // steady ticks after it
				next = next.Add(time.Second)
				l.observe(next)
				if late := s+1 >= int(tiltRest/time.Second); (l.reason(next) == "") != late {
					t.Errorf("%d s later: reason %q", s+1, l.reason(next))
				}
			}
		})
	}
}

// A machine that slept runs on with what it knew before: its evidence looks fresh, as the monotonic clock slept, too.
func TestAReaderNoticesASleepOrASetClockBeforeTheTick(t *testing.T) {
	now := time.Now()
	for step, want := range map[time.Duration]string{time.Hour: "slept", -time.Hour: "set by -1h0m0s", time.Second: "", -time.Second: ""} {
		var l tilt
		l.observe(now)
		if got := l.reason(stepped(t, now.Add(time.Second/2), step)); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("half a second later, with a step of %s: %q, want %q", step, got, want)
		}
	}
}

func TestAReaderNoticesTheStallBeforeTheTick(t *testing.T) {
	var l tilt
	now := time.Now()
	if got := l.reason(now); got != "" {
		t.Errorf("before the first tick: %q, want steady", got)
	}
	l.observe(now)
	if got := l.reason(now.Add(tiltStall)); got != "" {
		t.Errorf("a tick that is %s old: %q, want steady", tiltStall, got)
	}
	if got := l.reason(now.Add(tiltStall + time.Second)); !strings.Contains(got, "late by 6s") {
		t.Errorf("a tick that is 6 s old: %q, want late", got)
	}
}

func TestTiltTicksByItselfAndEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l tilt
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.run(ctx) }()
		time.Sleep(time.Minute) // of the bubble
		if got := l.reason(time.Now()); got != "" {
			t.Errorf("after a steady minute: %q", got)
		}
		cancel()
		<-done
		time.Sleep(tiltStall + time.Second)
		if got := l.reason(time.Now()); !strings.Contains(got, "late") {
			t.Errorf("after the ticks ended: %q, want late", got)
		}
	})
}
