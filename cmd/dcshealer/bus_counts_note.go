package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dcshealer/agent/observer/metrics"
)

const (
	countsPrefix = "counts-" // and the roles of the process: the next run of the same roles writes over what a crash left
	countsTick   = time.Second
	countsAgain  = 10 * time.Second // without a change too: a process that is gone counts no longer
	countsFresh  = 30 * time.Second
)

// countsNote is a file of a state_dir.
type countsNote struct {
	At     time.Time `json:"at"`
	Counts busCounts `json:"counts"`
}

func countsFile(stateDir string, roles []string) string {
	return filepath.Join(stateDir, countsPrefix+strings.Join(slices.Compact(slices.Sorted(slices.Values(roles))), "+")+".json")
}

// noteCounts writes what this process counts on the bus into the state_dir, for who asks in another process, until ctx ends.
func (s *service) noteCounts(ctx context.Context) error {
	file := countsFile(s.stateDir, s.flags.roles)
	var last countsNote
	var failing bool
	tick := time.NewTicker(countsTick)
	defer tick.Stop()
	for now := time.Now(); ; {
		note := countsNote{At: now.UTC(), Counts: countsOf(s.busFacts())}
		if since := now.Sub(last.At); since >= countsAgain || since < 0 || note.Counts.String() != last.Counts.String() {
			err := writeCounts(file, note)
			if err != nil && !failing {
				s.log.Warn("what is counted on the bus is not shown in status", "err", err)
			}
			if failing = err != nil; !failing {
				last = note
			}
		}
		select {
		case <-ctx.Done():
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return ctx.Err()
		case now = <-tick.C:
		}
	}
}

func writeCounts(file string, note countsNote) error {
	data, err := json.Marshal(note)
	if err == nil {
		err = writeWhole(file, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w; see the room on the disk and the rights of state_dir", file, err)
	}
	return nil
}

// readCounts adds up what the processes that run on a state_dir count on the bus; nil where none does. Files that are no such note are
// left out: they are only shown, and the process writes them anew.
func readCounts(stateDir string, now time.Time) (*busCounts, error) {
	files, err := filepath.Glob(filepath.Join(globQuote(stateDir), countsPrefix+"*.json"))
	if err != nil {
		return nil, fmt.Errorf("look for what is counted on the bus in %s: %w", stateDir, err)
	}
	var sum *busCounts
	for _, file := range files {
		data, err := os.ReadFile(file)
		var note countsNote
		if err != nil || json.Unmarshal(data, &note) != nil || now.Sub(note.At).Abs() > countsFresh {
			continue
		}
		if sum == nil {
			none := countsOf(metrics.Bus{})
			sum = &none
		}
		*sum = sum.plus(note.Counts)
	}
	return sum, nil
}
