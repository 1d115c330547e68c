package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/agent/archive"
)

func (a *app) newAlarmsExportCommand() *cobra.Command {
	var f alarmsListFlags
	var out string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write archived alarms as lines of JSON",
		Long: `export writes every archived alarm, the oldest first, one JSON object a line: the payload as it was received, with severity and received
added. Export before archive.keep or archive.max_mb drops what you want to keep.`,
		Example: "  dcshealer alarms export --out alarms.jsonl\n  dcshealer alarms export --since 30d --severity critical > month.jsonl",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.exportAlarms(cmd.Context(), f, out) },
	}
	cmd.Flags().StringVar(&f.severity, "severity", "", "only notice, warning or critical")
	cmd.Flags().StringVar(&f.instance, "instance", "", "only this instance")
	cmd.Flags().StringVar(&f.metric, "metric", "", "only this metric")
	cmd.Flags().StringVar(&f.since, "since", "", "received since: a duration such as 90m, 24h or 30d, or an RFC 3339 time")
	cmd.Flags().StringVar(&out, "out", "", "write to this new file; absent: to standard output")
	addStateDir(cmd, &f.stateDir)
	return cmd
}

func (a *app) exportAlarms(ctx context.Context, f alarmsListFlags, out string) (err error) {
	filter, err := f.filter(time.Now())
	if err != nil {
		return err
	}
	store, err := a.openArchive(ctx, f.stateDir)
	if err != nil {
		return err
	}
	if store == nil {
		return errNoArchive
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	count := 0
	write := func(w io.Writer) error {
		buffered := bufio.NewWriterSize(w, 64<<10)
		_, err := store.Each(ctx, filter, 0, func(s archive.Stored) error { count++; return jsonLine(buffered, s) })
		return errors.Join(err, buffered.Flush())
	}
	if out == "" {
		return write(a.stdout)
	}
	if err := writeNew(out, write); err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(map[string]any{"file": out, "alarms": count})
	}
	_, err = fmt.Fprintf(a.stdout, "wrote %s: %d alarms\n", printable(out), count)
	return err
}
