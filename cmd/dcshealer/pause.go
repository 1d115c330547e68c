package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

func (a *app) newPauseCommand() *cobra.Command {
	var f wordFlags
	var all bool
	cmd := &cobra.Command{
		Use:   "pause [INSTANCE]",
		Short: "Stop all actions on an instance, or everywhere, for a time or until resume",
		Long: `pause stops all actions on an instance, or with --all everywhere, also those given by hand. An action that is under way stops before its
next command; only what it had set for its own time is put back. Watching, alarms and plans go on. The running healer says before a pause ends, and when it has.`,
		Example: `  dcshealer pause dcs-prod-01 --for 1h --reason "change of hardware"
  dcshealer pause --all --reason "stop everything" --by ann`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			instance, err := scopeOf("pause", args, all)
			if err != nil {
				return err
			}
			return a.pause(cmd.Context(), instance, f)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every instance: the kill switch")
	f.add(cmd)
	f.addPeriod(cmd)
	return cmd
}

// pauseRow is a pause, as pause prints it.
type pauseRow struct {
	Instance string     `json:"instance"` // empty: all
	Until    *time.Time `json:"until"`    // null: until resumed
	By       string     `json:"by"`
	Reason   string     `json:"reason"`
	At       time.Time  `json:"at"`
	UnderWay []string   `json:"under_way"` // records of the actions that it stops on their way
}

func (a *app) pause(ctx context.Context, instance string, f wordFlags) error {
	cfg, err := a.scopeConfig(instance)
	if err != nil {
		return err
	}
	p, running, err := setPause(ctx, cfg, instance, f)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(pauseRowOf(p, running))
	}
	a.printPause(p, running)
	return nil
}

// setPause stops all actions on an instance of the config, or with "" everywhere, and returns those that it stops on their way.
func setPause(ctx context.Context, cfg policies.Config, instance string, f wordFlags) (p journal.Pause, running []policies.Record, err error) {
	now := moment()
	w, err := f.word("pause", now)
	if err != nil {
		return p, nil, err
	}
	if err := known(cfg, "pause", instance); err != nil {
		return p, nil, err
	}
	p = journal.Pause{Instance: instance, Until: w.until, Reason: w.reason, By: w.by, At: now}
	err = write(ctx, cfg, w.by, func(j *journal.Journal) error {
		if err := keepsLonger(ctx, j, p); err != nil {
			return err
		}
		if err := j.SetPause(ctx, p); err != nil {
			return err
		}
		running, err = j.RunningLive(ctx)
		return err
	})
	running = slices.DeleteFunc(running, func(r policies.Record) bool { return instance != "" && r.Instance != instance })
	return p, running, err
}

// keepsLonger is an error where a pause of the same scope stands that lasts longer than p: a person's short one must not end that of another.
func keepsLonger(ctx context.Context, j *journal.Journal, p journal.Pause) error {
	standing, err := j.Pauses(ctx, p.At)
	if err != nil || p.Until.IsZero() {
		return err
	}
	for _, o := range standing {
		if o.Instance == p.Instance && (o.Until.IsZero() || o.Until.After(p.Until)) {
			until := untilText(o.Until)
			if o.Until.IsZero() {
				until = " until resumed"
			}
			scope := p.Instance
			if scope == "" {
				scope = "--all"
			}
			return exitError{code: exitDenied, msg: printable(fmt.Sprintf("pause: %s is paused already%s (by %s: %s), which is longer: it goes on as it is. To end it sooner: dcshealer resume %s --reason WHY",
				onWhat(o.Instance), until, o.By, o.Reason, scope))}
		}
	}
	return nil
}

func pauseRowOf(p journal.Pause, running []policies.Record) pauseRow {
	row := pauseRow{Instance: p.Instance, Until: orNil(p.Until), By: p.By, Reason: p.Reason, At: p.At, UnderWay: []string{}}
	for _, r := range running {
		row.UnderWay = append(row.UnderWay, r.ID)
	}
	return row
}

func (a *app) printPause(p journal.Pause, running []policies.Record) {
	until, scope := " until resumed", "--all"
	if !p.Until.IsZero() {
		until = untilText(p.Until)
	}
	if p.Instance != "" {
		scope = p.Instance
	}
	fmt.Fprintln(a.stdout, printable(fmt.Sprintf("No action runs on %s%s (by %s: %s). Lift it with: dcshealer resume %s --reason WHY", onWhat(p.Instance), until, p.By, p.Reason, scope)))
	for _, r := range running {
		fmt.Fprintln(a.stdout, printable(fmt.Sprintf("Under way, and stopped before its next command: %s on %s of %s (record %s)", r.Action, r.Node, r.Instance, r.ID)))
	}
}
