package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// outputMarkdown is the third form of what report prints.
const outputMarkdown = "markdown"

// report is what report prints.
type report struct {
	Since     time.Time      `json:"since"`
	Until     time.Time      `json:"until"`
	Instances []evidenceView `json:"instances"`
	Notes     []string       `json:"notes"` // what bounds the evidence
}

// evidenceView is the evidence about one instance, in numbers and in words.
type evidenceView struct {
	policies.Evidence
	Text    string           `json:"text"`
	Actions []actionEvidence `json:"actions"`
}

type actionEvidence struct {
	policies.ActionRecord
	Conclusion string         `json:"conclusion"`
	Facts      []evidenceFact `json:"facts"` // always the same ones
}

type evidenceFact struct {
	Name string `json:"name"`
	Text string `json:"text"` // empty: there is nothing
}

func (a *app) newReportCommand() *cobra.Command {
	var instance, since string
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Sum up the evidence for enabling live repair: what it would have done, and did",
		Long: `report reads the journal and tells for each instance and action how often dry run would have acted and what became of the fault without
that, what live actions did and whether that was foretold, how long it took to detect and to repair, and which guards refused how often.`,
		Example: `  dcshealer report
  dcshealer report --since 7d --instance dcs-prod-01
  dcshealer report --since 30d -o markdown > evidence.md`,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{outputsAnnotation: outputMarkdown},
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			from, err := parseSince(since, now)
			if err != nil {
				return fmt.Errorf("--since: %w", err)
			}
			return a.report(cmd.Context(), instance, from, now)
		},
	}
	cmd.Flags().StringVar(&instance, "instance", "", "only this instance")
	cmd.Flags().StringVar(&since, "since", "30d", "from then on: a duration such as 24h or 30d, or an RFC 3339 time")
	return cmd
}

func (a *app) report(ctx context.Context, instance string, since, now time.Time) error {
	j, cfg, err := a.readJournal(ctx)
	if err != nil {
		return err
	}
	if j != nil {
		defer j.Close()
	}
	r, err := reportOf(ctx, j, cfg, instance, since, now)
	if err != nil {
		return err
	}
	switch a.output {
	case "json":
		return a.printJSON(r)
	case outputMarkdown:
		r.writeMarkdown(a.stdout)
	default:
		r.writeText(a.stdout)
	}
	return nil
}

// reportOf sums up what the journal, which may be nil, holds about one instance, or with "" about each.
func reportOf(ctx context.Context, j *journal.Journal, cfg policies.Config, instance string, since, now time.Time) (report, error) {
	names, err := chosen(cfg, instance)
	if err != nil {
		return report{}, err
	}
	r := report{Since: since.UTC().Truncate(time.Second), Until: now.UTC().Truncate(time.Second), Instances: []evidenceView{}, Notes: []string{}}
	if j == nil {
		r.Notes = append(r.Notes, "there is no journal in "+cfg.StateDir+" yet: nothing was decided")
	}
	for _, name := range names {
		in, _ := cfg.Instance(name)
		e, err := evidenceOf(ctx, j, in, since, now)
		if err != nil {
			return report{}, err
		}
		r.Instances = append(r.Instances, inWords(e))
	}
	return r, r.bound(ctx, j)
}

// bound notes where the journal does not reach back as far as was asked for.
func (r *report) bound(ctx context.Context, j *journal.Journal) error {
	if j == nil {
		return nil
	}
	first, err := j.Begins(ctx)
	if err != nil {
		return err
	}
	if !first.IsZero() && first.After(r.Since) {
		r.Notes = append(r.Notes, "the journal begins at "+clock(first)+" UTC: nothing is known from before")
	}
	return nil
}

// evidenceOf gathers what the journal, which may be nil, holds about one instance.
func evidenceOf(ctx context.Context, j *journal.Journal, in policies.Instance, since, now time.Time) (policies.Evidence, error) {
	var (
		grants    []policies.LiveGrant
		incidents []policies.Incident
		records   []policies.Record
		err       error
	)
	if j != nil {
		if grants, err = j.Live(ctx, now); err != nil {
			return policies.Evidence{}, err
		}
		if incidents, err = j.Incidents(ctx, journal.IncidentFilter{Instance: in.Name, Since: since}); err != nil {
			return policies.Evidence{}, err
		}
		from := since
		for _, i := range incidents { // one that was open then already has decisions from before
			if i.Opened.Before(from) {
				from = i.Opened
			}
		}
		if records, err = j.List(ctx, journal.Filter{Instance: in.Name, Since: from}); err != nil {
			return policies.Evidence{}, err
		}
	}
	modes := map[policies.Action]policies.Mode{}
	for _, action := range in.Actions() {
		modes[action], _ = policies.ModeOf(in, action, grants, false, now)
	}
	return policies.EvidenceOf(in, modes, incidents, records, since, now), nil
}
