package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"dcshealer/remediation/journal"
)

func (a *app) newActionsVerifyCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that the journal is what was written",
		Long: `Reads the whole journal and checks each entry's hash, the chain through all of them and that none is missing. It finds edits,
removed, moved and added entries. Who can rewrite the whole file can forge a journal that passes: note the head that is printed
somewhere else, and a later journal that does not contain it is another one. With --file it checks a file that actions export wrote,
by that file alone: no config and no state_dir are needed.`,
		Example: `  dcshealer actions verify
  dcshealer actions verify -o json
  dcshealer actions verify --file journal.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("file") {
				return a.verifyExport(file)
			}
			return a.verifyActions(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "check this export instead of the journal")
	return cmd
}

func (a *app) verifyActions(ctx context.Context) error {
	j, _, err := a.readJournal(ctx)
	if err != nil {
		return err
	}
	v := journal.VerifyResult{OK: true}
	if j != nil {
		defer j.Close()
		if v, err = j.Verify(ctx); err != nil {
			return err
		}
	}
	return a.printVerified("journal", "Keep a copy of healer.db and ask who changed it.", v)
}

func (a *app) verifyExport(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("verify the export %s: %s", printable(file), plainCause(err))
	}
	defer f.Close()
	v, err := journal.VerifyExport(f)
	if err != nil {
		return fmt.Errorf("verify the export %s: %w", printable(file), err)
	}
	return a.printVerified("export", "Keep it and ask who changed it.", v)
}

// printVerified prints what was found; damage is an error that names the first bad entry.
func (a *app) printVerified(what, todo string, v journal.VerifyResult) error {
	if a.json() {
		if err := a.printJSON(v); err != nil {
			return err
		}
	} else if v.OK {
		fmt.Fprintf(a.stdout, "The %s is whole: %d entries, %d records, head %s\n", what, v.Entries, v.Records, dash(v.Head))
		if v.Dropped > 0 {
			fmt.Fprintf(a.stdout, "It begins after entry %d.\n", v.Dropped)
		}
	}
	if v.OK {
		return nil
	}
	record := v.FirstBad.Record
	if record == "" {
		record = "none"
	}
	return exitError{exitFailed, fmt.Sprintf("dcshealer: the %s is not what was written: entry %s (record %s): %s; the %d entries before the fault are whole. %s",
		what, strconv.FormatInt(v.FirstBad.Seq, 10), printable(record), printable(v.FirstBad.Why), v.Entries, todo)}
}
