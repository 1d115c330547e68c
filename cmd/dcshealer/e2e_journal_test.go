package main

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A healer whose journal takes no record any more is heard by those on duty, over the bus, and so is that it can write again.
func TestAJournalThatCannotBeWrittenIsAnAlarm(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.add("dcs-prod-01", "", master("dcs-master-01", startServer(t)))
	p := running(t, "-c", f.write())
	behind := func(statements string) {
		t.Helper()
		db, err := sql.Open("sqlite", "file:"+filepath.Join(f.state, "healer.db")+"?_pragma=busy_timeout(5000)")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(statements); err != nil {
			t.Fatal(err)
		}
	}
	behind("CREATE TRIGGER full BEFORE INSERT ON pulse BEGIN SELECT RAISE(ABORT, 'no room'); END")
	const said = "dcshealer | the journal cannot be written, and nothing is done without a record: "
	p.prints("[On-duty DBA] !!! Critical alarm !!! " + said)
	p.prints("[Self-healing service] " + said)
	p.prints("[Log archiving] [CRITICAL] " + said)
	behind("DROP TRIGGER full")
	p.prints("[On-duty DBA] Resolved | dcshealer | Resolved: the journal can be written again")
	if n := len(p.lines("[On-duty DBA] !!! Critical alarm !!! dcshealer")); n != 1 {
		t.Errorf("the alarm came %d times, want once", n)
	}
	p.stopsWell(sigint)
	f.verifies()
}

func TestStatusSaysThatARunningHealerDoesNotWrite(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		ago  time.Duration
		ever bool
		want string
	}{
		{0, true, ""}, {time.Minute, true, ""}, {-time.Hour, true, ""}, {time.Hour, false, ""}, {61 * time.Second, true, "not written for 1m1s"},
	} {
		if got := silentJournal(now.Add(-c.ago), c.ever, now); !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s ago, ever %v: %q, want %q", c.ago, c.ever, got, c.want)
		}
	}
}
