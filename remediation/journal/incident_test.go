package journal

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

// opened is an incident of dcs-1 whose first alarm came 2 s before it was confirmed.
func opened(id string, at time.Time) policies.Incident {
	return policies.Incident{ID: id, Instance: "dcs-1", Node: "n1", Metric: policies.MetricReplication, Cause: policies.CausePromoted, Msg: "n1 is a master",
		Trigger: policies.TriggerAlarm, Alarmed: at.Add(-2 * time.Second), Opened: at}
}

func on(node string, in policies.Incident) policies.Incident {
	in.Node = node
	return in
}

func TestAnIncidentIsOneStoryAcrossRestarts(t *testing.T) {
	t.Parallel()
	dir, ctx := t.TempDir(), t.Context()
	j := open(t, dir)
	must(t, j.OpenIncident(ctx, opened("01AA", t0)))
	r := decision("dcs-1", t0.Add(time.Second))
	r.Incident = "01AA"
	id, err := j.Begin(ctx, r)
	must(t, err)
	other := decision("dcs-1", t0)
	other.Incident = "01AB"
	_, err = j.Begin(ctx, other)
	must(t, err)
	must(t, j.SetPause(ctx, Pause{Instance: "dcs-2", Reason: "not ours", By: "bob", At: t0.Add(time.Second)}))
	must(t, j.SetPause(ctx, Pause{Reason: "look first", By: "ann", At: t0.Add(2 * time.Second)}))
	must(t, j.Close())

	j = open(t, dir)
	must(t, j.ChangeIncident(ctx, "01AA", policies.CausePromotedWithWrites, "n1 took writes", "goes on in another process", t0.Add(3*time.Second)))
	in, err := j.Acknowledge(ctx, "01a", policies.Ack{By: "ann", Note: "mine", At: t0.Add(4 * time.Second)})
	must(t, err)
	if in.ID != "01AA" || in.Ack == nil || in.Ack.By != "ann" || in.Cause != policies.CausePromotedWithWrites || !in.Open() {
		t.Errorf("acknowledged: %+v", in)
	}
	must(t, j.CloseIncident(ctx, "01AA", Closing{policies.ResolvedByOther, "somebody did it"}, t0.Add(time.Minute)))
	wantErr(t, j.CloseIncident(ctx, "01AA", Closing{}, t0), ErrClosed)
	must(t, j.SetPause(ctx, Pause{Reason: "after it", By: "ann", At: t0.Add(time.Hour)}))

	f, err := j.Incident(ctx, "01AA")
	must(t, err)
	in = f.Incident
	if in.Open() || in.Resolution != policies.ResolvedByOther || in.Text != "somebody did it" || in.Detected() != 2*time.Second || in.Lasted(t0) != 62*time.Second {
		t.Errorf("the incident: %+v", in)
	}
	var events []string
	for _, e := range f.Events {
		events = append(events, e.Event+" "+e.Text)
	}
	if got := strings.Join(events, "; "); got != "opened n1 is a master; changed goes on in another process; acknowledged by ann: mine; closed somebody did it" {
		t.Errorf("events: %s", got)
	}
	if len(f.Records) != 1 || f.Records[0].ID != id {
		t.Errorf("records %+v, want %s alone", f.Records, id)
	}
	if len(f.Controls) != 1 || f.Controls[0].Pause.Reason != "look first" {
		t.Errorf("controls %+v, want the one of its time and instance", f.Controls)
	}
	if v, err := j.Verify(ctx); err != nil || !v.OK || v.Records != 2 {
		t.Errorf("verify %+v, %v", v, err)
	}
}

// Two processes that see one fault at the same time open one incident.
func TestAFaultHasOneOpenIncident(t *testing.T) {
	t.Parallel()
	dir, ctx := t.TempDir(), t.Context()
	j, other := open(t, dir), open(t, dir)
	must(t, j.OpenIncident(ctx, opened("01AA", t0)))
	err := other.OpenIncident(ctx, opened("01AB", t0))
	wantErr(t, err, ErrStands)
	if !strings.Contains(err.Error(), "01AA") {
		t.Errorf("%v does not name the one that stands", err)
	}
	wantErr(t, j.OpenIncident(ctx, opened("01AA", t0)), ErrTaken) // a try whose answer was lost
	for id, change := range map[string]func(*policies.Incident){
		"01BA": func(i *policies.Incident) { i.Node = "n2" },
		"01BB": func(i *policies.Incident) { i.Metric = policies.MetricUsedMemory },
		"01BC": func(i *policies.Incident) { i.Instance = "dcs-2" },
	} {
		in := opened(id, t0)
		change(&in)
		must(t, other.OpenIncident(ctx, in))
	}
	must(t, j.CloseIncident(ctx, "01AA", Closing{policies.ResolvedByOther, "somebody did it"}, t0.Add(time.Minute)))
	must(t, other.OpenIncident(ctx, opened("01AC", t0.Add(time.Hour))))
}

