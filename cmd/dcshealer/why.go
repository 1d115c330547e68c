package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/policies"
	"dcshealer/remediation"
	"dcshealer/remediation/journal"
)

// whyReport is what why prints.
type whyReport struct {
	Instance string             `json:"instance"`
	At       time.Time          `json:"at"`
	State    policies.State     `json:"state"`
	Running  bool               `json:"running"` // a healer runs on this state_dir
	Findings []policies.Finding `json:"findings"`
	Errors   []string           `json:"errors"`
	Now      []whyPlan          `json:"now"`  // each plan that the faults of now call for
	Last     []whyPlan          `json:"last"` // the newest decision of each open incident, else the newest of all
}

// whyPlan is an action with every guard's verdict.
type whyPlan struct {
	Action   policies.Action  `json:"action"` // empty: no action cures the fault
	Node     string           `json:"node"`
	Mode     policies.Mode    `json:"mode"`
	Cause    policies.Cause   `json:"cause"`
	Record   string           `json:"record,omitempty"` // of the journal; empty: judged now
	At       time.Time        `json:"at"`
	Outcome  policies.Outcome `json:"outcome,omitempty"`
	Error    string           `json:"error,omitempty"`
	DeniedBy []policies.Guard `json:"denied_by"`
	Guards   []whyRuling      `json:"guards"`
	Incident *journalIncident `json:"incident,omitempty"`
}

// whyRuling is a ruling with what makes a denial go away.
type whyRuling struct {
	policies.Ruling
	Lift string `json:"lift,omitempty"`
}

type journalIncident struct {
	ID   string `json:"id"`
	Open bool   `json:"open"`
}

func (a *app) newWhyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "why INSTANCE",
		Short: "Tell why it does or does not act on an instance: every guard, what it saw, what lifts a denial",
		Long: `why probes the instance now, changes nothing, and shows what every guard says to each plan that its faults call for, with the value that it
saw and what lifts a denial; then the same as it was at the last decision in the journal.`,
		Example: "  dcshealer why dcs-prod-01\n  dcshealer why dcs-prod-01 -o json",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.why(cmd.Context(), args[0], time.Now()) },
	}
}

func (a *app) why(ctx context.Context, instance string, now time.Time) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if _, ok := cfg.Instance(instance); !ok {
		return fmt.Errorf("why: no instance %q in %s; there are %s", instance, cfg.File, cfg.InstanceNames())
	}
	r, err := a.examine(ctx, cfg, instance, now)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(r)
	}
	r.write(a.stdout)
	return nil
}

// examine probes an instance now, changes nothing, and adds what the journal holds.
func (a *app) examine(ctx context.Context, cfg policies.Config, instance string, now time.Time) (whyReport, error) {
	h, done, err := a.handHealer(ctx, cfg, io.Discard, true)
	if err != nil {
		return whyReport{}, err
	}
	defer done()
	e, err := h.Examine(ctx, instance)
	if err != nil {
		return whyReport{}, fmt.Errorf("why %s: %w", instance, err)
	}
	r := whyReport{Instance: instance, At: now.UTC(), State: e.State, Findings: e.Findings, Errors: e.Errors, Now: []whyPlan{}, Last: []whyPlan{},
		Running: journal.HealerRunning(cfg.StateDir)}
	for _, p := range e.Plans {
		r.Now = append(r.Now, whyPlan{Action: p.Action, Node: p.Node, Mode: p.Mode, Cause: p.Cause, At: now.UTC(), DeniedBy: p.DeniedBy, Guards: lifted(p.Guards, instance, p.Action)})
	}
	return r, r.addJournal(ctx, cfg, e)
}

// addJournal adds the state of a running healer and the last decisions; without a journal there are none.
func (r *whyReport) addJournal(ctx context.Context, cfg policies.Config, e remediation.Examination) error {
	j, err := journal.OpenReadOnly(ctx, cfg.StateDir)
	if errors.Is(err, journal.ErrNoJournal) {
		return nil
	}
	if err != nil {
		return err
	}
	defer j.Close()
	states, err := j.Statuses(ctx)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(states, func(s policies.MachineStatus) bool { return s.Instance == r.Instance }); i >= 0 && r.Running {
		r.State = states[i].State
	}
	const enough = 500 // decisions are written when they change: the newest of each open incident is among so many
	records, err := j.List(ctx, journal.Filter{Instance: r.Instance, Limit: enough})
	if err != nil {
		return err
	}
	open, err := j.Incidents(ctx, journal.IncidentFilter{Instance: r.Instance, Open: true})
	if err != nil {
		return err
	}
	r.Last = lastDecisions(records, open)
	return nil
}

// lastDecisions picks the newest record of each open incident, or, where none is open, the newest of all. records come newest first. Pure.
func lastDecisions(records []policies.Record, open []policies.Incident) []whyPlan {
	out := []whyPlan{}
	add := func(r policies.Record, isOpen bool) {
		p := whyPlan{Action: r.Action, Node: r.Node, Mode: r.Mode, Cause: r.Cause, Record: r.ID, At: r.At, Outcome: r.Outcome, Error: r.Error,
			DeniedBy: r.DeniedBy, Guards: lifted(r.Guards, r.Instance, r.Action)}
		if r.Incident != "" {
			p.Incident = &journalIncident{ID: r.Incident, Open: isOpen}
		}
		out = append(out, p)
	}
	for _, in := range open {
		if i := slices.IndexFunc(records, func(r policies.Record) bool { return r.Incident == in.ID }); i >= 0 {
			add(records[i], true)
		}
	}
	if len(out) == 0 && len(records) > 0 {
		add(records[0], false)
	}
	return out
}

func lifted(guards []policies.Ruling, instance string, action policies.Action) []whyRuling {
	out := []whyRuling{}
	for _, g := range guards {
		w := whyRuling{Ruling: g}
		if g.Denied() {
			w.Lift = policies.Lift(g.Guard, instance, action)
		}
		out = append(out, w)
	}
	return out
}
