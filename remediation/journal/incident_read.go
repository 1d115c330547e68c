package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"dcshealer/policies"
)

// IncidentEvent is one thing that the journal holds about an incident itself, for a person.
type IncidentEvent struct {
	Seq      int64             `json:"seq"`
	At       time.Time         `json:"at"`
	Event    string            `json:"event"` // opened, changed, acknowledged or closed
	Text     string            `json:"text"`
	Operator policies.Operator `json:"operator"`
}

// IncidentFile is all that the journal holds about one incident.
type IncidentFile struct {
	Incident policies.Incident
	Events   []IncidentEvent
	Records  []policies.Record // the decisions and actions of it, oldest first
	Controls []Control         // what persons changed for its instance, or for all, while it was open
}

// Incident returns what is known of one incident, by its id or a prefix that only it has, in any case. ErrUnknownIncident or
// ErrAmbiguous otherwise.
func (j *Journal) Incident(ctx context.Context, id string) (f IncidentFile, err error) {
	err = j.view(ctx, "show the incident "+id, func(tx *sql.Tx) error {
		full, err := fullIncidentID(ctx, tx, id)
		if err != nil {
			return err
		}
		w, err := incidentOf(ctx, tx, full)
		if err != nil {
			return err
		}
		f.Incident = w.Incident
		entries, err := entriesOf(ctx, tx, full)
		if err != nil {
			return err
		}
		if f.Events, err = eventsOf(entries); err != nil {
			return err
		}
		if f.Records, err = recordsOfIncident(ctx, tx, full); err != nil {
			return err
		}
		f.Controls, err = controlsIn(ctx, tx, f.Incident.Instance, f.Incident.Began(), f.Incident.Closed)
		return err
	})
	return f, err
}

// recordsOfIncident finds the records by the index on the intents' incident, which its expression has to repeat.
func recordsOfIncident(ctx context.Context, tx *sql.Tx, id string) (out []policies.Record, err error) {
	ids, err := query(ctx, tx, func(rows *sql.Rows) (id string, err error) { return id, rows.Scan(&id) },
		`SELECT record FROM entries WHERE kind = 'intent' AND CASE WHEN json_valid(body) THEN json_extract(body, '$.incident') END = ? ORDER BY seq`, id)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		entries, err := entriesOf(ctx, tx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, join(entries))
	}
	return out, nil
}

func eventsOf(entries []Entry) (out []IncidentEvent, err error) {
	for _, e := range entries {
		var b incidentEvent
		if err := json.Unmarshal(e.Body, &b); err != nil {
			return nil, fmt.Errorf("journal entry %d (%s) cannot be read: %w; run: dcshealer actions verify", e.Seq, e.Kind, err)
		}
		out = append(out, IncidentEvent{Seq: e.Seq, At: unstamp(e.At), Event: b.Event, Text: b.words(), Operator: b.Operator})
	}
	return out, nil
}

// words is what the event adds.
func (b incidentEvent) words() string {
	switch {
	case b.Opened != nil:
		return b.Opened.Msg
	case b.Ack != nil && b.Ack.Note != "":
		return "by " + b.Ack.By + ": " + b.Ack.Note
	case b.Ack != nil:
		return "by " + b.Ack.By
	case b.Closing != nil:
		return b.Closing.Text
	}
	return b.Text
}

// fullIncidentID finds the one id that prefix begins, or that it is.
func fullIncidentID(ctx context.Context, tx *sql.Tx, prefix string) (string, error) {
	return onlyID(ctx, tx, prefix, "incidents", ErrUnknownIncident, "dcshealer incidents list")
}

// incident checks one incident entry against those before it. Empty: it is well.
func (a *audit) incident(e Entry) string {
	w, known := a.incidents[e.Record]
	w, err := w.after(e)
	if err == nil && !known && a.partial && w.Seq != e.Seq {
		return "" // opened before the export begins
	}
	if err != nil {
		return "its body cannot be read: " + err.Error()
	}
	if known == (w.Seq == e.Seq) {
		return "an incident is opened exactly once, by its first entry"
	}
	a.incidents[e.Record] = w
	return ""
}

// compareIncidents compares the list of incidents with what the entries say.
func (a *audit) compareIncidents(ctx context.Context, tx *sql.Tx) error {
	if has, err := hasTable(ctx, tx, "incidents"); err != nil || !has {
		return err // a file of an older format, which has no entries of them either
	}
	rows, err := query(ctx, tx, scanIncident, "SELECT seq, body FROM incidents")
	if err != nil {
		return err
	}
	listed := map[string]incidentRow{}
	for _, w := range rows {
		listed[w.Incident.ID] = w
	}
	for _, id := range slices.Sorted(maps.Keys(listed)) {
		if _, ok := a.incidents[id]; !ok {
			a.bad = &BadEntry{Seq: listed[id].Seq, Record: id, Why: "the list shows an incident that has no entries"}
			return nil
		}
	}
	for _, id := range slices.Sorted(maps.Keys(a.incidents)) {
		want, got := a.incidents[id], listed[id]
		was, _ := json.Marshal(want.Incident)
		is, _ := json.Marshal(got.Incident)
		if want.Seq != got.Seq || string(was) != string(is) {
			a.bad = &BadEntry{Seq: want.Seq, Record: id, Why: "the list of incidents says otherwise than the entries, which are whole: " + strings.TrimSpace(string(is))}
			return nil
		}
	}
	return nil
}
