package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

func (a *app) newActionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "actions",
		Short: "Review the journal of decisions and actions",
		Example: `  dcshealer actions list --since 24h
  dcshealer actions show 01K9Z
  dcshealer actions verify
  dcshealer actions export --out journal.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newActionsListCommand(), a.newActionsShowCommand(), a.newActionsVerifyCommand(), a.newActionsExportCommand())
	return cmd
}

func (a *app) newActionsListCommand() *cobra.Command {
	var instance, action, outcome, since string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List decisions and actions, newest first",
		Example: `  dcshealer actions list --instance dcs-prod-01 --since 30d
  dcshealer actions list --outcome failed -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := parseSince(since, time.Now())
			if err != nil {
				return fmt.Errorf("--since: %w", err)
			}
			f := journal.Filter{Instance: instance, Action: policies.Action(action), Outcome: policies.Outcome(outcome), Since: from, Limit: limit}
			if err := checkFilter(f); err != nil {
				return err
			}
			return a.listActions(cmd.Context(), f)
		},
	}
	cmd.Flags().StringVar(&instance, "instance", "", "only this instance")
	cmd.Flags().StringVar(&action, "action", "", "only this action: "+oneOf(policies.Actions[:]))
	cmd.Flags().StringVar(&outcome, "outcome", "", "only this outcome: "+oneOf(policies.Outcomes[:]))
	cmd.Flags().StringVar(&since, "since", "", "only from then on: a duration such as 24h or 30d, or an RFC 3339 time")
	cmd.Flags().IntVar(&limit, "limit", 50, "at most so many; 0: all")
	return cmd
}

func checkFilter(f journal.Filter) error {
	if f.Action != "" && !slices.Contains(policies.Actions[:], f.Action) {
		return fmt.Errorf("--action %q: want %s", f.Action, oneOf(policies.Actions[:]))
	}
	if f.Outcome != "" && !slices.Contains(policies.Outcomes[:], f.Outcome) {
		return fmt.Errorf("--outcome %q: want %s", f.Outcome, oneOf(policies.Outcomes[:]))
	}
	if f.Limit < 0 {
		return fmt.Errorf("--limit %d: want 0 (all) or more", f.Limit)
	}
	return nil
}

func oneOf[T ~string](values []T) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = string(v)
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// readJournal opens the journal of the config's state_dir for reading; nil when there is none yet.
func (a *app) readJournal(ctx context.Context) (*journal.Journal, policies.Config, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, cfg, err
	}
	j, err := journal.OpenReadOnly(ctx, cfg.StateDir)
	if errors.Is(err, journal.ErrNoJournal) {
		return nil, cfg, nil
	}
	return j, cfg, err
}

func (a *app) listActions(ctx context.Context, f journal.Filter) error {
	j, cfg, err := a.readJournal(ctx)
	if err != nil {
		return err
	}
	records := []policies.Record{}
	if j != nil {
		defer j.Close()
		if records, err = j.List(ctx, f); err != nil {
			return err
		}
	}
	switch {
	case a.json():
		return a.printJSON(records)
	case j == nil:
		fmt.Fprintf(a.stdout, "No journal in %s yet: nothing was decided.\n", printable(cfg.StateDir))
	case len(records) == 0:
		fmt.Fprintln(a.stdout, "No such records.")
	default:
		writeActions(a.stdout, records)
	}
	return nil
}

func writeActions(w io.Writer, records []policies.Record) {
	t := plainTable(w, "ID", "DECIDED (UTC)", "INSTANCE", "NODE", "ACTION", "MODE", "OUTCOME", "CAUSE", "WHY")
	for _, r := range records {
		tableRow(t, r.ID, clock(r.At), r.Instance, r.Node, string(r.Action), string(r.Mode), string(r.Outcome), string(r.Cause), whyShort(r))
	}
	t.Flush() // a failed write to stdout has no better place to be told
}

// whyShort is what most explains an outcome: the error, else the guards that denied.
func whyShort(r policies.Record) string {
	if r.Error != "" {
		return r.Error
	}
	guards := make([]string, len(r.DeniedBy))
	for i, g := range r.DeniedBy {
		guards[i] = string(g)
	}
	if len(guards) == 0 {
		return ""
	}
	return "denied by " + strings.Join(guards, ", ")
}

// plainTable is a table without borders; it prints on Flush.
func plainTable(w io.Writer, header ...string) *tabwriter.Writer {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	tableRow(t, header...)
	return t
}

// tableRow adds one row; untrusted texts are made safe, an empty one shows as "-".
func tableRow(t *tabwriter.Writer, cells ...string) {
	row := make([]string, len(cells))
	for i, s := range cells {
		row[i] = dash(printable(s)) // printable leaves no tab that could shift a column
	}
	fmt.Fprintln(t, strings.Join(row, "\t"))
}

func (a *app) newActionsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Tell one decision as a story: what, why, each guard, what was sent, what came of it",
		Example: `  dcshealer actions show 01K9Z3M4        # any beginning that only one record has
  dcshealer actions show 01K9Z3M4 -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			j, cfg, err := a.readJournal(cmd.Context())
			if err != nil {
				return err
			}
			if j == nil {
				return fmt.Errorf("show the record %s: no journal in %s yet: nothing was decided", printable(args[0]), printable(cfg.StateDir))
			}
			defer j.Close()
			r, entries, err := j.Show(cmd.Context(), args[0])
			switch {
			case err != nil:
				return err
			case a.json():
				return a.printJSON(viewOf(r))
			}
			writeStory(a.stdout, r, entries)
			return nil
		},
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
