package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/agent/archive"
	"dcshealer/policies"
)

func (a *app) newAlarmsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "alarms",
		Short:   "Query the archive of alarms",
		Long:    "alarms reads STATE_DIR/" + archiveFile + ", which the archiver writes. It works beside a running process and without one.",
		Example: "  dcshealer alarms list --severity critical --since 24h\n  dcshealer alarms trend --by instance --bucket 10m --since 6h",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newAlarmsListCommand(), a.newAlarmsTrendCommand(), a.newAlarmsExportCommand())
	return cmd
}

type alarmsListFlags struct {
	severity, instance, metric, since, stateDir string
	limit                                       int
	follow                                      bool
}

func (a *app) newAlarmsListCommand() *cobra.Command {
	var f alarmsListFlags
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List archived alarms, newest first",
		Long:    "list prints archived alarms, the newest first. With --follow they come oldest first, and then each that is archived, until Ctrl-C; in JSON one a line.",
		Example: "  dcshealer alarms list --severity critical --since 24h\n  dcshealer alarms list --instance dcs-prod-02 --limit 20 -o json\n  dcshealer alarms list -f --severity critical",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listAlarms(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.severity, "severity", "", "only notice, warning or critical")
	cmd.Flags().StringVar(&f.instance, "instance", "", "only this instance")
	cmd.Flags().StringVar(&f.metric, "metric", "", "only this metric")
	cmd.Flags().StringVar(&f.since, "since", "", "received since: a duration such as 90m, 24h or 30d, or an RFC 3339 time")
	cmd.Flags().IntVar(&f.limit, "limit", 100, "at most so many, the newest; 0: all")
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on with each alarm that is archived")
	addStateDir(cmd, &f.stateDir)
	return cmd
}

func addStateDir(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "state-dir", "", "folder of the archive (default: that of the config, or ./state)")
}

func (f alarmsListFlags) filter(now time.Time) (archive.Filter, error) {
	q := archive.Filter{Instance: f.instance, Metric: policies.Metric(f.metric), Limit: f.limit}
	var errs [3]error
	if f.severity != "" {
		if q.Severity, errs[0] = policies.ParseSeverity(f.severity); errs[0] != nil {
			errs[0] = fmt.Errorf("--severity: %w", errs[0])
		}
	}
	if q.Since, errs[1] = parseSince(f.since, now); errs[1] != nil {
		errs[1] = fmt.Errorf("--since %w", errs[1])
	}
	if f.limit < 0 {
		errs[2] = fmt.Errorf("--limit %d: want 0 for all, or more", f.limit)
	}
	return q, errors.Join(errs[:]...)
}

// openArchive is nil, with a note on stderr, where no archiver has written yet.
func (a *app) openArchive(ctx context.Context, stateDir string) (*archive.Archive, error) {
	if stateDir == "" {
		cfg, err := a.settings(busFlags{})
		if err != nil {
			return nil, err
		}
		stateDir = cfg.StateDir
	}
	store, err := archiveOf(ctx, stateDir)
	if err == nil && store == nil {
		fmt.Fprintf(a.stderr, "no alarm archive in %s yet: the archiver writes it (dcshealer run, or observe archiver)\n", printable(stateDir))
		return nil, nil
	}
	return store, err
}

func (a *app) listAlarms(ctx context.Context, f alarmsListFlags) (err error) {
	filter, err := f.filter(time.Now())
	if err != nil {
		return err
	}
	store, err := a.openArchive(ctx, f.stateDir)
	if err != nil {
		return err
	}
	list := []archive.Stored{}
	if f.follow && store == nil {
		return errNoArchive
	}
	if store != nil {
		defer func() { err = errors.Join(err, store.Close()) }()
		if f.follow {
			return a.followAlarms(ctx, store, filter)
		}
		if list, err = store.List(ctx, filter); err != nil {
			return err
		}
	}
	if a.json() {
		return a.printAlarms(list)
	}
	t := plainTable(a.stdout, "RECEIVED (UTC)", "SEVERITY", "INSTANCE", "METRIC", "VALUE", "THRESHOLD", "PCT", "MSG")
	for _, s := range list {
		al := s.Alarm
		tableRow(t, clock(s.Received), al.Severity.String(), cell(al.Instance), cell(string(al.Metric)), cell(al.Value.String()), cell(al.Threshold.String()),
			cell(al.Pct), policies.Printable(al.Msg, 200))
	}
	return t.Flush()
}

// cell is a text of anybody on the bus, no longer than a column may be: one long name would push the others off the screen.
func cell(s string) string { return policies.Printable(s, 40) }

// printAlarms prints the payloads as they were received, unknown fields too, with severity and received added.
func (a *app) printAlarms(list []archive.Stored) error {
	objects, err := wireObjects(list)
	if err != nil {
		return err
	}
	return a.printJSON(objects)
}

func wireObjects(list []archive.Stored) ([]map[string]json.RawMessage, error) {
	objects := make([]map[string]json.RawMessage, 0, len(list))
	for _, s := range list {
		object, err := wireObject(s)
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return objects, nil
}

func wireObject(s archive.Stored) (object map[string]json.RawMessage, err error) {
	payload := s.Payload
	if s.Cut() { // no whole object is left
		if payload, err = policies.EncodeAlarm(s.Alarm); err != nil {
			return nil, err
		}
	}
	if err := json.Unmarshal(strictJSON(payload), &object); err != nil {
		return nil, fmt.Errorf("archived alarm of %s: %w", printable(s.Alarm.Instance), err)
	}
	object["severity"], _ = json.Marshal(s.Alarm.Severity) // neither can fail
	object["received"], _ = json.Marshal(s.Received)
	return object, nil
}
