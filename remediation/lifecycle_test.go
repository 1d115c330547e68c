package remediation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"dcshealer/policies"
)

var allStates = []policies.State{policies.StateIdle, policies.StateConfirming, policies.StatePlanning, policies.StateHeld,
	policies.StateActing, policies.StateVerifying, policies.StateCooldown, policies.StateEscalated}

var allEvents = []event{eventSuspect, eventRefute, eventConfirm, eventHold, eventAsk, eventPermit, eventEscalate, eventSent, eventNext, eventFixed, eventClear}

type move struct {
	from policies.State
	by   event
}

// wanted is the table of the doc comment, written out a second time.
var wanted = map[move]policies.State{
	{policies.StateIdle, eventSuspect}:       policies.StateConfirming,
	{policies.StateConfirming, eventConfirm}: policies.StatePlanning,
	{policies.StateConfirming, eventRefute}:  policies.StateIdle,
	{policies.StatePlanning, eventHold}:      policies.StateHeld,
	{policies.StatePlanning, eventPermit}:    policies.StateActing,
	{policies.StatePlanning, eventEscalate}:  policies.StateEscalated,
	{policies.StateHeld, eventAsk}:           policies.StatePlanning,
	{policies.StateHeld, eventClear}:         policies.StateIdle,
	{policies.StateActing, eventSent}:        policies.StateVerifying,
	{policies.StateActing, eventEscalate}:    policies.StateEscalated,
	{policies.StateVerifying, eventFixed}:    policies.StateCooldown,
	{policies.StateVerifying, eventNext}:     policies.StatePlanning,
	{policies.StateVerifying, eventEscalate}: policies.StateEscalated,
	{policies.StateCooldown, eventClear}:     policies.StateIdle,
	{policies.StateCooldown, eventSuspect}:   policies.StateConfirming,
	{policies.StateEscalated, eventSuspect}:  policies.StateConfirming,
	{policies.StateEscalated, eventClear}:    policies.StateIdle,
}

// in is a lifecycle in the given state.
func in(s policies.State) *lifecycle {
	l := newLifecycle(nil)
	l.fsm.SetState(string(s))
	return l
}

func TestEveryPairOfStateAndEventMovesOrIsAnError(t *testing.T) {
	for _, s := range allStates {
		for _, e := range allEvents {
			l := in(s)
			err := l.to(context.Background(), e)
			want, listed := wanted[move{s, e}]
			switch {
			case listed && (err != nil || l.state() != want):
				t.Errorf("%s in %s: state %s, error %v; want %s", e, s, l.state(), err, want)
			case !listed && (err == nil || l.state() != s):
				t.Errorf("%s in %s: state %s, error %v; want an error and no move", e, s, l.state(), err)
			}
		}
	}
}

func TestEveryStateIsReachedFromIdleAndHasAWayOut(t *testing.T) {
	reached := []policies.State{policies.StateIdle}
	for i := 0; i < len(reached); i++ {
		for _, e := range allEvents {
			if l := in(reached[i]); l.to(context.Background(), e) == nil && !slices.Contains(reached, l.state()) {
				reached = append(reached, l.state())
			}
		}
	}
	for _, s := range allStates {
		if !slices.Contains(reached, s) {
			t.Errorf("%s cannot be reached from idle", s)
		}
		if !slices.ContainsFunc(allEvents, func(e event) bool { return in(s).to(context.Background(), e) == nil }) {
			t.Errorf("%s has no way out", s)
		}
	}
}

func TestTheDiagramIsTheTable(t *testing.T) {
	var got []string
	for line := range strings.Lines(Diagram()) {
		if line = strings.TrimSpace(line); strings.Contains(line, " --> ") && !strings.HasPrefix(line, "[*]") {
			got = append(got, line)
		}
	}
	var want []string
	for m, to := range wanted {
		want = append(want, fmt.Sprintf("%s --> %s: %s", m.from, to, m.by))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the diagram shows\n%s\nand the table is\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !strings.Contains(Diagram(), "[*] --> idle") {
		t.Error("the diagram does not begin at idle")
	}
}

func TestAnEndedContextDoesNotWedgeTheMachine(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l := newLifecycle(nil)
	for _, e := range []event{eventSuspect, eventConfirm, eventPermit, eventSent, eventFixed, eventClear, eventSuspect} {
		if err := l.to(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAChangeIsToldOnceWithFromToAndEvent(t *testing.T) {
	var told []string
	l := newLifecycle(func(from, to policies.State, e event) { told = append(told, fmt.Sprint(from, to, e)) })
	if err := l.to(context.Background(), eventSuspect); err != nil {
		t.Fatal(err)
	}
	if err := l.to(context.Background(), eventSent); err == nil || !strings.Contains(err.Error(), "confirming") || !strings.Contains(err.Error(), "sent") {
		t.Errorf("error %v, want one that names the state and the event", err)
	}
	if want := []string{"idleconfirmingsuspect"}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}
