package policies

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func TestSpreads(t *testing.T) {
	ms := func(all ...int) (out []time.Duration) {
		for _, n := range all {
			out = append(out, time.Duration(n)*time.Millisecond)
		}
		return out
	}
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = 1000 * (100 - i)
	}
	for _, c := range []struct {
		in   []time.Duration
		want Spread
	}{
		{nil, Spread{}},
		{ms(500), Spread{1, 0.5, 0.5, 0.5, 0.5}},
		{ms(3000, 1000), Spread{2, 1, 3, 3, 4}},
		{ms(3000, 1000, 2000), Spread{3, 2, 3, 3, 6}},
		{ms(hundred...), Spread{100, 50, 95, 100, 5050}},
	} {
		if got := SpreadOf(c.in); got != c.want {
			t.Errorf("SpreadOf(%v) = %+v, want %+v", c.in, got, c.want)
		}
	}
}

// asRead is a record as the journal gives it back: its maps hold JSON's own types.
func asRead(t *testing.T, r Record) (out Record) {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEvidence(t *testing.T) {
	start := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	in := Instance{Name: "dcs-prod-01"}
	incident := func(id string, opened, closed int, how Resolution) Incident {
		i := Incident{ID: id, Instance: in.Name, Metric: MetricReplication, Cause: CausePromoted, Seen: at(opened - 1), Opened: at(opened), Resolution: how}
		if closed > 0 {
			i.Closed = at(closed)
		}
		return i
	}
	record := func(incident string, sec int, o Outcome, change func(*Record)) Record {
		r := Record{Incident: incident, Instance: in.Name, Action: ReattachReplica, Trigger: TriggerAlarm, At: at(sec), Finished: at(sec + 2), Outcome: o, Cause: CausePromoted}
		if change != nil {
			change(&r)
		}
		return asRead(t, r)
	}
	sent := func(predicted, seen Resync) func(*Record) {
		return func(r *Record) {
			r.Commands, r.Expect.Resync, r.Effect = []CommandRecord{{Args: []string{"REPLICAOF", "h", "1"}}}, predicted, map[string]any{"resync": seen}
		}
	}
	for name, c := range map[string]struct {
		incidents []Incident
		records   []Record
		want      func(*Evidence, *ActionRecord)
	}{
		"nothing": {want: func(*Evidence, *ActionRecord) {}},
		"dry run would have acted, and it went away": {
			[]Incident{incident("a", 10, 70, ResolvedByItself), incident("b", 100, 0, "")},
			[]Record{record("a", 10, OutcomePlanned, func(r *Record) { r.DeniedBy = []Guard{GuardMode} }), record("b", 100, OutcomePlanned, nil), record("b", 101, OutcomePlanned, nil)},
			func(e *Evidence, a *ActionRecord) {
				e.Open = 1
				a.Shadow = Shadow{2, map[Resolution]int{ResolvedByItself: 1, StillOpen: 1}, Spread{2, 61, 901, 901, 962}}
				a.Detect = Spread{2, 1, 1, 1, 2}
			},
		},
		"a dry run that was followed by a repair is none": {
			[]Incident{incident("a", 10, 70, ResolvedByUs)},
			[]Record{record("a", 10, OutcomePlanned, nil), record("a", 20, OutcomeSucceeded, sent(ResyncPartial, ResyncPartial))},
			func(_ *Evidence, a *ActionRecord) {
				a.Sent, a.Outcomes[OutcomeSucceeded], a.Resync = 1, 1, Prediction{1, 1}
				a.Detect, a.Repair = Spread{1, 1, 1, 1, 1}, Spread{1, 13, 13, 13, 13}
			},
		},
		"predicted wrongly, came back, by hand": {
			[]Incident{incident("a", 10, 20, CameBack)},
			[]Record{record("a", 10, OutcomeFailed, func(r *Record) { sent(ResyncPartial, ResyncFull)(r); r.Trigger = TriggerManual }),
				record("a", 13, OutcomeSucceeded, func(r *Record) {
					sent("", ResyncFull)(r)
					r.Effect["bypassed"] = []Guard{GuardNoLostWrites}
				})},
			func(_ *Evidence, a *ActionRecord) {
				a.Sent, a.ByHand, a.CameBack, a.Bypassed, a.Resync = 2, 1, 1, 1, Prediction{1, 0}
				a.Outcomes[OutcomeFailed], a.Outcomes[OutcomeSucceeded] = 1, 1
				a.Detect, a.Repair = Spread{1, 1, 1, 1, 1}, Spread{1, 6, 6, 6, 6}
			},
		},
		"refusals, those from before the period left out; what no action cures": {
			[]Incident{incident("a", -10, 20, ResolvedByOther), incident("n", 30, 40, ResolvedUnknown)},
			[]Record{record("a", -10, OutcomeDenied, func(r *Record) { r.DeniedBy = []Guard{GuardStorm} }),
				record("a", 5, OutcomeDenied, func(r *Record) { r.DeniedBy = []Guard{GuardMode, GuardPause, GuardLineage} }),
				record("a", 6, OutcomeDenied, func(r *Record) { r.DeniedBy = []Guard{GuardLineage} }),
				record("n", 30, OutcomeDenied, func(r *Record) { r.Action = "" })},
			func(e *Evidence, a *ActionRecord) {
				e.NoRemedy[CausePromoted] = 1
				a.Refused[GuardPause], a.Refused[GuardLineage] = 1, 2
				a.Detect = Spread{1, 1, 1, 1, 1}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := Evidence{Instance: in.Name, Incidents: len(c.incidents), NoRemedy: map[Cause]int{}}
			for _, a := range in.Actions() {
				want.Actions = append(want.Actions, ActionRecord{Action: a, Mode: DryRun, Outcomes: map[Outcome]int{}, Refused: map[Guard]int{}, Shadow: Shadow{Then: map[Resolution]int{}}})
			}
			c.want(&want, &want.Actions[1])
			got := EvidenceOf(in, map[Action]Mode{ReclaimExpired: DryRun, ReattachReplica: DryRun}, c.incidents, c.records, start, at(1000))
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestASweepWasForetoldWhereItRanToItsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		foretold, keys int64
		stop           string
		want           Prediction
	}{
		"exactly":           {1000, 1000, "done", Prediction{1, 1}},
		"within a tenth":    {1000, 1099, "done", Prediction{1, 1}},
		"too few":           {1000, 899, "done", Prediction{1, 0}},
		"none, and rightly": {0, 0, "done", Prediction{1, 1}},
		"at the target":     {1000, 500, "target", Prediction{}},
	} {
		r := asRead(t, Record{Action: ReclaimExpired, Outcome: OutcomeSucceeded, Commands: []CommandRecord{{Count: 3}}, Expect: Expect{ExpiredKeys: Known(c.foretold)},
			Effect: map[string]any{"keys": c.keys, "stop": c.stop}})
		a := ActionRecord{Outcomes: map[Outcome]int{}, Refused: map[Guard]int{}}
		if a.count(r); a.Keys != c.want {
			t.Errorf("%s: %+v, want %+v", name, a.Keys, c.want)
		}
	}
}

func TestConclusions(t *testing.T) {
	for want, a := range map[string]ActionRecord{
		"no evidence: no fault that it is for":                                                                    {},
		"it was considered and refused each time: live repair would have changed nothing":                         {Refused: map[Guard]int{GuardLineage: 2}},
		"2 of 2 actions helped, none failed or was undone":                                                        {Sent: 2, Outcomes: map[Outcome]int{OutcomeSucceeded: 2}},
		"1 of 2 actions helped, 1 did not, 1 repairs did not last: read them with dcshealer actions list":         {Sent: 2, CameBack: 1, Outcomes: map[Outcome]int{OutcomeSucceeded: 1, OutcomeFailed: 1}},
		"live repair would have acted in 1 incident; 0 went away by themselves, the fault stood for 5s in all":    {Shadow: Shadow{Incidents: 1, Stood: Spread{Total: 5}}},
		"live repair would have acted in 3 incidents; 1 went away by themselves, the fault stood for 1m3s in all": {Shadow: Shadow{Incidents: 3, Then: map[Resolution]int{ResolvedByItself: 1}, Stood: Spread{Total: 62.6}}},
	} {
		if got := a.Conclusion(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
