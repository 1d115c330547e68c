package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"dcshealer/agent/archive"
	"dcshealer/policies"
)

// errNoArchive comes after a note that says where it was looked for.
var errNoArchive = errors.New("there is no alarm archive to read")

// followEvery is how often the archive is looked at.
const followEvery = 500 * time.Millisecond

// followAlarms prints what the filter selects, oldest first, and then what is archived, until the context ends or nobody reads it.
func (a *app) followAlarms(ctx context.Context, store *archive.Archive, f archive.Filter) error {
	after, err := store.Last(ctx) // before the list: what comes in between is in both, and told by its number
	if err != nil {
		return err
	}
	list, err := store.List(ctx, f)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, s := range slices.Backward(list) {
		known[s.Alarm.ID] = true
		if err := a.alarmLine(a.stdout, s); err != nil {
			return err
		}
	}
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for {
		after, err = store.Each(ctx, f, after, func(s archive.Stored) error {
			if s.Alarm.ID != "" && known[s.Alarm.ID] {
				return nil
			}
			return a.alarmLine(a.stdout, s)
		})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		clear(known)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if unread(a.stdout) {
			return nil
		}
	}
}

// alarmLine prints one alarm on one line: for people, or as JSON.
func (a *app) alarmLine(w io.Writer, s archive.Stored) error {
	if a.json() {
		return jsonLine(w, s)
	}
	al := s.Alarm
	_, err := fmt.Fprintf(w, "%s  %-8s  %s  %s  %s  %s\n", clock(s.Received), al.Severity, cell(al.Instance), cell(string(al.Metric)), cell(al.Value.String()),
		policies.Printable(al.Msg, 200))
	return err
}

// jsonLine prints the object of alarms list -o json.
func jsonLine(w io.Writer, s archive.Stored) error {
	object, err := wireObject(s)
	if err != nil {
		return err
	}
	line, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("archived alarm of %s: %w", printable(s.Alarm.Instance), err)
	}
	_, err = w.Write(append(line, '\n'))
	return err
}
