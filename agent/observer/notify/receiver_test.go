package notify

import (
	"context"
	"log/slog"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"dcshealer/policies"
)

type senderFunc func(Notice) error

func (f senderFunc) Send(_ context.Context, n Notice) error { return f(n) }

func TestNoticesAskedForAgainAreAGapApart(t *testing.T) {
	o := openOutbox(t, filepath.Join(t.TempDir(), FileName))
	ids, sent := 0, 0
	fault := error(&SendError{Err: context.DeadlineExceeded, Permanent: true})
	r := &Receiver{Name: "oncall", Outbox: o, Pace: Pace{Gap: time.Hour, GiveUp: time.Hour}, Log: slog.New(slog.DiscardHandler),
		NewID: func() string { ids++; return strconv.Itoa(ids) },
		Sender: senderFunc(func(Notice) error {
			if fault == nil {
				sent++
			}
			return fault
		})}
	step := func(now time.Time) {
		t.Helper()
		if _, err := r.step(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		tellAlarms(t, o, alarm("dcs-"+strconv.Itoa(i), policies.Firing))
		step(time.Now())
	}
	fault = nil
	if n, err := o.Revive(t.Context(), "", time.Now()); n != 3 || err != nil {
		t.Fatalf("revived %d, %v; want 3", n, err)
	}
	for range 3 {
		step(time.Now())
	}
	if sent != 1 {
		t.Errorf("%d notices at once; want 1, and the next after the gap", sent)
	}
	if step(time.Now().Add(time.Hour)); sent != 2 {
		t.Errorf("%d notices after the gap; want 2", sent)
	}
}
