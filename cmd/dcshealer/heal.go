package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"dcshealer/policies"
	"dcshealer/remediation"
	"dcshealer/remediation/journal"
)

// healFlags are the flags of heal.
type healFlags struct {
	instance, action, allowLost string
	live, yes                   bool
}

func (a *app) newHealCommand() *cobra.Command {
	var f healFlags
	cmd := &cobra.Command{
		Use:   "heal",
		Short: "Work the faults of one instance by hand and wait for the outcome",
		Long: `heal takes the same path as an alarm: probe, diagnose, plan, ask the guards, act, verify, journal. Without --live it stops before the last
write and exits 2 when there is something to do. With --live --yes it answers the guard "mode" and no other.
It exits 0 when healed or when there is nothing to do, 1 when it failed, 2 when planned, 3 when a guard denied or another heal of
the instance runs.`,
		Example: `  dcshealer heal --instance dcs-prod-01
  dcshealer heal --instance dcs-prod-01 --action reattach-replica --live --yes
  dcshealer heal --instance dcs-prod-01 --live --yes --allow-lost-writes dcs-slave-01`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.heal(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.instance, "instance", "", "the instance to heal (required)")
	cmd.Flags().StringVar(&f.action, "action", "", "only this action: "+oneOf(policies.Actions[:]))
	cmd.Flags().BoolVar(&f.live, "live", false, "send the commands; needs --yes")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "yes, change the data of a real instance")
	cmd.Flags().StringVar(&f.allowLost, "allow-lost-writes", "", "give up the writes that only this `NODE` took, once")
	_ = cmd.MarkFlagRequired("instance")
	return cmd
}

func (a *app) heal(ctx context.Context, f healFlags) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if err := f.check(cfg); err != nil {
		return err
	}
	lines := io.Writer(a.stdout)
	if a.json() {
		lines = a.stderr
	}
	h, done, err := a.handHealer(ctx, cfg, lines, false)
	if err != nil {
		return err
	}
	defer done()
	out, err := h.HealByHand(ctx, f.instance, remediation.ByHand{Action: policies.Action(f.action), Live: f.live, AllowLost: f.allowLost})
	if a.json() && out.Records != nil {
		err = errors.Join(err, a.printJSON(out))
	}
	if errors.Is(err, journal.ErrByHand) {
		return exitError{code: exitDenied, msg: "dcshealer: " + err.Error()}
	}
	if err != nil {
		return err
	}
	if len(out.Records) == 0 && !a.json() {
		fmt.Fprintf(a.stdout, "%s: nothing to do\n", f.instance)
	}
	return healExit(out.Records)
}

// check refuses what cannot be meant.
func (f healFlags) check(cfg policies.Config) error {
	i, ok := cfg.Instance(f.instance)
	if !ok {
		return fmt.Errorf("--instance %q is not in %s; there are %s", f.instance, cfg.File, cfg.InstanceNames())
	}
	if f.action != "" && !slices.Contains(policies.Actions[:], policies.Action(f.action)) {
		return fmt.Errorf("--action %q: want %s", f.action, oneOf(policies.Actions[:]))
	}
	if f.live != f.yes {
		return errors.New("--live and --yes go together: heal --live --yes changes the data of a real instance")
	}
	if f.allowLost == "" {
		return nil
	}
	n, ok := i.Node(f.allowLost)
	switch {
	case !ok:
		return fmt.Errorf("--allow-lost-writes %q is no node of %s", f.allowLost, i.Name)
	case n.Role != policies.RoleReplica:
		return fmt.Errorf("--allow-lost-writes %s: it is configured as the master of %s, and only a replica can be reattached", f.allowLost, i.Name)
	case !f.live:
		return errors.New("--allow-lost-writes needs --live --yes")
	}
	return nil
}

// healExit is the exit code of the worst outcome: failed, denied, planned, done.
func healExit(records []policies.Record) error {
	code := exitDone
	worse := map[int]int{exitDone: 0, exitPlanned: 1, exitDenied: 2, exitFailed: 3}
	for _, r := range records {
		c := exitFailed
		switch r.Outcome {
		case policies.OutcomeSucceeded:
			c = exitDone
		case policies.OutcomePlanned:
			c = exitPlanned
		case policies.OutcomeDenied, policies.OutcomeUnsupported:
			c = exitDenied
		}
		if worse[c] > worse[code] {
			code = c
		}
	}
	if code == exitDone {
		return nil
	}
	return exitError{code: code}
}
