package remediation

import (
	"context"
	"errors"
	"fmt"

	"github.com/looplab/fsm"

	"dcshealer/policies"
)

// event moves a Machine from one state to another.
type event string

// The events of a Machine.
const (
	eventSuspect  event = "suspect"  // an alarm, or a fault seen again: look
	eventRefute   event = "refute"   // our own probe does not bear it out
	eventConfirm  event = "confirm"  // two probes agree
	eventHold     event = "hold"     // there is a plan, and time or a setting must lift a denial
	eventAsk      event = "ask"      // things changed: ask the guards again
	eventPermit   event = "permit"   // every guard allows
	eventEscalate event = "escalate" // a person is needed
	eventSent     event = "sent"     // the commands went out
	eventNext     event = "next"     // the effect did not show: plan again
	eventFixed    event = "fixed"    // the effect is proven
	eventClear    event = "clear"    // nothing is open any more
)

// transitions is the table of a Machine:
//
//	idle        suspect  -> confirming
//	confirming  confirm  -> planning     refute -> idle
//	planning    hold     -> held         permit -> acting      escalate -> escalated
//	held        ask      -> planning     clear  -> idle
//	acting      sent     -> verifying    escalate -> escalated
//	verifying   fixed    -> cooldown     next   -> planning    escalate -> escalated
//	cooldown    clear    -> idle         suspect -> confirming
//	escalated   suspect  -> confirming   clear  -> idle
//
// An event that its state does not list is an error. Every state has a way out.
var transitions = fsm.Events{
	row(eventSuspect, policies.StateConfirming, policies.StateIdle, policies.StateCooldown, policies.StateEscalated),
	row(eventConfirm, policies.StatePlanning, policies.StateConfirming),
	row(eventRefute, policies.StateIdle, policies.StateConfirming),
	row(eventHold, policies.StateHeld, policies.StatePlanning),
	row(eventPermit, policies.StateActing, policies.StatePlanning),
	row(eventEscalate, policies.StateEscalated, policies.StatePlanning, policies.StateActing, policies.StateVerifying),
	row(eventAsk, policies.StatePlanning, policies.StateHeld),
	row(eventSent, policies.StateVerifying, policies.StateActing),
	row(eventFixed, policies.StateCooldown, policies.StateVerifying),
	row(eventNext, policies.StatePlanning, policies.StateVerifying),
	row(eventClear, policies.StateIdle, policies.StateHeld, policies.StateCooldown, policies.StateEscalated),
}

func row(e event, to policies.State, from ...policies.State) fsm.EventDesc {
	d := fsm.EventDesc{Name: string(e), Dst: string(to)}
	for _, s := range from {
		d.Src = append(d.Src, string(s))
	}
	return d
}

// lifecycle is a Machine's state. Only its owner's goroutine changes it.
type lifecycle struct {
	fsm     *fsm.FSM
	changed func(from, to policies.State, e event)
}

func newLifecycle(changed func(from, to policies.State, e event)) *lifecycle {
	return &lifecycle{fsm: fsm.NewFSM(string(policies.StateIdle), transitions, fsm.Callbacks{}), changed: changed}
}

func (l *lifecycle) state() policies.State { return policies.State(l.fsm.Current()) }

// to is the only place that changes the state. The library wedges for good on an ended context, so none reaches it.
func (l *lifecycle) to(ctx context.Context, e event) error {
	from := l.state()
	err := l.fsm.Event(context.WithoutCancel(ctx), string(e))
	var same fsm.NoTransitionError
	if errors.As(err, &same) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("state machine in state %s: event %s: %w", from, e, err)
	}
	if l.changed != nil && from != l.state() {
		l.changed(from, l.state(), e)
	}
	return nil
}

// Diagram is the state machine as a Mermaid state diagram, generated from the table.
func Diagram() string {
	d, err := fsm.VisualizeForMermaidWithGraphType(newLifecycle(nil).fsm, fsm.StateDiagram)
	if err != nil {
		panic(err) // a graph type that the library does not know: a bug of our own
	}
	return d
}
