package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

func (a *app) newResumeCommand() *cobra.Command {
	var f wordFlags
	var all bool
	cmd := &cobra.Command{
		Use:   "resume [INSTANCE]",
		Short: "End a pause: what is live may run again",
		Long: `resume ends the pause of an instance, or with --all the one of all instances; each is lifted by itself. Plans that the pause held are judged
anew, and run where every guard allows.`,
		Example: `  dcshealer resume dcs-prod-01 --reason "the hardware is changed"
  dcshealer resume --all --reason "all clear" --by ann`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			instance, err := scopeOf("resume", args, all)
			if err != nil {
				return err
			}
			return a.resume(cmd.Context(), instance, f)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "the pause of all instances")
	f.add(cmd)
	return cmd
}

// resumed is what resume prints.
type resumed struct {
	Instance string     `json:"instance"` // empty: all
	Lifted   bool       `json:"lifted"`   // false: it was not paused
	By       string     `json:"by"`
	Reason   string     `json:"reason"`
	Paused   []pauseRow `json:"paused"` // what still keeps it, or some of it, from acting
}

func (a *app) resume(ctx context.Context, instance string, f wordFlags) error {
	cfg, err := a.scopeConfig(instance)
	if err != nil {
		return err
	}
	r, err := lift(ctx, cfg, instance, f)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(r)
	}
	a.printResumed(r)
	return nil
}

// lift ends the pause of an instance, or with "" the one of all.
func lift(ctx context.Context, cfg policies.Config, instance string, f wordFlags) (r resumed, err error) {
	now := moment()
	w, err := f.word("resume", now)
	if err != nil {
		return r, err
	}
	r = resumed{Instance: instance, By: w.by, Reason: w.reason, Paused: []pauseRow{}}
	err = write(ctx, cfg, w.by, func(j *journal.Journal) error {
		if r.Lifted, err = j.ClearPause(ctx, instance, w.by, w.reason, now); err != nil {
			return err
		}
		left, err := j.Pauses(ctx, now)
		for _, p := range left {
			if instance == "" || p.Instance == "" || p.Instance == instance {
				r.Paused = append(r.Paused, pauseRowOf(p, nil))
			}
		}
		return err
	})
	if err == nil && !r.Lifted {
		err = known(cfg, "resume", instance) // one that is gone from the config may still have been paused
	}
	return r, err
}

func (a *app) printResumed(r resumed) {
	said := fmt.Sprintf("The pause of %s is lifted (by %s: %s).", onWhat(r.Instance), r.By, r.Reason)
	if !r.Lifted {
		said = fmt.Sprintf("There was no pause of %s: nothing to lift.", onWhat(r.Instance))
	}
	fmt.Fprintln(a.stdout, printable(said))
	for _, p := range r.Paused {
		until, scope := "until resumed", "--all"
		if p.Until != nil {
			until = "until " + clock(*p.Until) + " UTC"
		}
		if p.Instance != "" {
			scope = p.Instance
		}
		fmt.Fprintln(a.stdout, printable(fmt.Sprintf("Still paused: %s, %s (by %s: %s). Lift it with: dcshealer resume %s --reason WHY", onWhat(p.Instance), until, p.By, p.Reason, scope)))
	}
}
