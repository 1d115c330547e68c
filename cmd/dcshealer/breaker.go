package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/policies"
	"dcshealer/remediation"
	"dcshealer/remediation/journal"
)

func (a *app) newBreakerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "breaker",
		Short: "Clear the lock-out of an action that failed again and again",
		Example: `  dcshealer breaker reset dcs-prod-01 reattach-replica --reason "the network is mended"
  dcshealer controls list`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newBreakerResetCommand())
	return cmd
}

func (a *app) newBreakerResetCommand() *cobra.Command {
	var f wordFlags
	var fleet bool
	cmd := &cobra.Command{
		Use:   "reset INSTANCE ACTION",
		Short: "Let an action be tried again that failed again and again",
		Long: `reset closes the breaker of an instance and action, or with --fleet that of the action on all instances, and has the healer look anew. It
lifts this lock-out only: mode, pauses and all other guards stand.`,
		Example: `  dcshealer breaker reset dcs-prod-01 reattach-replica --reason "the network is mended"
  dcshealer breaker reset --fleet reclaim-expired --reason "all masters were upgraded" --by ann`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := breakerOf(args, fleet)
			if err != nil {
				return err
			}
			return a.resetBreaker(cmd.Context(), r, f)
		},
	}
	cmd.Flags().BoolVar(&fleet, "fleet", false, "the breaker of the action on all instances: name the action alone")
	f.add(cmd)
	return cmd
}

// breakerOf reads which breaker is meant.
func breakerOf(args []string, fleet bool) (r journal.BreakerReset, err error) {
	switch {
	case fleet && len(args) == 1:
		r.Action = policies.Action(args[0])
	case fleet:
		return r, errors.New("breaker reset: --fleet is every instance: name the action alone")
	case len(args) < 2 || args[0] == "":
		return r, errors.New("breaker reset: want INSTANCE ACTION, or --fleet ACTION")
	default:
		r.Instance, r.Action = args[0], policies.Action(args[1])
	}
	if !slices.Contains(policies.Actions[:], r.Action) {
		return r, fmt.Errorf("breaker reset: action %q: want %s", r.Action, oneOf(policies.Actions[:]))
	}
	return r, nil
}

func (a *app) resetBreaker(ctx context.Context, r journal.BreakerReset, f wordFlags) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if r, err = resetBreaker(ctx, cfg, r, f); err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(r)
	}
	fmt.Fprintln(a.stdout, printable(fmt.Sprintf("The breaker of %s on %s is closed, it was %s (by %s: %s); a running healer looks anew.", r.Action, onWhat(r.Instance), r.Was, r.By, r.Reason)))
	return nil
}

// resetBreaker closes a breaker of an instance of the config, or with no instance that of the fleet, and says what it was.
func resetBreaker(ctx context.Context, cfg policies.Config, r journal.BreakerReset, f wordFlags) (journal.BreakerReset, error) {
	w, err := f.word("breaker reset", time.Time{})
	if err != nil {
		return r, err
	}
	if err := known(cfg, "breaker reset", r.Instance); err != nil {
		return r, err
	}
	r.Reason, r.By = w.reason, w.by
	err = write(ctx, cfg, w.by, func(j *journal.Journal) (err error) {
		r, err = remediation.ResetBreaker(ctx, j, r, moment())
		return err
	})
	return r, err
}
