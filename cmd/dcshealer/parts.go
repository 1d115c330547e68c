package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// parts are what runs in a service. Each has a name and ends before the ones that it was built on.
type parts struct {
	log    *slog.Logger
	list   []part
	failed chan error // the first part that ended by itself
}

type part struct {
	name string
	stop func(ctx context.Context) error
}

func newParts(log *slog.Logger) *parts { return &parts{log: log, failed: make(chan error, 1)} }

// start runs a part in a goroutine of its own until stop; the part ends when its context does.
func (p *parts) start(name string, run func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := run(ctx)
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			err = nil
		}
		if ctx.Err() == nil {
			if err == nil {
				err = errors.New("it ended by itself")
			}
			select {
			case p.failed <- fmt.Errorf("%s: %w", name, err):
			default:
			}
			err = nil // told once
		}
		done <- err
	}()
	p.list = append(p.list, part{name: name, stop: func(limit context.Context) error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-limit.Done():
			return errors.New("did not stop in time")
		}
	}})
}

// onStop adds something to be closed at its turn.
func (p *parts) onStop(name string, closer func() error) {
	p.list = append(p.list, part{name: name, stop: func(limit context.Context) error {
		done := make(chan error, 1)
		go func() { done <- closer() }()
		select {
		case err := <-done:
			return err
		case <-limit.Done():
			return errors.New("did not close in time")
		}
	}})
}

// stop ends all in reverse order of their start under one deadline; one that fails does not keep the others.
func (p *parts) stop(within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	var errs []error
	for _, part := range slices.Backward(p.list) {
		if err := part.stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", part.name, err))
		}
	}
	p.list = nil
	return errors.Join(errs...)
}
