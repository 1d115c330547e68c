package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

func (a *app) newLiveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "live",
		Short: "Let an action run for real on an instance, for a time, or take that back",
		Example: `  dcshealer live enable dcs-prod-01 --action reattach-replica --for 2h --reason "first trial"
  dcshealer live list
  dcshealer live disable dcs-prod-01 --action reattach-replica --reason "trial is over"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newLiveSetCommand(true), a.newLiveSetCommand(false), a.newLiveListCommand())
	return cmd
}

// liveFlags are what enable and disable take.
type liveFlags struct {
	action string
	wordFlags
}

func (a *app) newLiveSetCommand(enable bool) *cobra.Command {
	var f liveFlags
	cmd := &cobra.Command{
		Use:     "enable INSTANCE",
		Short:   "Let an action run for real on an instance",
		Example: `  dcshealer live enable dcs-prod-01 --action reattach-replica --for 2h --reason "first trial" --by ann`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.setLive(cmd.Context(), args[0], f, enable) },
	}
	if !enable {
		cmd.Use, cmd.Short = "disable INSTANCE", "Keep an action from running for real on an instance, also where the config has it live"
		cmd.Example = `  dcshealer live disable dcs-prod-01 --action reattach-replica --reason "change freeze" --for 3d`
	}
	cmd.Flags().StringVar(&f.action, "action", "", "the action: "+oneOf(policies.Actions[:])+" (required)")
	f.add(cmd)
	f.addPeriod(cmd)
	return cmd
}

// grant checks what was asked for against the config.
func (f liveFlags) grant(cfg policies.Config, instance string, enable bool, now time.Time) (policies.LiveGrant, error) {
	g := policies.LiveGrant{Instance: instance, Action: policies.Action(f.action), Enabled: enable, At: now}
	in, ok := cfg.Instance(instance)
	if !ok {
		return g, fmt.Errorf("live: no instance %q in %s: it has %s", instance, cfg.File, cfg.InstanceNames())
	}
	if !slices.Contains(policies.Actions[:], g.Action) {
		return g, fmt.Errorf("live: --action %q: want %s", f.action, oneOf(policies.Actions[:]))
	}
	if enable && !slices.Contains(in.Actions(), g.Action) {
		return g, fmt.Errorf("live: --action %q is never planned on %s; to have it planned: ladder: [%s] for this instance in %s, then dcshealer config reload",
			f.action, instance, g.Action, cfg.File)
	}
	w, err := f.word("live", now)
	g.Reason, g.By, g.Until = w.reason, w.by, w.until
	return g, err
}

func (a *app) setLive(ctx context.Context, instance string, f liveFlags, enable bool) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	row, err := switchLive(ctx, cfg, instance, f, enable)
	if err != nil {
		return err
	}
	in, _ := cfg.Instance(instance)
	if a.json() {
		return a.printJSON(row)
	}
	fmt.Fprintln(a.stdout, printable(row.sentence(in)))
	return nil
}

// switchLive writes down that an action may run for real on an instance, or may not.
func switchLive(ctx context.Context, cfg policies.Config, instance string, f liveFlags, enable bool) (liveRow, error) {
	now := moment()
	g, err := f.grant(cfg, instance, enable, now)
	if err != nil {
		return liveRow{}, err
	}
	in, _ := cfg.Instance(instance)
	return liveRowOf(in, g, now), write(ctx, cfg, g.By, func(j *journal.Journal) error { return j.SetLive(ctx, g) })
}

// sentence says what was switched, until when, and how to switch it back.
func (r liveRow) sentence(in policies.Instance) string {
	until, back := "until changed", "disable"
	if r.Until != nil {
		until = "until " + clock(*r.Until) + " UTC"
	}
	may := "may run for real"
	if !r.Enabled {
		may, back = "runs dry", "enable"
		if in.ConfiguredLive(r.Action) {
			may += ", although the config has it live,"
		}
	}
	return fmt.Sprintf("%s on %s %s %s (by %s: %s). Change it with: dcshealer live %s %s --action %s --reason WHY",
		r.Action, r.Instance, may, until, r.By, r.Reason, back, r.Instance, r.Action)
}

func (a *app) newLiveListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List what may run for real, by the config and by live enable, and what was taken back",
		Example: `  dcshealer live list
  dcshealer live list -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, cfg, err := a.readJournal(cmd.Context())
			if err != nil {
				return err
			}
			now := time.Now()
			grants, err := grantsOf(cmd.Context(), j, now)
			if err != nil {
				return err
			}
			return a.printLive(liveRows(cfg, grants, now))
		},
	}
}