func TestIncidentsAreListedNewestFirst(t *testing.T) {
	t.Parallel()
	j, ctx := open(t, t.TempDir()), t.Context()
	for i, id := range []string{"01A", "01B", "01C"} {
		must(t, j.OpenIncident(ctx, on("node-"+id, opened(id, t0.Add(time.Duration(i)*time.Hour)))))
	}
	foreign := opened("01D", t0)
	foreign.Instance = "dcs-2"
	must(t, j.OpenIncident(ctx, foreign))
	must(t, j.CloseIncident(ctx, "01A", Closing{Resolution: policies.ResolvedByUs}, t0.Add(time.Minute)))
	for want, f := range map[string]IncidentFilter{
		"01D 01C 01B 01A": {}, "01C 01B 01A": {Instance: "dcs-1"}, "01D 01C 01B": {Open: true}, "01D": {Limit: 1},
		"01C 01B": {Instance: "dcs-1", Since: t0.Add(30 * time.Minute)}, // 01A was closed by then
	} {
		list, err := j.Incidents(ctx, f)
		must(t, err)
		var ids []string
		for _, in := range list {
			ids = append(ids, in.ID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%+v: %s, want %s", f, got, want)
		}
	}
}

func TestIncidentsThatCannotBe(t *testing.T) {
	t.Parallel()
	j, ctx := open(t, t.TempDir()), t.Context()
	must(t, j.OpenIncident(ctx, opened("01A", t0)))
	must(t, j.OpenIncident(ctx, on("n2", opened("01B", t0))))
	wantErr(t, j.OpenIncident(ctx, opened("01A", t0)), nil, "taken")
	wantErr(t, j.OpenIncident(ctx, opened("", t0)), nil, "want an id")
	wantErr(t, j.CloseIncident(ctx, "01Z", Closing{}, t0), ErrUnknownIncident)
	for id, want := range map[string]error{"01": ErrAmbiguous, "02": ErrUnknownIncident, "": ErrUnknownIncident, "%": ErrUnknownIncident} {
		_, err := j.Acknowledge(ctx, id, policies.Ack{By: "ann"})
		wantErr(t, err, want)
	}
	_, err := j.Acknowledge(ctx, "01A", policies.Ack{})
	wantErr(t, err, nil, "who")
	if v, err := j.Verify(ctx); err != nil || v.Entries != 2 {
		t.Errorf("refusals are in the chain: %+v, %v", v, err)
	}
}

func TestVerifyFindsAnEditedListOfIncidents(t *testing.T) {
	t.Parallel()
	for words, edit := range map[string]string{
		"says otherwise":     "UPDATE incidents SET body = replace(body, 'promoted', 'network')",
		"has no entries":     "INSERT INTO incidents SELECT 'x', 99, instance, opened, closed, replace(body, '01A', 'x') FROM incidents",
		"otherwise than the": "DELETE FROM incidents",
	} {
		j, ctx := open(t, t.TempDir()), t.Context()
		must(t, j.OpenIncident(ctx, opened("01A", t0)))
		_, err := j.write.ExecContext(ctx, edit)
		must(t, err)
		v, err := j.Verify(ctx)
		if err != nil || v.OK || !strings.Contains(v.FirstBad.Why, words) {
			t.Errorf("%s: verify %+v, %v", edit, v.FirstBad, err)
		}
	}
}

func TestWhatIsOverEndsOnceAndAloud(t *testing.T) {
	t.Parallel()
	dir, ctx := t.TempDir(), t.Context()
	j, beside := open(t, dir), open(t, dir)
	must(t, j.SetPause(ctx, Pause{Instance: "dcs-1", Until: t0.Add(time.Hour), Reason: "r", By: "ann", At: t0}))
	must(t, j.SetPause(ctx, Pause{Reason: "for ever", By: "ann", At: t0}))
	must(t, j.SetLive(ctx, policies.LiveGrant{Instance: "dcs-1", Action: policies.ReattachReplica, Enabled: true, Until: t0.Add(2 * time.Hour), Reason: "trial", By: "bob", At: t0}))
	if ended, err := j.EndOver(ctx, t0.Add(time.Hour-1)); err != nil || len(ended) != 0 {
		t.Errorf("before the end: %+v, %v", ended, err)
	}
	if cleared, err := j.ClearPause(ctx, "dcs-1", "ann", "r", t0.Add(time.Hour)); cleared || err != nil {
		t.Errorf("one that is over was resumed: %t, %v", cleared, err)
	}
	ended, err := j.EndOver(ctx, t0.Add(time.Hour))
	if err != nil || len(ended) != 1 || ended[0].Control != "pause-ended" || ended[0].Instance() != "dcs-1" || ended[0].Seq == 0 {
		t.Errorf("at the end: %+v, %v", ended, err)
	}
	if again, err := beside.EndOver(ctx, t0.Add(time.Hour)); err != nil || len(again) != 0 {
		t.Errorf("it ended twice: %+v, %v", again, err)
	}
	if ended, err = beside.EndOver(ctx, t0.Add(2*time.Hour)); err != nil || len(ended) != 1 || ended[0].Control != "live-ended" {
		t.Errorf("the grant: %+v, %v", ended, err)
	}
	if ps, err := j.Pauses(ctx, t0.Add(9*time.Hour)); err != nil || len(ps) != 1 || ps[0].Instance != "" {
		t.Errorf("standing: %+v, %v", ps, err)
	}
	all, err := j.Controls(ctx, "dcs-1", t0.Add(time.Minute), time.Time{})
	must(t, err)
	if len(all) != 2 || all[0].Control != "pause-ended" || all[1].Control != "live-ended" {
		t.Errorf("the chain holds %+v", all)
	}
}

func TestAPersonsWordNudgesItsInstanceOnly(t *testing.T) {
	t.Parallel()
	j, ctx := open(t, t.TempDir()), t.Context()
	nudged := func(instance string) int64 {
		seq, err := j.Nudged(ctx, instance)
		must(t, err)
		return seq
	}
	must(t, j.OpenIncident(ctx, opened("01A", t0)))
	if nudged("dcs-1") != 0 {
		t.Error("nudged by its opening")
	}
	_, err := j.Acknowledge(ctx, "01A", policies.Ack{By: "ann"})
	must(t, err)
	if nudged("dcs-1") != 2 || nudged("dcs-2") != 0 {
		t.Errorf("after the acknowledgement: %d and %d", nudged("dcs-1"), nudged("dcs-2"))
	}
	must(t, j.ResetBreaker(ctx, "*/reattach-replica", BreakerReset{Action: policies.ReattachReplica, Reason: "r", By: "ann"}, t0))
	if nudged("dcs-1") != 3 || nudged("dcs-2") != 3 {
		t.Errorf("after the reset for all: %d and %d", nudged("dcs-1"), nudged("dcs-2"))
	}
	wantErr(t, j.ResetBreaker(ctx, "x", BreakerReset{By: "ann"}, t0), nil, "reason")
}

// The version tells a writer in another process from silence.
func TestVersionChangesWithEachWriteOfAnother(t *testing.T) {
	t.Parallel()
	dir, ctx := t.TempDir(), t.Context()
	j, other := open(t, dir), open(t, dir)
	version := func() int64 {
		v, err := j.Version(ctx)
		must(t, err)
		return v
	}
	was := version()
	if version() != was {
		t.Error("it changed in silence")
	}
	must(t, other.SetPause(ctx, Pause{Reason: "r", By: "ann", At: t0}))
	if version() == was {
		t.Error("a pause by another process does not show")
	}
}

// A person moves a damaged journal away, and the healer begins another: who follows it has to notice.
func TestAFollowerNoticesThatTheJournalWasReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := open(t, dir)
	follower, err := OpenReadOnly(t.Context(), dir)
	must(t, err)
	defer follower.Close()
	_, err = follower.Version(t.Context())
	must(t, err)
	must(t, old.Close())
	for _, name := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(filepath.Join(dir, fileName+name), filepath.Join(dir, "bad"+name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	_, err = follower.Version(t.Context())
	wantErr(t, err, fs.ErrNotExist)
	open(t, dir)
	_, err = follower.Version(t.Context())
	wantErr(t, err, nil, "is another file")
	again, err := OpenReadOnly(t.Context(), dir)
	must(t, err)
	defer again.Close()
	_, err = again.Version(t.Context())
	must(t, err)
}

func BenchmarkVersion(b *testing.B) {
	j, err := Open(b.Context(), b.TempDir(), oper)
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	for b.Loop() {
		if _, err := j.Version(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
