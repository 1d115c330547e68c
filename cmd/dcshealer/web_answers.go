package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"dcshealer/agent/archive"
	"dcshealer/agent/observer/web"
	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// answers are what the API shows, in the shapes and from the functions of the commands with -o json.
func (w *webSide) answers() map[string]web.Answer {
	return map[string]web.Answer{
		"status": w.fromJournal(func(ctx context.Context, j *journal.Journal, cfg policies.Config, _ web.Request) (any, error) {
			return statusOfFleet(ctx, j, cfg, time.Now())
		}),
		"incidents": w.fromJournal(answerIncidents),
		"incident":  w.fromJournal(answerIncident),
		"actions":   w.fromJournal(answerActions),
		"action":    w.fromJournal(answerAction),
		"report":    w.fromJournal(answerReport),
		"controls":  w.fromJournal(answerControls),
		"liveList": w.fromJournal(func(ctx context.Context, j *journal.Journal, cfg policies.Config, _ web.Request) (any, error) {
			now := time.Now()
			var grants []policies.LiveGrant
			var err error
			if j != nil {
				grants, err = j.Live(ctx, now)
			}
			return liveRows(cfg, grants, now), err
		}),
		"alarms": w.fromArchive(answerAlarms), "trend": w.fromArchive(answerTrend),
		"why":     w.answerWhy,
		"liveSet": w.setLive, "pause": w.pause, "resume": w.resume, "acknowledge": w.acknowledge, "breakerReset": w.resetBreaker,
	}
}

// fromJournal answers from the journal, which is nil where there is none yet.
func (w *webSide) fromJournal(answer func(context.Context, *journal.Journal, policies.Config, web.Request) (any, error)) web.Answer {
	return func(ctx context.Context, r web.Request) (v any, err error) {
		cfg := w.config()
		j, err := journal.OpenReadOnly(ctx, cfg.StateDir)
		switch {
		case err == nil:
			defer func() { err = errors.Join(err, j.Close()) }()
		case errors.Is(err, journal.ErrNoJournal):
			j = nil
		default:
			return nil, err
		}
		v, err = answer(ctx, j, cfg, r)
		return v, asFault(err)
	}
}

// asFault gives errors of the journal, and what a command would refuse, their status.
func asFault(err error) error {
	var refused exitError
	switch {
	case errors.As(err, &refused) && refused.code == exitDenied:
		return &web.Fault{Status: http.StatusConflict, Err: errors.New(refused.msg)}
	case errors.Is(err, journal.ErrUnknown), errors.Is(err, journal.ErrUnknownIncident):
		return &web.Fault{Status: http.StatusNotFound, Err: err}
	case errors.Is(err, journal.ErrAmbiguous):
		return &web.Fault{Status: http.StatusConflict, Err: err}
	}
	return err
}

// wrongParam is the error of a parameter. The flags of the commands are the parameters here.
func wrongParam(err error) error {
	return &web.Fault{Status: http.StatusBadRequest, Err: errors.New(strings.ReplaceAll(err.Error(), "--", ""))}
}

const maxLimit = 1000

// limitOf reads how many are wanted at most.
func limitOf(q url.Values, usual int) (int, error) {
	text := q.Get("limit")
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxLimit {
		return 0, wrongParam(fmt.Errorf("limit %q: want a number from 1 to %d", policies.Printable(text, 20), maxLimit))
	}
	return n, nil
}

func sinceOf(q url.Values, usual string, now time.Time) (time.Time, error) {
	text := q.Get("since")
	if text == "" {
		text = usual
	}
	from, err := parseSince(text, now)
	if err != nil {
		return from, wrongParam(fmt.Errorf("since %w", err))
	}
	return from, nil
}

func answerIncidents(ctx context.Context, j *journal.Journal, _ policies.Config, r web.Request) (any, error) {
	f := journal.IncidentFilter{Instance: r.Query.Get("instance")}
	var err, err2, err3 error
	f.Since, err = sinceOf(r.Query, "", time.Now())
	f.Limit, err2 = limitOf(r.Query, 50)
	switch open := r.Query.Get("open"); open {
	case "", "false":
	case "true":
		f.Open = true
	default:
		err3 = wrongParam(fmt.Errorf("open %q: want true or false", policies.Printable(open, 20)))
	}
	if err := errors.Join(err, err2, err3); err != nil {
		return nil, err
	}
	if j == nil {
		return []policies.Incident{}, nil
	}
	return j.Incidents(ctx, f)
}

func answerIncident(ctx context.Context, j *journal.Journal, cfg policies.Config, r web.Request) (any, error) {
	if j == nil {
		return nil, fmt.Errorf("show the incident %s: %w", policies.Printable(r.ID, 100), journal.ErrUnknownIncident)
	}
	return incidentReportOf(ctx, j, cfg, r.ID, time.Now())
}

func answerActions(ctx context.Context, j *journal.Journal, _ policies.Config, r web.Request) (any, error) {
	q := r.Query
	from, err := sinceOf(q, "", time.Now())
	limit, err2 := limitOf(q, 50)
	f := journal.Filter{Instance: q.Get("instance"), Action: policies.Action(q.Get("action")), Outcome: policies.Outcome(q.Get("outcome")), Since: from, Limit: limit}
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	if err := checkFilter(f); err != nil {
		return nil, wrongParam(err)
	}
	if j == nil {
		return []policies.Record{}, nil
	}
	return j.List(ctx, f)
}

