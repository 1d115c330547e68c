package journal

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

// storeTimeout bounds each read and write of a breaker's state: gobreaker passes no context.
const storeTimeout = 5 * time.Second

// BreakerStore keeps breakers' states in the journal's file, so that they survive a restart and are one for all processes.
//
// gobreaker holds the store's lock while the guarded function runs, gives up waiting for it after about 5 s, and reads the
// state before it takes the lock. So Execute a breaker only to report an outcome, never around the action itself, and
// take Hold around it where two can report at once.
type BreakerStore struct {
	j *Journal

	mu   sync.Mutex
	held map[string]*os.File // by lock name
}

var _ gobreaker.SharedDataStore = (*BreakerStore)(nil)

// BreakerStore is the store for this journal's breakers. Any number may exist, in any number of processes.
func (j *Journal) BreakerStore() *BreakerStore {
	return &BreakerStore{j: j, held: map[string]*os.File{}}
}

// Lock takes the named lock without waiting (gobreaker tries again every 500 ms, for 5 s); ErrLocked when another goroutine
// or process has it. It is freed with the process.
func (s *BreakerStore) Lock(name string) error {
	f, err := s.lockFile(context.Background(), name, 0)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[name] = f
	return nil
}

// Unlock frees the named lock; an error when this store does not hold it.
func (s *BreakerStore) Unlock(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.held[name]
	if f == nil {
		return fmt.Errorf("unlock the breaker %s: %w", name, ErrNotLocked)
	}
	delete(s.held, name)
	return f.Close()
}

// Hold keeps all others from the named breaker's state until release, over a read and the write that follows from it.
// It waits as long as ctx lets it, at most 5 s; ErrLocked after that.
func (s *BreakerStore) Hold(ctx context.Context, name string) (release func(), err error) {
	f, err := s.lockFile(ctx, "hold:"+name, storeTimeout)
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { f.Close() }), nil
}

func (s *BreakerStore) lockFile(ctx context.Context, name string, wait time.Duration) (*os.File, error) {
	// Names hold colons and slashes: their hash is always a file name, and never that of an instance's lock (those end in .lock).
	sum := sha256.Sum256([]byte(name))
	f, err := lockFile(ctx, filepath.Join(s.j.dir, "locks", "breaker-"+hex.EncodeToString(sum[:8])), wait)
	if errors.Is(err, errHeld) {
		err = ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("lock the breaker %s: %w", name, err)
	}
	return f, nil
}

// NewBreaker is gobreaker's constructor for this store. That one panics when the store fails while it holds its lock (v2.4);
// here this is an error, and the lock is free again.
func NewBreaker[T any](s *BreakerStore, settings gobreaker.Settings) (b *gobreaker.DistributedCircuitBreaker[T], err error) {
	if _, err := s.GetData("gobreaker:state:" + settings.Name); err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			b, err = nil, fmt.Errorf("make the breaker %s: its stored state cannot be read or written: %v", settings.Name, p)
			s.Unlock("gobreaker:mutex:" + settings.Name) //nolint:errcheck // held or not, it is free now
		}
	}()
	return gobreaker.NewDistributedCircuitBreaker[T](s, settings)
}

// unreadable goes with an error in place of data: gobreaker takes an answer without data for a new breaker, whatever the
// error, and would replace an open breaker by a closed one when the disk fails for a moment.
var unreadable = []byte("unreadable")

// GetData reads a breaker's state; nil for one that was never saved.
func (s *BreakerStore) GetData(name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	var found [][]byte
	err := s.j.view(ctx, "read the breaker "+name, func(tx *sql.Tx) (err error) {
		found, err = query(ctx, tx, func(rows *sql.Rows) (b []byte, err error) { return b, rows.Scan(&b) },
			"SELECT data FROM breakers WHERE name = ?", name)
		return err
	})
	if err != nil {
		return unreadable, err
	}
	if len(found) == 0 {
		return nil, nil
	}
	return found[0], nil
}

// SetData saves a breaker's state; it is on disk when this returns.
func (s *BreakerStore) SetData(name string, data []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	return s.j.commit(ctx, s.j.write, "save the breaker "+name, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO breakers (name, data) VALUES (?, ?)", name, data)
		return err
	})
}
