package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/policies"
	"dcshealer/remediation"
	"dcshealer/remediation/journal"
)

func (a *app) newControlsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "controls",
		Short:   "See all by which persons have changed what may run",
		Example: "  dcshealer controls list\n  dcshealer controls list --since 30d",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newControlsListCommand())
	return cmd
}

func (a *app) newControlsListCommand() *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what stands: live settings, pauses, taken incidents, open breakers; or the history",
		Long: `list shows what stands now: the live settings given at runtime, the pauses, the open incidents that somebody has taken, and the breakers that
are not closed; each with who, why, since and until when. With --since it shows each change instead, and what came to its end by itself.`,
		Example: `  dcshealer controls list
  dcshealer controls list -o json
  dcshealer controls list --since 30d`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			from, err := parseSince(since, now)
			if err != nil {
				return fmt.Errorf("--since: %w", err)
			}
			if since != "" {
				return a.listChanges(cmd.Context(), from)
			}
			return a.listControls(cmd.Context(), now)
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "the history from then on: a duration such as 24h or 30d, or an RFC 3339 time")
	return cmd
}

// controlRow is one control that stands.
type controlRow struct {
	Kind     string          `json:"kind"`               // live, pause, ack or breaker
	Instance string          `json:"instance"`           // empty: all
	Action   policies.Action `json:"action,omitempty"`   // of live and breaker
	Incident string          `json:"incident,omitempty"` // of ack
	Says     string          `json:"says"`               // live: live or dry-run; pause: paused; ack: taken; breaker: open or half-open
	By       string          `json:"by"`                 // healer: nobody else
	Reason   string          `json:"reason"`
	Since    *time.Time      `json:"since"` // null: not known
	Until    *time.Time      `json:"until"` // null: until changed
}

func (a *app) listControls(ctx context.Context, now time.Time) error {
	j, cfg, err := a.readJournal(ctx)
	if err != nil {
		return err
	}
	rows := []controlRow{}
	if j != nil {
		defer j.Close()
		if rows, err = controlRows(ctx, j, cfg, now); err != nil {
			return err
		}
	}
	switch {
	case a.json():
		return a.printJSON(rows)
	case len(rows) == 0:
		fmt.Fprintln(a.stdout, "Nothing stands: no live setting at runtime, no pause, no taken incident, no open breaker.")
		return nil
	}
	t := plainTable(a.stdout, "WHAT", "INSTANCE", "ON", "SAYS", "BY", "SINCE (UTC)", "UNTIL (UTC)", "REASON")
	for _, r := range rows {
		until := "changed"
		if r.Until != nil {
			until = clock(*r.Until)
		}
		tableRow(t, r.Kind, onWhat(r.Instance), dash(cmp.Or(string(r.Action), r.Incident)), r.Says, r.By, sinceText(r.Since), until, r.Reason)
	}
	return t.Flush()
}

func sinceText(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return clock(*t)
}

// controlRows reads what stands: pauses first, then live settings, taken incidents and breakers.
func controlRows(ctx context.Context, j *journal.Journal, cfg policies.Config, now time.Time) ([]controlRow, error) {
	rows := []controlRow{}
	pauses, err := j.Pauses(ctx, now)
	if err != nil {
		return nil, err
	}
	for _, p := range pauses {
		rows = append(rows, controlRow{Kind: "pause", Instance: p.Instance, Says: "paused", By: p.By, Reason: p.Reason, Since: orNil(p.At), Until: orNil(p.Until)})
	}
	grants, err := j.Live(ctx, now)
	if err != nil {
		return nil, err
	}
	for _, g := range grants {
		says := policies.DryRun
		if g.Enabled {
			says = policies.Live
		}
		rows = append(rows, controlRow{Kind: "live", Instance: g.Instance, Action: g.Action, Says: string(says), By: g.By, Reason: g.Reason, Since: orNil(g.At), Until: orNil(g.Until)})
	}
	open, err := j.Incidents(ctx, journal.IncidentFilter{Open: true})
	if err != nil {
		return nil, err
	}
	for _, in := range open {
		if in.Ack != nil {
			rows = append(rows, controlRow{Kind: "ack", Instance: in.Instance, Incident: in.ID, Says: "taken", By: in.Ack.By, Reason: in.Ack.Note, Since: orNil(in.Ack.At)})
		}
	}
	breakers, err := remediation.OpenBreakers(j, cfg.Instances, now)
	for _, b := range breakers {
		rows = append(rows, controlRow{Kind: "breaker", Instance: b.Instance, Action: b.Action, Says: b.State, By: "healer", Reason: remediation.BreakerRule(), Since: orNil(b.Since), Until: orNil(b.Until)})
	}
	return rows, err
}

// changeRow is one change of what may run.
type changeRow struct {
	At       time.Time `json:"at"`
	Seq      int64     `json:"seq"`      // its place in the journal
	Control  string    `json:"control"`  // live, pause, resume, breaker-reset, ack, live-ended or pause-ended
	Instance string    `json:"instance"` // empty: all
	By       string    `json:"by"`       // of what came to its end: who had begun it
	Reason   string    `json:"reason"`
	Text     string    `json:"text"`
}

func (a *app) listChanges(ctx context.Context, since time.Time) error {
	j, _, err := a.readJournal(ctx)
	if err != nil {
		return err
	}
	rows := []changeRow{}
	if j != nil {
		defer j.Close()
		if rows, err = changeRows(ctx, j, since); err != nil {
			return err
		}
	}
	switch {
	case a.json():
		return a.printJSON(rows)
	case len(rows) == 0:
		fmt.Fprintln(a.stdout, "Nothing was changed in this time.")
		return nil
	}
	t := plainTable(a.stdout, "AT (UTC)", "WHAT")
	for _, r := range rows {
		tableRow(t, clock(r.At), r.Text)
	}
	return t.Flush()
}

// changeRows reads the changes from a time on, oldest first.
func changeRows(ctx context.Context, j *journal.Journal, since time.Time) ([]changeRow, error) {
	rows := []changeRow{}
	all, err := j.Controls(ctx, "", since, time.Time{})
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		by, reason := c.By()
		rows = append(rows, changeRow{At: c.At, Seq: c.Seq, Control: c.Control, Instance: c.Instance(), By: by, Reason: reason, Text: controlText(c)})
	}
	taken, err := j.Incidents(ctx, journal.IncidentFilter{})
	if err != nil {
		return nil, err
	}
	for _, in := range taken {
		if in.Ack == nil || in.Ack.At.Before(since) {
			continue // its newest is older
		}
		file, err := j.Incident(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		for _, e := range file.Events {
			if e.Event == "acknowledged" && !e.At.Before(since) {
				rows = append(rows, changeRow{At: e.At, Seq: e.Seq, Control: "ack", Instance: in.Instance, By: e.Operator.By, Reason: e.Text,
					Text: fmt.Sprintf("incident %s of %s taken %s", in.ID, in.Instance, e.Text)})
			}
		}
	}
	slices.SortStableFunc(rows, func(x, y changeRow) int { return cmp.Compare(x.Seq, y.Seq) })
	return rows, nil
}
