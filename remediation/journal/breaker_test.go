package journal

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"
)

var errAction = errors.New("the action failed")

func breaker(t *testing.T, s *BreakerStore) *gobreaker.DistributedCircuitBreaker[any] {
	t.Helper()
	b, err := NewBreaker[any](s, gobreaker.Settings{Name: "dcs-1/reattach-replica", Timeout: time.Hour,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 3 }})
	must(t, err)
	return b
}

func failed() (any, error) { return nil, errAction }

func TestBreakerSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	for range 2 {
		breaker(t, j.BreakerStore()).Execute(failed)
	}
	must(t, j.Close())
	b := breaker(t, open(t, dir).BreakerStore())
	if s, err := b.State(); err != nil || s != gobreaker.StateClosed {
		t.Fatalf("after two failures: %v, error %v", s, err)
	}
	if _, err := b.Execute(failed); !errors.Is(err, errAction) {
		t.Fatalf("third: %v", err)
	}
	if _, err := breaker(t, open(t, dir).BreakerStore()).Execute(failed); !errors.Is(err, gobreaker.ErrOpenState) {
		t.Errorf("fourth: %v, want it open: the two failures before the restart count", err)
	}
}

// gobreaker takes an error without data for a breaker that was never saved and would close an open one.
func TestUnreadableStoreNeverResetsABreaker(t *testing.T) {
	dir := t.TempDir()
	b := breaker(t, open(t, dir).BreakerStore())
	for range 3 {
		b.Execute(failed)
	}
	broken := open(t, dir)
	must(t, broken.read.Close())
	if _, err := NewBreaker[any](broken.BreakerStore(), gobreaker.Settings{Name: b.Name()}); err == nil {
		t.Error("a breaker was made from a store that cannot be read")
	}
	garbled := open(t, dir).BreakerStore()
	must(t, garbled.SetData("gobreaker:state:other", []byte("{")))
	for range 2 { // the second try meets no lock that the first one left
		_, err := NewBreaker[any](garbled, gobreaker.Settings{Name: "other"})
		wantErr(t, err, nil, "make the breaker other")
	}
	if s, err := b.State(); err != nil || s != gobreaker.StateOpen {
		t.Errorf("state %v, error %v, want it open still", s, err)
	}
}

func TestBreakerLock(t *testing.T) {
	dir := t.TempDir()
	c := spawn(t, "breaker", dir)
	c.do(t)
	s := open(t, dir).BreakerStore()
	wantErr(t, s.Lock("b"), ErrLocked)
	must(t, s.Lock("other"))
	c.kill(t)
	must(t, s.Lock("b")) // freed with its process
	wantErr(t, s.Lock("b"), ErrLocked)
	must(t, s.Unlock("b"))
	wantErr(t, s.Unlock("b"), ErrNotLocked)
	must(t, s.Unlock("other"))
}

func TestHeldReportsAreAllCounted(t *testing.T) {
	j := open(t, t.TempDir())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s := j.BreakerStore()
			b, err := gobreaker.NewDistributedCircuitBreaker[any](s, gobreaker.Settings{Name: "fleet", ReadyToTrip: func(gobreaker.Counts) bool { return false }})
			for range 5 {
				if err != nil {
					break
				}
				var release func()
				if release, err = s.Hold(t.Context(), "fleet"); err == nil {
					if _, e := b.Execute(failed); !errors.Is(e, errAction) {
						err = e
					}
					release()
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	data, err := j.BreakerStore().GetData("gobreaker:state:fleet")
	must(t, err)
	var state gobreaker.SharedState
	must(t, json.Unmarshal(data, &state))
	if state.Counts.TotalFailures != 20 {
		t.Errorf("%d of 20 failures were counted", state.Counts.TotalFailures)
	}
	release, err := j.BreakerStore().Hold(t.Context(), "x")
	must(t, err)
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err = j.BreakerStore().Hold(ctx, "x")
	wantErr(t, err, context.DeadlineExceeded)
}
