package policies

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Evidence is what the journal says of one instance over a time: what live repair would have done or did, for those who decide about
// enabling it.
type Evidence struct {
	Instance  string         `json:"instance"`
	Incidents int            `json:"incidents"` // that were open at some time of the period
	Open      int            `json:"open"`      // of them, still
	NoRemedy  map[Cause]int  `json:"no_remedy"` // incidents that no action cures, by cause
	Actions   []ActionRecord `json:"actions"`   // one an action that the instance has, in the order of Actions
}

// ActionRecord is the track record of one action on one instance.
type ActionRecord struct {
	Action   Action          `json:"action"`
	Mode     Mode            `json:"mode"`     // now
	Shadow   Shadow          `json:"dry_run"`  // what it would have done
	Sent     int             `json:"sent"`     // actions that sent a command
	ByHand   int             `json:"by_hand"`  // of them, by a person
	Outcomes map[Outcome]int `json:"outcomes"` // of those sent
	CameBack int             `json:"came_back"`
	Bypassed int             `json:"bypassed"` // in which a person let a guard's denial pass
	Resync   Prediction      `json:"resync"`   // reattach-replica: partial or full, as the master counted it
	Keys     Prediction      `json:"keys"`     // reclaim-expired: right is within a tenth
	Refused  map[Guard]int   `json:"refused"`  // decisions against it, by each guard that denied; mode is left out: that is dry_run
	Detect   Spread          `json:"detect"`   // from the first that is known of the fault to the confirmed diagnosis
	Repair   Spread          `json:"repair"`   // from there to the end of the action that succeeded
}

// Shadow is what dry run stopped, and nothing else did.
type Shadow struct {
	Incidents int                `json:"incidents"`
	Then      map[Resolution]int `json:"then"`  // what became of them; open under StillOpen
	Stood     Spread             `json:"stood"` // how long the fault was there
}

// StillOpen stands among resolutions for an incident that has not ended.
const StillOpen Resolution = "open"

// Prediction compares what plans foretold with what came.
type Prediction struct {
	Made  int `json:"made"` // predictions whose result is known
	Right int `json:"right"`
}

// Spread sums up some durations, in seconds.
type Spread struct {
	N       int     `json:"n"`
	Median  float64 `json:"median"`
	P95     float64 `json:"p95"`
	Longest float64 `json:"longest"`
	Total   float64 `json:"total"`
}

// SpreadOf sums up durations; quantiles are by nearest rank, so that each is a value that was there.
func SpreadOf(all []time.Duration) (s Spread) {
	if len(all) == 0 {
		return s
	}
	sorted := slices.Sorted(slices.Values(all))
	rank := func(percent int) float64 { return sorted[max(0, (len(sorted)*percent+99)/100-1)].Seconds() }
	s = Spread{N: len(sorted), Median: rank(50), P95: rank(95), Longest: sorted[len(sorted)-1].Seconds()}
	for _, d := range sorted {
		s.Total += d.Seconds()
	}
	return s
}

// EvidenceOf reads the track record of an instance. incidents are its own that were open at since or later, records its own of them and of
// the period; modes are those of now.
func EvidenceOf(in Instance, modes map[Action]Mode, incidents []Incident, records []Record, since, now time.Time) Evidence {
	e := Evidence{Instance: in.Name, Incidents: len(incidents), NoRemedy: map[Cause]int{}, Actions: []ActionRecord{}}
	for _, i := range incidents {
		if i.Open() {
			e.Open++
		}
	}
	of := map[string][]Record{} // by incident, oldest first
	for _, r := range slices.SortedStableFunc(slices.Values(records), func(a, b Record) int { return cmp.Compare(a.At.UnixNano(), b.At.UnixNano()) }) {
		of[r.Incident] = append(of[r.Incident], r)
	}
	for _, i := range incidents {
		if rs := of[i.ID]; len(rs) > 0 && !slices.ContainsFunc(rs, func(r Record) bool { return r.Action != "" }) {
			e.NoRemedy[i.Cause]++
		}
	}
	for _, a := range in.Actions() {
		e.Actions = append(e.Actions, trackRecord(a, modes[a], incidents, of, since, now))
	}
	return e
}

