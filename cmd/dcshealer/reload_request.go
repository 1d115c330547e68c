package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dcshealer/policies"
)

// A request to reload is an empty file in the state_dir, reload-ID.request; the answer of a process is reload-ID.PID.answer beside it. So
// it waits for a process that is busy, needs no signal and no right to send one, and can reach no other process by a stale pid.
const (
	requestPrefix = "reload-"
	requestSuffix = ".request"
	answerSuffix  = ".answer"
	requestTick   = 250 * time.Millisecond
	answerWithin  = 30 * time.Second
	requestKept   = 10 * time.Minute // then it is a leftover of a command that was killed
)

// answeredFault keeps what FieldError's JSON leaves out, so that it prints the same at the other end.
type answeredFault struct {
	policies.FieldError
	Plain bool `json:"plain"` // FieldError.Bare
}

// reloadAnswer is a reloadReport on its way.
type reloadAnswer struct {
	reloadReport
	Faults []answeredFault `json:"faults"`
}

// answerRequests takes up each request that this process has not answered yet.
func (s *service) answerRequests(ctx context.Context) {
	names, err := os.ReadDir(s.cfg.StateDir)
	if err != nil {
		return // a state_dir that is gone shows elsewhere
	}
	for _, entry := range names {
		id, ok := requestID(entry.Name())
		if !ok || s.answered[id] {
			continue
		}
		if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > requestKept {
			_ = os.Remove(filepath.Join(s.cfg.StateDir, entry.Name()))
			continue
		}
		s.answered[id] = true
		s.log.Info("config is read again", "reason", "config reload")
		if err := writeAnswer(s.cfg.StateDir, id, s.reload(ctx)); err != nil {
			s.log.Error("the answer to config reload could not be written", "err", err)
		}
	}
}

func requestID(name string) (id string, ok bool) {
	id, ok = strings.CutPrefix(name, requestPrefix)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(id, requestSuffix)
}

func answerPath(stateDir, id string, pid int) string {
	return filepath.Join(stateDir, fmt.Sprintf("%s%s.%d%s", requestPrefix, id, pid, answerSuffix))
}

// writeAnswer shows the answer in one step, as a whole.
func writeAnswer(stateDir, id string, r reloadReport) error {
	a := reloadAnswer{reloadReport: r}
	for _, f := range r.Errors {
		a.Faults = append(a.Faults, answeredFault{f, f.Bare})
	}
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return writeWhole(answerPath(stateDir, id, r.PID), data)
}

// askReload has the process reload its config file, and waits for its answer.
func askReload(ctx context.Context, stateDir string, pid int) (reloadReport, error) {
	id := newID()
	request := filepath.Join(stateDir, requestPrefix+id+requestSuffix)
	if err := os.WriteFile(request, nil, 0o600); err != nil {
		return reloadReport{}, fmt.Errorf("ask for a reload: %w; run this as the user that runs dcshealer", err)
	}
	defer func() {
		_ = os.Remove(request)
		_ = os.Remove(answerPath(stateDir, id, pid))
	}()
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := readAnswer(answerPath(stateDir, id, pid))
		if !errors.Is(err, fs.ErrNotExist) {
			return r, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return r, fmt.Errorf("ask for a reload: no answer within %s of the dcshealer with pid %d, which %s names: it hangs, or ended without a word; the request is withdrawn",
				answerWithin, pid, filepath.Join(stateDir, runInfoFile))
		}
	}
}

func readAnswer(path string) (reloadReport, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return reloadReport{}, fmt.Errorf("read the answer: %w", err)
	}
	var a reloadAnswer
	if err := json.Unmarshal(data, &a); err != nil {
		return reloadReport{}, fmt.Errorf("read the answer %s: %w", path, err)
	}
	for i, f := range a.Faults {
		a.Errors[i].Bare = f.Plain
	}
	return a.reloadReport, nil
}
