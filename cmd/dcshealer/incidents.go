package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/agent/archive"
	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

func (a *app) newIncidentsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "incidents",
		Short:   "Follow incidents: from the first alarm to the proof that it is gone",
		Example: "  dcshealer incidents list --open\n  dcshealer incidents show 01K9Z",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newIncidentsListCommand(), a.newIncidentsShowCommand())
	return cmd
}

func (a *app) newIncidentsListCommand() *cobra.Command {
	var since string
	var f journal.IncidentFilter
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List incidents, newest first",
		Example: "  dcshealer incidents list --open\n  dcshealer incidents list --instance dcs-prod-01 --since 30d -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if f.Since, err = parseSince(since, time.Now()); err != nil {
				return fmt.Errorf("--since: %w", err)
			}
			if f.Limit < 0 {
				return fmt.Errorf("--limit %d: want 0 (all) or more", f.Limit)
			}
			return a.listIncidents(cmd.Context(), f, time.Now())
		},
	}
	cmd.Flags().StringVar(&f.Instance, "instance", "", "only this instance")
	cmd.Flags().BoolVar(&f.Open, "open", false, "only those that have not ended")
	cmd.Flags().StringVar(&since, "since", "", "only those that were open then or later: a duration such as 24h or 30d, or an RFC 3339 time")
	cmd.Flags().IntVar(&f.Limit, "limit", 50, "at most so many; 0: all")
	return cmd
}

func (a *app) listIncidents(ctx context.Context, f journal.IncidentFilter, now time.Time) error {
	j, cfg, err := a.readJournal(ctx)
	if err != nil {
		return err
	}
	all := []policies.Incident{}
	if j != nil {
		defer j.Close()
		if all, err = j.Incidents(ctx, f); err != nil {
			return err
		}
	}
	switch {
	case a.json():
		return a.printJSON(all)
	case j == nil:
		fmt.Fprintf(a.stdout, "No journal in %s yet: there was no incident.\n", printable(cfg.StateDir))
		return nil
	case len(all) == 0:
		fmt.Fprintln(a.stdout, "No such incidents.")
		return nil
	}
	t := plainTable(a.stdout, "ID", "BEGAN (UTC)", "LASTED", "INSTANCE", "NODE", "METRIC", "CAUSE", "ENDED", "TAKEN BY")
	for _, i := range all {
		ended, taken := "open", ""
		if !i.Open() {
			ended = resolutionText(i.Resolution)
		}
		if i.Ack != nil {
			taken = i.Ack.By
		}
		tableRow(t, i.ID, clock(i.Began()), span(i.Lasted(now)), i.Instance, i.Node, string(i.Metric), string(i.Cause), ended, taken)
	}
	return t.Flush()
}

// resolutionText says how an incident ended.
func resolutionText(r policies.Resolution) string {
	switch r {
	case policies.ResolvedByUs:
		return "repaired"
	case policies.ResolvedByOther:
		return "by a person or another controller"
	case policies.ResolvedByItself:
		return "by itself"
	case policies.ResolvedUnknown:
		return "by itself or by a person"
	case policies.CameBack:
		return "repaired, and came back"
	case policies.Abandoned:
		return "not watched any more"
	}
	return string(r)
}

// incidentReport is what incidents show prints as JSON.
type incidentReport struct {
	Incident   policies.Incident `json:"incident"`
	Conclusion string            `json:"conclusion"` // of the newest decision
	Story      []storyEvent      `json:"story"`
	Records    []recordView      `json:"records"`
}

func (a *app) newIncidentsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Tell one incident as a story, in the order of time",
		Example: `  dcshealer incidents show 01K9Z3M4        # any beginning that only one incident has
  dcshealer incidents show 01K9Z3M4 -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.showIncident(cmd.Context(), args[0], time.Now())
		},
	}
}

func (a *app) showIncident(ctx context.Context, id string, now time.Time) error {
	j, cfg, err := a.readJournal(ctx)
	if err != nil {
		return err
	}
	if j == nil {
		return fmt.Errorf("show the incident %s: no journal in %s yet: there was no incident", printable(id), printable(cfg.StateDir))
	}
	defer j.Close()
	r, err := incidentReportOf(ctx, j, cfg, id, now)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(r)
	}
	r.write(a.stdout, now)
	return nil
}

// incidentReportOf joins what journal and archive hold about one incident.
func incidentReportOf(ctx context.Context, j *journal.Journal, cfg policies.Config, id string, now time.Time) (incidentReport, error) {
	file, err := j.Incident(ctx, id)
	if err != nil {
		return incidentReport{}, err
	}
	alarms, err := alarmsOf(ctx, cfg, file.Incident, now)
	if err != nil {
		return incidentReport{}, err
	}
	r := incidentReport{Incident: file.Incident, Conclusion: "no decision has been written yet", Story: tell(file, alarms), Records: []recordView{}}
	for _, rec := range file.Records {
		v := viewOf(rec)
		r.Conclusion, r.Records = v.Conclusion, append(r.Records, v)
	}
	return r, nil
}

// alarmsAround is how far from an incident its alarms may lie: the first comes before it is confirmed, the resolution after it is gone.
const alarmsAround = 2 * time.Minute

// alarmsOf finds the alarms about an incident in the archive, oldest first; none where no archiver has written.
func alarmsOf(ctx context.Context, cfg policies.Config, in policies.Incident, now time.Time) (out []archive.Stored, err error) {
	store, err := archiveOf(ctx, cfg.StateDir)
	if store == nil || err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	until := now
	if !in.Open() {
		until = in.Closed.Add(alarmsAround)
	}
	all, err := store.List(ctx, archive.Filter{Instance: in.Instance, Metric: in.Metric, Since: in.Began().Add(-alarmsAround), Until: until})
	for i := len(all) - 1; i >= 0; i-- {
		if node := cmpNode(all[i].Alarm); node == "" || node == in.Node {
			out = append(out, all[i])
		}
	}
	return out, err
}

// cmpNode is the node that an alarm is about, by whichever field names it; empty: it does not say.
func cmpNode(a policies.Alarm) string {
	if a.Slave != "" {
		return a.Slave
	}
	return a.Node
}