func trackRecord(a Action, mode Mode, incidents []Incident, of map[string][]Record, since, now time.Time) ActionRecord {
	t := ActionRecord{Action: a, Mode: mode, Outcomes: map[Outcome]int{}, Refused: map[Guard]int{}, Shadow: Shadow{Then: map[Resolution]int{}}}
	for _, rs := range of {
		for _, r := range rs {
			if r.Action == a && !r.At.Before(since) {
				t.count(r)
			}
		}
	}
	var detect, repair, stood []time.Duration
	for _, i := range incidents {
		mine := slices.DeleteFunc(slices.Clone(of[i.ID]), func(r Record) bool { return r.Action != a })
		if len(mine) == 0 {
			continue
		}
		detect = append(detect, max(0, i.Detected()))
		if d, ok := repairedAfter(i, mine); ok {
			repair = append(repair, d)
		}
		if t.Shadow.count(i, mine) {
			stood = append(stood, max(0, i.Lasted(now)))
		}
		if i.Resolution == CameBack {
			t.CameBack++
		}
	}
	t.Detect, t.Repair, t.Shadow.Stood = SpreadOf(detect), SpreadOf(repair), SpreadOf(stood)
	return t
}

// count adds one record to the track record.
func (t *ActionRecord) count(r Record) {
	for _, g := range r.DeniedBy {
		if g != GuardMode {
			t.Refused[g]++
		}
	}
	if len(r.Commands) == 0 {
		return
	}
	t.Sent++
	t.Outcomes[r.Outcome]++
	if r.Trigger == TriggerManual {
		t.ByHand++
	}
	if by, ok := r.Effect["bypassed"].([]any); ok && len(by) > 0 {
		t.Bypassed++
	}
	if seen := fmt.Sprint(r.Effect["resync"]); r.Expect.Resync != "" && (seen == string(ResyncFull) || seen == string(ResyncPartial)) {
		t.Resync.add(seen == string(r.Expect.Resync))
	}
	// A sweep that stops at its target leaves keys that it did foretell.
	if keys, ok := r.Effect["keys"].(float64); ok && r.Action == ReclaimExpired && r.Expect.ExpiredKeys.Known && r.Effect["stop"] == "done" {
		want := float64(r.Expect.ExpiredKeys.V)
		t.Keys.add(keys >= want*0.9 && keys <= want*1.1)
	}
}

func (p *Prediction) add(right bool) {
	p.Made++
	if right {
		p.Right++
	}
}

// count adds an incident in which nothing but the mode denied, and nothing of this action was sent; false: it was none.
func (s *Shadow) count(i Incident, mine []Record) bool {
	would, sent := false, false
	for _, r := range mine {
		would = would || r.Outcome == OutcomePlanned
		sent = sent || len(r.Commands) > 0
	}
	if !would || sent {
		return false
	}
	s.Incidents++
	how := i.Resolution
	if i.Open() {
		how = StillOpen
	}
	s.Then[how]++
	return true
}

// repairedAfter is how long it took from the first that is known of the fault to the end of the first action that succeeded.
func repairedAfter(i Incident, mine []Record) (time.Duration, bool) {
	for _, r := range mine {
		if r.Outcome == OutcomeSucceeded && !r.Finished.IsZero() {
			return max(0, r.Finished.Sub(i.Began())), true
		}
	}
	return 0, false
}

// Conclusion says in a sentence what the record means for the one who decides about live repair.
func (t ActionRecord) Conclusion() string {
	bad := t.Outcomes[OutcomeFailed] + t.Outcomes[OutcomeIneffective] + t.Outcomes[OutcomeInterrupted]
	switch n := t.Shadow.Incidents; {
	case t.Sent > 0 && bad == 0 && t.CameBack == 0:
		return fmt.Sprintf("%d of %d actions helped, none failed or was undone", t.Outcomes[OutcomeSucceeded], t.Sent)
	case t.Sent > 0:
		return fmt.Sprintf("%d of %d actions helped, %d did not, %d repairs did not last: read them with dcshealer actions list", t.Outcomes[OutcomeSucceeded], t.Sent, bad, t.CameBack)
	case n > 0:
		alone, noun := t.Shadow.Then[ResolvedByItself], "incidents"
		if n == 1 {
			noun = "incident"
		}
		return fmt.Sprintf("live repair would have acted in %d %s; %d went away by themselves, the fault stood for %s in all", n, noun, alone, time.Duration(t.Shadow.Stood.Total*float64(time.Second)).Round(time.Second))
	case len(t.Refused) > 0:
		return "it was considered and refused each time: live repair would have changed nothing"
	}
	return "no evidence: no fault that it is for"
}
