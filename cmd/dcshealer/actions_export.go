package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/remediation/journal"
)

func (a *app) newActionsExportCommand() *cobra.Command {
	var since, out string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the journal as lines of JSON that prove themselves",
		Long: `Writes each entry of the journal as it stands, one a line, after a header that says where the chain begins and ends. Who has the
file can check it with nothing else: dcshealer actions verify --file FILE. Export before journal.keep drops what an auditor wants.`,
		Example: `  dcshealer actions export --out journal.jsonl
  dcshealer actions export --since 30d > month.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			from, err := parseSince(since, now)
			if err != nil {
				return fmt.Errorf("--since: %w", err)
			}
			return a.exportActions(cmd.Context(), out, from, now)
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "only from then on: a duration such as 24h or 30d, or an RFC 3339 time")
	cmd.Flags().StringVar(&out, "out", "", "write to this new file; absent: to standard output")
	return cmd
}

func (a *app) exportActions(ctx context.Context, out string, since, now time.Time) error {
	j, cfg, err := a.readJournal(ctx)
	if err != nil {
		return err
	}
	if j == nil {
		return fmt.Errorf("export the journal: no journal in %s yet: nothing was decided", printable(cfg.StateDir))
	}
	defer j.Close()
	var v journal.VerifyResult
	write := func(w io.Writer) (err error) { v, err = j.Export(ctx, w, since, now); return err }
	if out == "" {
		err = write(a.stdout)
	} else {
		err = writeNew(out, write)
	}
	switch {
	case err != nil:
		return err
	case !v.OK:
		return exitError{exitFailed, fmt.Sprintf("dcshealer: exported, but the journal is not what was written: entry %d: %s; see: dcshealer actions verify",
			v.FirstBad.Seq, printable(v.FirstBad.Why))}
	case out == "":
		return nil
	case a.json():
		return a.printJSON(map[string]any{"file": out, "entries": v.Entries, "head": v.Head})
	}
	_, err = fmt.Fprintf(a.stdout, "wrote %s: %d entries, head %s\ncheck it with: dcshealer actions verify --file %s\n", printable(out), v.Entries, dash(v.Head), shellWord(out))
	return err
}

// writeNew writes a file that is not there yet, for this user alone; it is there with all of its content or not at all.
func writeNew(file string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".export-*")
	if err != nil {
		return fmt.Errorf("write %s: %s", printable(file), plainCause(err))
	}
	defer os.Remove(f.Name()) //nolint:errcheck // its content has its own name by then, or was not whole
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", printable(file), err)
	}
	if err := os.Link(f.Name(), file); err != nil {
		return fmt.Errorf("write %s: %s; it replaces no file: name another one, or remove it", printable(file), plainCause(err))
	}
	return nil
}
