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

func (a *app) newStatusCommand() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show each instance's state, modes, breakers and last action",
		Long: `Shows what the running healer says, or, when none runs, what the last one said. Modes and pauses are as they are now. A state
is "unknown" where no healer ever saw the instance.`,
		Example: `  dcshealer status
  dcshealer status --watch
  dcshealer status -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return a.watchStatus(cmd.Context())
			}
			now := time.Now()
			s, err := a.readStatus(cmd.Context(), now)
			switch {
			case err != nil:
				return err
			case a.json():
				return a.printJSON(s)
			}
			s.write(a.stdout, now, coloured(a.stdout), widthOf(a.stdout))
			return nil
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show it anew whenever it changes, until Ctrl-C; with -o json one object a line")
	return cmd
}

// stateUnknown is the state of an instance that no healer has said anything about yet.
const stateUnknown policies.State = "unknown"

// fleetStatus is what status prints.
type fleetStatus struct {
	Instances []instanceStatus `json:"instances"`
	Running   bool             `json:"running"`            // a healer runs on this state_dir
	Journal   string           `json:"journal,omitempty"`  // why the running healer does nothing: it has not written its journal
	Bus       string           `json:"bus"`                // without a password; empty: an embedded bus that is not known here
	BusCounts *busCounts       `json:"bus_counts"`         // of the processes that run on this state_dir; null: none does
	BusNote   string           `json:"bus_note,omitempty"` // what of them is not 0, in words

	Notifications []receiverRow `json:"notifications"`         // by receiver of the config
	NotifyNote    string        `json:"notify_note,omitempty"` // what of them waits, failed or was given up, in words
}

type instanceStatus struct {
	Instance   string                            `json:"instance"`
	State      policies.State                    `json:"state"`
	Since      *time.Time                        `json:"since"` // null with an unknown state
	Incidents  []string                          `json:"incidents"`
	Modes      map[policies.Action]policies.Mode `json:"modes"`
	Breakers   map[policies.Action]string        `json:"breakers"`
	Paused     bool                              `json:"paused"`
	LastAction *policies.LastAction              `json:"last_action"`
	Open       []policies.Incident               `json:"open_incidents"`     // in the journal
	Progress   *policies.Progress                `json:"progress,omitempty"` // of the action under way
	Blind      string                            `json:"blind,omitempty"`
}

func (a *app) readStatus(ctx context.Context, now time.Time) (fleetStatus, error) {
	j, cfg, err := a.readJournal(ctx)
	if err != nil {
		return fleetStatus{}, err
	}
	if j != nil {
		defer j.Close()
	}
	return statusOfFleet(ctx, j, cfg, now)
}

// statusOfFleet is what the journal, which may be nil, says of every instance of the config.
func statusOfFleet(ctx context.Context, j *journal.Journal, cfg policies.Config, now time.Time) (fleetStatus, error) {
	s := fleetStatus{Instances: make([]instanceStatus, len(cfg.Instances)), Running: journal.HealerRunning(cfg.StateDir), Bus: busOf(cfg)}
	for i, in := range cfg.Instances {
		s.Instances[i] = statusOf(in, policies.MachineStatus{}, nil, now)
	}
	var err error
	if s.BusCounts, err = readCounts(cfg.StateDir, now); err != nil {
		return s, err
	}
	s.BusNote = s.BusCounts.note()
	told, err := notifyReportOf(ctx, cfg)
	s.Notifications, s.NotifyNote = told.Receivers, told.note()
	if err != nil {
		s.NotifyNote = "what came of notifications cannot be read: " + err.Error()
	}
	if j == nil {
		return s, nil
	}
	if s.Running {
		pulsed, ever, err := j.Pulsed(ctx)
		if err != nil {
			return s, err
		}
		s.Journal = silentJournal(pulsed, ever, now)
	}
	return s, fillStatus(ctx, j, cfg, s, now)
}

// silentJournal says that a running healer has not written its journal for longer than it should. Pure.
func silentJournal(pulsed time.Time, ever bool, now time.Time) string {
	const most = time.Minute // twelve pulses: a slow disk is not a dead one
	if late := now.Sub(pulsed); ever && late > most {
		return fmt.Sprintf("not written for %s: the healer does nothing without a record; see its log, the room on the disk and the rights of state_dir", late.Round(time.Second))
	}
	return ""
}

// fillStatus adds what the journal knows.
func fillStatus(ctx context.Context, j *journal.Journal, cfg policies.Config, s fleetStatus, now time.Time) error {
	grants, err := j.Live(ctx, now)
	if err != nil {
		return err
	}
	saved, err := j.Statuses(ctx)
	if err != nil {
		return err
	}
	to := s.Instances
	for i, in := range cfg.Instances {
		var last policies.MachineStatus
		if k := slices.IndexFunc(saved, func(m policies.MachineStatus) bool { return m.Instance == in.Name }); k >= 0 {
			last = saved[k]
		}
		last.DryRun = last.DryRun && s.Running // the next start may be without
		to[i] = statusOf(in, last, grants, now)
		if _, to[i].Paused, err = j.Paused(ctx, in.Name, now); err != nil {
			return err
		}
		if to[i].LastAction, err = j.LastAction(ctx, in.Name); err != nil {
			return err
		}
		if to[i].Open, err = j.Incidents(ctx, journal.IncidentFilter{Instance: in.Name, Open: true}); err != nil {
			return err
		}
	}
	return nil
}

// statusOf joins the config, the grants and what a healer last said of the instance; its zero value is: nothing. Pure.
func statusOf(in policies.Instance, last policies.MachineStatus, grants []policies.LiveGrant, now time.Time) instanceStatus {
	s := instanceStatus{Instance: in.Name, State: stateUnknown, Incidents: []string{}, Open: []policies.Incident{}, Modes: map[policies.Action]policies.Mode{}, Breakers: map[policies.Action]string{}, Blind: last.Blind}
	for _, action := range in.Actions() {
		s.Modes[action], _ = policies.ModeOf(in, action, grants, last.DryRun, now)
	}
	if last.State != "" {
		since := last.Since.UTC()
		s.State, s.Since = last.State, &since
	}
	if last.Incidents != nil {
		s.Incidents = last.Incidents
	}
	if last.Breakers != nil {
		s.Breakers = last.Breakers
	}
	s.Progress = last.Progress
	return s
}

// busOf is where alarms go: what the last run wrote down, else what the config says; never a password.
func busOf(cfg policies.Config) string {
	if info, err := readRunInfo(cfg.StateDir); err == nil && info.Bus != "" {
		return maskURL(info.Bus)
	}
	return maskURL(cfg.Bus.URL.Reveal())
}
