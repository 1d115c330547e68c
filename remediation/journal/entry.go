package journal

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"dcshealer/policies"
)

// Kind says what an entry adds.
type Kind string

// The kinds of entries.
const (
	KindIntent      Kind = "intent"      // a decision, before its first command
	KindCommand     Kind = "command"     // a command that was sent
	KindResult      Kind = "result"      // what came of it
	KindNote        Kind = "note"        // an observation made later
	KindInterrupted Kind = "interrupted" // its process ended before there was a result
	KindControl     Kind = "control"     // a person changed what may run, or that came to its end; belongs to no record
	KindCheckpoint  Kind = "checkpoint"  // retention dropped the entries before it, up to one; belongs to no record
	KindIncident    Kind = "incident"    // an incident was opened, taken by a person or closed; belongs to no record
)

// Entry is one line of the journal. It never changes.
type Entry struct {
	Seq    int64           `json:"seq"`    // 1, 2, 3, ... over the whole journal
	Record string          `json:"record"` // the record's id; of an incident entry the incident's; empty for controls
	Kind   Kind            `json:"kind"`
	At     string          `json:"at"`   // RFC 3339 in UTC, always with nine decimals: it sorts as text
	Body   json.RawMessage `json:"body"` // as it was written, byte by byte
	Prev   string          `json:"prev"` // hash of the entry before it in the whole journal; 64 zeros for the first
	Hash   string          `json:"hash"` // SHA-256 over all of the above
}

// genesis is what the first entry has in place of a previous hash.
var genesis = strings.Repeat("0", 64)

// sum is the entry's hash, recomputed. Each field goes in with its length before it, so that no text can move from one
// field to the next without changing the sum.
func (e Entry) sum() string {
	h := sha256.New()
	for _, field := range []string{"dcshealer journal 1", strconv.FormatInt(e.Seq, 10), e.Record, string(e.Kind), e.At, string(e.Body), e.Prev} {
		fmt.Fprintf(h, "%d:%s,", len(field), field)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Result closes a record.
type Result struct {
	Outcome  policies.Outcome `json:"outcome"`
	Finished time.Time        `json:"finished"` // zero: now
	After    map[string]any   `json:"after,omitempty"`
	Effect   map[string]any   `json:"effect,omitempty"`
	Error    string           `json:"error,omitempty"`
	// Commands that were not written by Command yet, such as the sum of a sweep; they come after those in the record.
	Commands []policies.CommandRecord `json:"commands,omitempty"`
	Guards   []policies.Ruling        `json:"guards,omitempty"`    // nil: those of the intent stand
	DeniedBy []policies.Guard         `json:"denied_by,omitempty"` // nil: as the intent says
}

// ended is the body of an interrupted entry.
type ended struct {
	Finished time.Time         `json:"finished"` // when it was noticed
	By       policies.Operator `json:"by"`       // who noticed
}

const stampLayout = "2006-01-02T15:04:05.000000000Z"

// stamp writes a time as entries carry it; "" for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(stampLayout)
}

func unstamp(s string) time.Time {
	t, err := time.Parse(stampLayout, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// appendEntry adds one entry after the newest. The transaction holds the write lock from its start (BEGIN IMMEDIATE),
// so that two processes never give out the same place.
func appendEntry(ctx context.Context, tx *sql.Tx, record string, kind Kind, at time.Time, body any) (Entry, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return Entry{}, fmt.Errorf("%s entry: %w", kind, err)
	}
	e := Entry{Record: record, Kind: kind, At: stamp(at), Body: text}
	if err := tx.QueryRowContext(ctx, "SELECT seq + 1, hash FROM head").Scan(&e.Seq, &e.Prev); errors.Is(err, sql.ErrNoRows) {
		return Entry{}, fmt.Errorf("%w: the note of its newest entry is gone; run: dcshealer actions verify", ErrDamaged)
	} else if err != nil {
		return Entry{}, err
	}
	e.Hash = e.sum()
	if _, err := tx.ExecContext(ctx, "INSERT INTO entries (seq, record, kind, at, body, prev, hash) VALUES (?, ?, ?, ?, ?, ?, ?)",
		e.Seq, e.Record, string(e.Kind), e.At, string(e.Body), e.Prev, e.Hash); err != nil {
		return Entry{}, err
	}
	_, err = tx.ExecContext(ctx, "UPDATE head SET seq = ?, hash = ?", e.Seq, e.Hash)
	return e, err
}

const entryColumns = "seq, record, kind, at, body, prev, hash"

func scanEntry(rows *sql.Rows) (e Entry, err error) {
	var body string
	err = rows.Scan(&e.Seq, &e.Record, &e.Kind, &e.At, &body, &e.Prev, &e.Hash)
	e.Body = json.RawMessage(body)
	return e, err
}
