package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

func (a *app) newAckCommand() *cobra.Command {
	var f wordFlags
	var note string
	cmd := &cobra.Command{
		Use:   "ack INCIDENT",
		Short: "Take an incident: the healer looks at it anew",
		Long: `ack writes down that a person has taken an incident. What the healer had given up on its instance is looked at anew: a right that was
granted or a setting that was changed meanwhile counts.`,
		Example: `  dcshealer ack 01K9Z3M4 --note "the right is granted"        # any beginning that only one incident has`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.ack(cmd.Context(), args[0], f.person(), note) },
	}
	cmd.Flags().StringVar(&note, "note", "", "what others should know; it goes into the journal")
	f.addBy(cmd)
	return cmd
}

func (a *app) ack(ctx context.Context, id, by, note string) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	in, err := acknowledge(ctx, cfg, id, by, note)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(in)
	}
	then := "a running healer looks at it anew"
	if !in.Open() {
		then = "it had ended already: " + resolutionText(in.Resolution)
	}
	fmt.Fprintln(a.stdout, printable(fmt.Sprintf("Incident %s (%s on %s of %s) is taken by %s; %s. Its story: dcshealer incidents show %s", in.ID, in.Cause, in.Node, in.Instance, by, then, in.ID)))
	return nil
}

// acknowledge writes down who has taken an incident.
func acknowledge(ctx context.Context, cfg policies.Config, id, by, note string) (in policies.Incident, err error) {
	err = write(ctx, cfg, by, func(j *journal.Journal) (err error) {
		in, err = j.Acknowledge(ctx, id, policies.Ack{By: by, Note: strings.TrimSpace(note), At: moment()})
		return err
	})
	return in, err
}
