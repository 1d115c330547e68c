package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// healerWait covers the instant for which HealerRunning of another process shares the healer's lock.
const healerWait = 250 * time.Millisecond

// Lock takes the instance's action lock without waiting: nobody else, in this process or another, acts on the instance until
// unlock. ErrLocked names the process that has it. Unlock more than once does nothing.
func (j *Journal) Lock(ctx context.Context, instance string) (unlock func(), err error) {
	path, err := j.lockPath(instance, ".lock")
	if err != nil {
		return nil, err
	}
	f, err := lockFile(ctx, path, 0)
	if errors.Is(err, errHeld) {
		return nil, fmt.Errorf("act on %s: %w by %s: wait until it is done", instance, ErrLocked, holder(path))
	}
	if err == nil {
		err = sign(f)
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, fmt.Errorf("take the action lock of %s: %w", instance, err)
	}
	j.setHeld(instance, true)
	return sync.OnceFunc(func() {
		j.setHeld(instance, false)
		f.Close()
	}), nil
}

// LockHand takes the instance for one command given by hand, from its first look to its last word: a second one would judge by what the first
// is about to change. The healer and the action lock know nothing of it. ErrByHand names the process that has it.
func (j *Journal) LockHand(ctx context.Context, instance string) (unlock func(), err error) {
	path, err := j.lockPath(instance, ".hand")
	if err != nil {
		return nil, err
	}
	f, err := lockFile(ctx, path, 0)
	if errors.Is(err, errHeld) {
		return nil, fmt.Errorf("%w: %s: wait until it is done", ErrByHand, holder(path))
	}
	if err == nil {
		err = sign(f)
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, fmt.Errorf("take %s for a command by hand: %w", instance, err)
	}
	return sync.OnceFunc(func() { f.Close() }), nil
}

// lockPath is a lock file of an instance. The config rules keep names plain; this keeps every other one in the folder too.
func (j *Journal) lockPath(instance, kind string) (string, error) {
	if instance == "" || len(instance) > 200 || strings.HasPrefix(instance, ".") || strings.ContainsAny(instance, "/\\\x00") {
		return "", fmt.Errorf("take the action lock of %q: no plain instance name", instance)
	}
	return filepath.Join(j.dir, "locks", instance+kind), nil
}

func (j *Journal) setHeld(instance string, held bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if held {
		j.held[instance] = true
	} else {
		delete(j.held, instance)
	}
}

func (j *Journal) holds(instance string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.held[instance]
}

// LockHealer makes this process the one healer of the state_dir until unlock. ErrHealerRunning names the one that is.
func (j *Journal) LockHealer(ctx context.Context) (unlock func(), err error) {
	path := filepath.Join(j.dir, healerLock)
	f, err := lockFile(ctx, path, healerWait)
	if errors.Is(err, errHeld) {
		return nil, fmt.Errorf("%w on %s: %s: stop it, or give this one another state_dir", ErrHealerRunning, j.dir, holder(path))
	}
	if err == nil {
		err = sign(f)
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, fmt.Errorf("take the healer's lock in %s: %w", j.dir, err)
	}
	return sync.OnceFunc(func() { f.Close() }), nil
}

const healerLock = "healer.lock"

// HealerRunning reports whether a process has the healer's lock of stateDir now. False when that cannot be told.
func HealerRunning(stateDir string) bool {
	f, err := os.Open(filepath.Join(stateDir, healerLock))
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(flock(context.Background(), f, unix.LOCK_SH, 0), errHeld)
}
