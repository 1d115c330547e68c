package observer

import (
	"context"
	"errors"
	"time"

	"dcshealer/agent/archive"
	"dcshealer/policies"
)

const (
	archiveBatch  = 2000                   // in one transaction
	archiveLinger = 200 * time.Millisecond // how long a message may wait for others
	archiveRetry  = 100 * time.Millisecond // doubles up to
	archiveSlow   = 5 * time.Second        // this
	archiveEnd    = 3 * time.Second        // for what is not kept yet when the role ends
)

// Store keeps entries, all or none; an *archive.Archive is one.
type Store interface {
	Append(ctx context.Context, entries []archive.Entry) (added []bool, err error)
}

// Acknowledger is a feed that wants to know which messages are dealt with; those that are not it may hand out again, also
// after a crash.
type Acknowledger interface {
	Ack(batch []policies.Message)
}

// Archiver keeps every message of a feed, the malformed ones too, and prints a line for each alarm that is new to the
// archive, once it is kept; then it tells the feed so. While the archive fails, messages wait in the feed's bounded queue.
type Archiver struct {
	feed   Feed
	decode Decoder
	store  Store
	lines  lines
	start  string
}

// NewArchiver wants a feed of ArchiverTopics.
func NewArchiver(o Options, store Store) *Archiver {
	return &Archiver{feed: o.Feed, decode: o.Decode, store: store, lines: newLines(o, "archiver"), start: policies.ArchiverStartLine(o.Prefix)}
}

// Run prints its start line once the feed is ready, and keeps what comes until the feed or the context ends; what
// waits then it still keeps, if that takes no more than 3 s. It returns nil.
func (a *Archiver) Run(ctx context.Context) error {
	if !ready(ctx, a.feed) {
		return nil
	}
	a.lines.print(a.start)
	end, cancel := grace(ctx, archiveEnd)
	defer cancel()
	lost := 0
	for {
		batch := a.feed.Batch(ctx, archiveBatch, archiveLinger)
		if len(batch) == 0 {
			break
		}
		lost += a.keep(end, a.entries(batch))
		// Once something was lost, a batch without a new alarm may be the copy of it that the feed is to hand out again.
		if feed, ok := a.feed.(Acknowledger); ok && lost == 0 {
			feed.Ack(batch)
		}
	}
	if lost > 0 {
		a.lines.log.Error("stopped with messages that the archive has not taken", "count", lost)
	}
	return nil
}

// entries leaves out duplicates and canaries.
func (a *Archiver) entries(batch []policies.Message) []archive.Entry {
	entries := make([]archive.Entry, 0, len(batch))
	for _, m := range batch {
		e := archive.Entry{Received: m.At, Channel: m.Channel, Payload: m.Payload}
		alarm, err := a.decode.Decode(m)
		var bad *policies.MalformedAlarm
		switch {
		case err == nil:
			e.Alarm = alarm
		case errors.As(err, &bad):
			e.Malformed = bad.Kind
		default:
			continue
		}
		entries = append(entries, e)
	}
	return entries
}

// keep tries until the archive has taken the entries or the context has ended, and returns how many are lost then. The
// fault is logged once, and its end.
func (a *Archiver) keep(ctx context.Context, entries []archive.Entry) (lost int) {
	if len(entries) == 0 {
		return 0
	}
	for attempt, wait := 1, archiveRetry; ; attempt, wait = attempt+1, min(2*wait, archiveSlow) {
		added, err := a.store.Append(ctx, entries)
		if err == nil {
			if attempt > 1 {
				a.lines.log.Info("the archive takes alarms again", "attempt", attempt)
			}
			a.print(entries, added)
			return 0
		}
		if attempt == 1 && ctx.Err() == nil {
			a.lines.log.Error("the archive takes no alarms; they wait in memory, trying again", "err", err)
		}
		if !sleep(ctx, wait) {
			return len(entries)
		}
	}
}

func (a *Archiver) print(entries []archive.Entry, added []bool) {
	for i, e := range entries {
		if added[i] && e.Malformed == "" {
			a.lines.print(policies.ArchiverLine(e.Alarm))
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// grace is a context that outlives its parent by d.
func grace(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() { time.AfterFunc(d, cancel) }) // cancelling again does no harm
	return ctx, func() { stop(); cancel() }
}
