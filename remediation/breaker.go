package remediation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// breakerRest is how long an open breaker stays open before one trial is let through; breakerTrips failures in a row open it.
const (
	breakerRest  = 10 * time.Minute
	breakerTrips = 3
)

// errExcluded marks an outcome that is neither success nor failure for a breaker: unsupported.
var errExcluded = errors.New("not counted")

// breakers are one gobreaker per instance and action and one per action for the fleet; their states live in the journal's
// file, so that they survive a restart and hold for every process.
type breakers struct {
	store *journal.BreakerStore
	mu    sync.Mutex
	known map[string]*gobreaker.DistributedCircuitBreaker[struct{}]
}

func newBreakers(j *journal.Journal) *breakers {
	return &breakers{store: j.BreakerStore(), known: map[string]*gobreaker.DistributedCircuitBreaker[struct{}]{}}
}

func breakerName(instance string, a policies.Action) string { return instance + "/" + string(a) }

// fleetBreakerName begins with what no instance name can hold.
func fleetBreakerName(a policies.Action) string { return "*/" + string(a) }

// state reads a breaker without writing: closed, open or half-open. A breaker that never counted anything is closed.
func (b *breakers) state(name string, now time.Time) (string, error) {
	data, err := b.store.GetData("gobreaker:state:" + name)
	if err != nil {
		return "", fmt.Errorf("read breaker %s: %w", name, err)
	}
	if len(data) == 0 {
		return gobreaker.StateClosed.String(), nil
	}
	var s gobreaker.SharedState
	if err := json.Unmarshal(data, &s); err != nil {
		return "", fmt.Errorf("read breaker %s: %w", name, err)
	}
	if s.State == gobreaker.StateOpen && now.After(s.Expiry) {
		return gobreaker.StateHalfOpen.String(), nil
	}
	return s.State.String(), nil
}

// report counts the outcome of an action with the instance's breaker and the fleet's. The action itself ran outside:
// the library holds its lock while the function it guards runs.
func (b *breakers) report(ctx context.Context, instance string, a policies.Action, o policies.Outcome) error {
	var result error
	switch o {
	case policies.OutcomeSucceeded:
	case policies.OutcomeFailed, policies.OutcomeIneffective, policies.OutcomeInterrupted:
		result = fmt.Errorf("%s", o)
	default:
		result = errExcluded
	}
	return errors.Join(b.count(ctx, breakerName(instance, a), result), b.count(ctx, fleetBreakerName(a), result))
}

func (b *breakers) count(ctx context.Context, name string, result error) error {
	release, err := b.store.Hold(ctx, name)
	if err != nil {
		return fmt.Errorf("count with breaker %s: %w", name, err)
	}
	defer release()
	cb, err := b.breaker(name)
	if err != nil {
		return fmt.Errorf("count with breaker %s: %w", name, err)
	}
	_, err = cb.Execute(func() (struct{}, error) { return struct{}{}, result })
	if err == nil || errors.Is(err, result) || errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return nil
	}
	return fmt.Errorf("count with breaker %s: %w", name, err)
}

func (b *breakers) breaker(name string) (*gobreaker.DistributedCircuitBreaker[struct{}], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if cb := b.known[name]; cb != nil {
		return cb, nil
	}
	cb, err := journal.NewBreaker[struct{}](b.store, gobreaker.Settings{
		Name: name, MaxRequests: 1, Timeout: breakerRest,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakerTrips },
		IsExcluded:  func(err error) bool { return errors.Is(err, errExcluded) },
	})
	if err == nil {
		b.known[name] = cb
	}
	return cb, err
}

// ResetBreaker closes the breaker of r's instance and action, or with an empty instance that of the fleet, whatever its state, by a
// person's word. It returns r with the state that it was in.
func ResetBreaker(ctx context.Context, j *journal.Journal, r journal.BreakerReset, now time.Time) (journal.BreakerReset, error) {
	name := fleetBreakerName(r.Action)
	if r.Instance != "" {
		name = breakerName(r.Instance, r.Action)
	}
	var err error
	if r.Was, err = newBreakers(j).state(name, now); err != nil {
		r.Was = "unreadable" // which is what a person resets, too
	}
	return r, j.ResetBreaker(ctx, name, r, now)
}

// BreakerState is a breaker that is not closed.
type BreakerState struct {
	Instance string // empty: the fleet's
	Action   policies.Action
	State    string    // open or half-open
	Since    time.Time // zero: not known
	Until    time.Time // when one trial is let through
}

// OpenBreakers lists those that are not closed, the fleet's first. Its error joins those that cannot be read.
func OpenBreakers(j *journal.Journal, instances []policies.Instance, now time.Time) (out []BreakerState, err error) {
	b := newBreakers(j)
	for _, in := range append([]policies.Instance{{}}, instances...) {
		for _, a := range policies.Actions {
			name := fleetBreakerName(a)
			if in.Name != "" {
				name = breakerName(in.Name, a)
			}
			state, failed := b.state(name, now)
			err = errors.Join(err, failed)
			if failed != nil || state == gobreaker.StateClosed.String() {
				continue
			}
			s := BreakerState{Instance: in.Name, Action: a, State: state}
			if until := b.expiry(name); !until.IsZero() {
				s.Since, s.Until = until.Add(-breakerRest), until
			}
			out = append(out, s)
		}
	}
	return out, err
}

// expiry is when an open breaker lets a trial through; zero: it is not known.
func (b *breakers) expiry(name string) time.Time {
	var s gobreaker.SharedState
	data, err := b.store.GetData("gobreaker:state:" + name)
	if err != nil || json.Unmarshal(data, &s) != nil || s.State != gobreaker.StateOpen {
		return time.Time{}
	}
	return s.Expiry
}

// BreakerRule says in words when a breaker opens, and what it lets through then.
func BreakerRule() string {
	return fmt.Sprintf("%d actions in a row failed or did not help; one trial is let through %d min after it opened", breakerTrips, int(breakerRest.Minutes()))
}