func answerAction(ctx context.Context, j *journal.Journal, _ policies.Config, r web.Request) (any, error) {
	if j == nil {
		return nil, fmt.Errorf("show the record %s: %w", policies.Printable(r.ID, 100), journal.ErrUnknown)
	}
	record, _, err := j.Show(ctx, r.ID)
	return viewOf(record), err
}

func answerReport(ctx context.Context, j *journal.Journal, cfg policies.Config, r web.Request) (any, error) {
	now := time.Now()
	from, err := sinceOf(r.Query, "30d", now)
	if err != nil {
		return nil, err
	}
	name := r.Query.Get("instance")
	if _, ok := cfg.Instance(name); name != "" && !ok {
		return nil, unknownInstance(cfg, name)
	}
	return reportOf(ctx, j, cfg, name, from, now)
}

func answerControls(ctx context.Context, j *journal.Journal, cfg policies.Config, r web.Request) (any, error) {
	from, err := sinceOf(r.Query, "", time.Now())
	switch {
	case err != nil:
		return nil, err
	case j == nil:
		return []any{}, nil
	case from.IsZero():
		return controlRows(ctx, j, cfg, time.Now())
	}
	return changeRows(ctx, j, from)
}

func unknownInstance(cfg policies.Config, name string) error {
	return &web.Fault{Status: http.StatusNotFound, Err: fmt.Errorf("no instance %q in the config; there are %s", policies.Printable(name, 100), cfg.InstanceNames())}
}

// fromArchive answers from the archive of alarms, which is nil where there is none yet.
func (w *webSide) fromArchive(answer func(context.Context, *archive.Archive, web.Request) (any, error)) web.Answer {
	return func(ctx context.Context, r web.Request) (v any, err error) {
		store, err := archiveOf(ctx, w.config().StateDir)
		if err != nil {
			return nil, err
		}
		if store != nil {
			defer func() { err = errors.Join(err, store.Close()) }()
		}
		return answer(ctx, store, r)
	}
}

func answerAlarms(ctx context.Context, store *archive.Archive, r web.Request) (any, error) {
	q := r.Query
	limit, err := limitOf(q, 100)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	f, err := alarmsListFlags{severity: q.Get("severity"), instance: q.Get("instance"), metric: q.Get("metric"), since: q.Get("since"), limit: limit}.filter(now)
	if err != nil {
		return nil, wrongParam(err)
	}
	if f.Until, err = parseTime(q.Get("until"), now); err != nil {
		return nil, wrongParam(fmt.Errorf("until %w", err))
	}
	if store == nil {
		return []any{}, nil
	}
	list, err := listWith(ctx, store, f, q.Get("text"))
	if err != nil {
		return nil, err
	}
	return wireObjects(list)
}

// listWith is the newest alarms that pass a filter and hold a text, in any case, in what a person reads of them.
func listWith(ctx context.Context, store *archive.Archive, f archive.Filter, text string) ([]archive.Stored, error) {
	limit, found := f.Limit, []archive.Stored{}
	if text == "" {
		return store.List(ctx, f)
	}
	text, f.Limit = strings.ToLower(text), 0
	err := store.Newest(ctx, f, func(s archive.Stored) bool {
		read := strings.Join([]string{s.Alarm.Instance, string(s.Alarm.Metric), s.Alarm.Node, s.Alarm.Slave, s.Alarm.Msg}, "\n")
		if strings.Contains(strings.ToLower(read), text) {
			found = append(found, s)
		}
		return len(found) < limit
	})
	return found, err
}

func answerTrend(ctx context.Context, store *archive.Archive, r web.Request) (any, error) {
	f := trendFlags{by: "severity", bucket: "1m", since: "1h"}
	for name, to := range map[string]*string{"by": &f.by, "bucket": &f.bucket, "since": &f.since} {
		if v := r.Query.Get(name); v != "" {
			*to = v
		}
	}
	q, err := f.query(time.Now().Add(time.Millisecond))
	if err != nil {
		return nil, wrongParam(err)
	}
	if store == nil {
		return []trendPoint{}, nil
	}
	points, err := store.Trend(ctx, q)
	return trendPoints(q, points), err
}

// whyTime bounds a look at one instance for a person.
const whyTime = 20 * time.Second

func (w *webSide) answerWhy(ctx context.Context, r web.Request) (any, error) {
	cfg := w.config()
	if _, ok := cfg.Instance(r.ID); !ok {
		return nil, unknownInstance(cfg, r.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, whyTime)
	defer cancel()
	a := &app{stdout: io.Discard, stderr: io.Discard}
	return a.examine(ctx, cfg, r.ID, time.Now())
}

// archiveOf opens the archive of a state_dir for reading; nil where no archiver has written yet.
func archiveOf(ctx context.Context, stateDir string) (*archive.Archive, error) {
	store, err := archive.OpenReadOnly(ctx, filepath.Join(stateDir, archiveFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return store, err
}
