package remediation

import (
	"context"
	"database/sql"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	_ "modernc.org/sqlite" // to break the journal behind its back

	"dcshealer/policies"
)

// behind runs statements on the journal's file, as nobody should.
func (r *rig) behind(statements string) {
	r.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(r.dir, "healer.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statements); err != nil {
		r.t.Fatal(err)
	}
}

// refuseWrites makes the file refuse each record and each pulse, as a full disk does; takeWrites ends that.
const (
	refuseWrites = `CREATE TRIGGER full_entries BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, 'no room'); END;
		CREATE TRIGGER full_pulse BEFORE INSERT ON pulse BEGIN SELECT RAISE(ABORT, 'no room'); END;`
	takeWrites = `DROP TRIGGER full_entries; DROP TRIGGER full_pulse;`
)

// raised keeps the alarms that a healer raises about itself.
type raised struct {
	mu  sync.Mutex
	all []policies.Alarm
}

func (r *raised) add(a policies.Alarm) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, a)
}

func TestAHealerThatCannotWriteItsJournalSaysSoOnEachChannelAndDoesNothing(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), "")
	var alarms raised
	r.h.opt.Raise = alarms.add
	r.behind(refuseWrites)
	for range 3 {
		r.h.pulse(t.Context(), time.Now())
	}
	r.start()
	x.promote()
	check := untouched(t, m, x)
	r.alarm(prod1, replication)
	r.waitState(prod1, policies.StateHeld)
	r.waitLine("held: ", "the journal cannot be written, and nothing is done without a record")
	rounds(t, x, 2)
	check()
	if n := r.lines.count(policies.HealerLinePrefix, policies.SelfInstance+" | the journal cannot be written", "no room"); n != 1 {
		t.Errorf("its own line was printed %d times, want once", n)
	}
	if n := r.log.count("level=ERROR", "journal cannot be written"); n != 1 {
		t.Errorf("logged %d times as an error, want once", n)
	}
	x.do("CONFIG", "RESETSTAT")
	r.incidents(0)
	writable := time.Now()
	r.behind(takeWrites)
	r.h.pulse(t.Context(), time.Now()) // hints by itself: no new alarm comes
	rec := r.healed(policies.CausePromoted, m, x)
	if in := r.incidents(1)[0]; in.ID != rec.Incident || !in.Opened.Before(writable) {
		t.Errorf("incident %+v: want it opened when it was, before the journal could be written (%s)", in, writable)
	}
	r.whole()
	if len(alarms.all) != 2 {
		t.Fatalf("raised %+v, want one that fires and one that resolves", alarms.all)
	}
	up, down := alarms.all[1], alarms.all[0]
	if down.Metric != policies.MetricJournal || down.Severity != policies.Critical || down.IsResolved() || down.Instance != policies.SelfInstance || down.ID == "" {
		t.Errorf("fired %+v", down)
	}
	if !up.IsResolved() || up.Severity != down.Severity || up.Instance != down.Instance || up.Metric != down.Metric || up.Node != down.Node || !up.Since.Equal(down.Since) || up.ID == down.ID {
		t.Errorf("resolved %+v, want of %+v", up, down)
	}
	r.h.Alarm(down) // as the bus gives it back
	if n := r.lines.count("not an instance of this config"); n > 0 {
		t.Error("the healer takes its own alarm for that of an unknown instance")
	}
}

// Two days of a healer: the journal is cut an hour after the start and then once a day, by an entry that says so.
func TestARunningHealerCutsItsJournalOnceADay(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := fleet()
		c.Journal.Keep = policies.MinKeep
		r := newRig(t, c, dir)
		r.fillOld(t, 1010, policies.MinKeep+time.Hour)
		dropped := func() int64 {
			v, err := r.j.Verify(t.Context())
			if err != nil || !v.OK {
				t.Fatalf("verify %+v (%+v), %v", v, v.FirstBad, err)
			}
			return v.Dropped
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.h.keepJournal(ctx, 10*time.Minute); close(done) }()
		time.Sleep(retainAfter - time.Minute)
		if n := dropped(); n != 0 {
			t.Errorf("dropped %d within the first hour", n)
		}
		time.Sleep(2 * time.Minute)
		if n := dropped(); n != 10 {
			t.Errorf("dropped %d after an hour, want all but the newest 1000", n)
		}
		r.fillOld(t, 5, policies.MinKeep+time.Hour)
		time.Sleep(23 * time.Hour)
		if n := dropped(); n != 10 {
			t.Errorf("dropped %d before the day was over", n)
		}
		time.Sleep(2 * time.Hour)
		if n := dropped(); n != 16 { // the five and what the first cut wrote itself
			t.Errorf("dropped %d the next day, want 16", n)
		}
		cancel()
		<-done
	})
	c := fleet()
	c.Journal.Keep = policies.MinKeep
	r := newRig(t, c, "")
	now := time.Now()
	r.h.tilt.observe(now)
	r.h.tilt.observe(stepped(t, now.Add(time.Second), 24*365*time.Hour))
	if r.h.retain(t.Context(), now.Add(time.Second)) {
		t.Error("it is cut by a clock that has just been set")
	}
}

// fillOld writes n decisions that are age old.
func (r *rig) fillOld(t *testing.T, n int, age time.Duration) {
	t.Helper()
	for range n {
		if _, err := r.j.Begin(t.Context(), policies.Record{Instance: prod1, Outcome: policies.OutcomeDenied, At: time.Now().Add(-age)}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestACooldownIsNeitherSkippedNorEndlessWhenTheClockIsSet(t *testing.T) {
	t.Parallel()
	rest := time.Minute
	over := func(f time.Time, now time.Time) bool { return !f.Add(rest).After(now) }
	base := time.Now()
	for name, c := range map[string]struct {
		seen     time.Duration // how long ago by the wall clock the action ended when this process first saw its record
		step     time.Duration // of the wall clock right after that
		wantLeft time.Duration
	}{
		"steady":        {0, 0, rest},
		"seen late":     {40 * time.Second, 0, rest - 40*time.Second},
		"over long ago": {time.Hour, 0, 0},
		"ended next year by a clock that was ahead": {-365 * 24 * time.Hour, 0, rest},
		"set forward by an hour":                    {0, time.Hour, rest},
		"set back by an hour":                       {0, -time.Hour, rest},
		"set back, seen late":                       {40 * time.Second, -time.Hour, rest - 40*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			var r rested
			finished := base.Add(-c.seen).Round(0) // as the journal has it
			r.since("A", finished, base)
			before, after := stepped(t, base.Add(c.wantLeft-time.Second), c.step), stepped(t, base.Add(c.wantLeft), c.step)
			if c.wantLeft > 0 && over(r.since("A", finished, before), before) {
				t.Errorf("over a second early, at %s", c.wantLeft-time.Second)
			}
			if !over(r.since("A", finished, after), after) {
				t.Errorf("not over after %s", c.wantLeft)
			}
		})
	}
}
