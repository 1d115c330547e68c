package remediation

import (
	"context"
	"testing"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

func TestASweepGoesOnWhereConfigSetIsForbidden(t *testing.T) {
	t.Parallel()
	s := fullOfStale(t, 50_000)
	s.do("ACL", "SETUSER", "healer", "on", ">secret", "~*", "+@all", "-config|set")
	in := instance(prod1, reclaimLive, s)
	in.Username, in.Password = "healer", "secret"
	r := newRig(t, fleet(in), "").start()
	s.do("CONFIG", "RESETSTAT")
	r.alarm(prod1, memory)
	rec := r.record(prod1, memory, policies.OutcomeSucceeded)
	if got := s.setting(lazyExpire); got != "no" {
		t.Errorf("%s is %s", lazyExpire, got)
	}
	if len(rec.Commands) == 0 || rec.Commands[0].Args[0] != "CONFIG" || rec.Commands[0].Reply[:6] != "NOPERM" {
		t.Errorf("commands %+v, want the refusal on record", rec.Commands)
	}
	if debts, _ := r.j.Debts(context.Background()); len(debts) > 0 {
		t.Errorf("%+v is owed, and nothing was set", debts)
	}
	s.takesWrites()
	r.whole()
}

// What is owed is put back only where it is still ours to put back.
func TestWhatIsOwedIsNotPutBackOverSomebodyElse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dry     bool
		now     string // the setting when the Healer starts
		restart bool
		want    string
		settled bool
	}{
		"still as we set it":             {now: "yes", want: "no", settled: true},
		"a person has put it back":       {now: "no", want: "no", settled: true},
		"the server restarted since":     {now: "yes", restart: true, want: "no", settled: true},
		"a dry run puts nothing back":    {now: "yes", dry: true, want: "yes"},
		"a restart in a dry run changes": {now: "yes", dry: true, restart: true, want: "no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			dir := t.TempDir()
			r := newRig(t, fleet(instance(prod1, reclaimLive, s)), dir)
			r.h.opt.DryRun = c.dry
			run := s.info("server")["run_id"]
			d := journal.Debt{Record: "none", Instance: prod1, Node: "master-" + prod1, RunID: run, Setting: lazyExpire, Was: "no", Set: "yes"}
			if err := r.j.Owe(context.Background(), d); err != nil {
				t.Fatal(err)
			}
			s.do("CONFIG", "SET", lazyExpire, c.now)
			if c.restart {
				s.kill()
				s.restart()
			}
			s.do("CONFIG", "RESETSTAT")
			r.start()
			eventually(t, "the debt is as it should be", func() bool {
				debts, err := r.j.Debts(context.Background())
				return err == nil && (len(debts) == 0) == c.settled
			})
			if got := s.setting(lazyExpire); got != c.want {
				t.Errorf("%s is %s, want %s", lazyExpire, got, c.want)
			}
			if c.now == c.want {
				s.wantWrites(map[string]int{})
			}
			r.whole()
		})
	}
}