// grantsOf reads the standing grants and closes the journal; none without one.
func grantsOf(ctx context.Context, j *journal.Journal, now time.Time) ([]policies.LiveGrant, error) {
	if j == nil {
		return nil, nil
	}
	defer j.Close()
	return j.Live(ctx, now)
}

// liveRow is one opt-in or revocation, as live list prints it.
type liveRow struct {
	Instance string          `json:"instance"`
	Action   policies.Action `json:"action"`
	Source   string          `json:"source"` // config or runtime; a runtime row beats the config's
	Enabled  bool            `json:"enabled"`
	Mode     policies.Mode   `json:"mode"`  // what holds for the instance and action now
	Until    *time.Time      `json:"until"` // null: until changed
	By       string          `json:"by"`
	Reason   string          `json:"reason"`
	At       *time.Time      `json:"at"` // null: from the config
}

// liveRows lists the config's opt-ins and the standing grants, by instance. Pure.
func liveRows(cfg policies.Config, grants []policies.LiveGrant, now time.Time) []liveRow {
	rows := []liveRow{}
	for _, in := range cfg.Instances {
		for _, action := range in.Live {
			mode, _ := policies.ModeOf(in, action, grants, false, now)
			rows = append(rows, liveRow{Instance: in.Name, Action: action, Source: "config", Enabled: true, Mode: mode, Reason: "live in " + cfg.File})
		}
	}
	for _, g := range grants {
		in, configured := cfg.Instance(g.Instance)
		row := liveRowOf(in, g, now)
		switch {
		case !configured:
			row.Mode, row.Reason = policies.DryRun, row.Reason+" (the instance is not in "+cfg.File+")"
		case !slices.Contains(in.Actions(), g.Action):
			row.Mode, row.Reason = policies.DryRun, row.Reason+" (the instance's ladder does not name it)"
		}
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows, func(x, y liveRow) int { return strings.Compare(x.Instance, y.Instance) })
	return rows
}

func liveRowOf(in policies.Instance, g policies.LiveGrant, now time.Time) liveRow {
	mode, _ := policies.ModeOf(in, g.Action, []policies.LiveGrant{g}, false, now)
	row := liveRow{Instance: g.Instance, Action: g.Action, Source: "runtime", Enabled: g.Enabled, Mode: mode, By: g.By, Reason: g.Reason, At: &g.At}
	if !g.Until.IsZero() {
		until := g.Until.UTC()
		row.Until = &until
	}
	return row
}

func (a *app) printLive(rows []liveRow) error {
	if a.json() {
		return a.printJSON(rows)
	}
	if len(rows) == 0 {
		fmt.Fprintln(a.stdout, "Nothing is live: every action runs dry.")
		return nil
	}
	t := plainTable(a.stdout, "INSTANCE", "ACTION", "SOURCE", "SAYS", "MODE NOW", "UNTIL (UTC)", "BY", "REASON")
	for _, r := range rows {
		says, until := "dry-run", "changed"
		if r.Enabled {
			says = "live"
		}
		if r.Until != nil {
			until = clock(*r.Until)
		}
		tableRow(t, r.Instance, string(r.Action), r.Source, says, string(r.Mode), until, r.By, r.Reason)
	}
	t.Flush() // as in actions list
	return nil
}
