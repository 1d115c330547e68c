package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/policies"
)

// publishFlags are one alarm as it is typed.
type publishFlags struct {
	busFlags
	severity, metric, value, threshold string
	alarm                              policies.Alarm
}

func (a *app) newPublishCommand() *cobra.Command {
	var f publishFlags
	cmd := &cobra.Command{
		Use:   "publish",
		Short: "Put one alarm on the bus",
		Long: `publish sends one alarm in the wire format, with an id, the time and this host as its source, and prints how many subscribers the
server counted. A healer takes it as a hint and looks for itself.`,
		Example: `  dcshealer publish --severity critical --instance dcs-prod-02 --metric used_memory_mb --value 8190 --threshold 8192 --pct 99.97% --msg "memory is full"
  dcshealer publish --severity critical --instance dcs-prod-01 --metric replication_status --value down --slave dcs-slave-01 --msg "link down" --bus redis://127.0.0.1:6379`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.publish(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.severity, "severity", "", "notice, warning or critical")
	flags.StringVar(&f.alarm.Instance, "instance", "", "the instance's name")
	flags.StringVar(&f.metric, "metric", "", "what it is about, such as used_memory_mb")
	flags.StringVar(&f.value, "value", "", "the reading; a number goes out as a number")
	flags.StringVar(&f.alarm.Msg, "msg", "", "text for people")
	flags.StringVar(&f.threshold, "threshold", "", "the limit that the value is measured against")
	flags.StringVar(&f.alarm.Pct, "pct", "", "share of the limit, such as 99.97%")
	flags.StringVar(&f.alarm.Window, "window", "", `time that the value is about, such as "Last 5 minutes"`)
	flags.StringVar(&f.alarm.Slave, "slave", "", "the replica's node name")
	flags.StringVar(&f.alarm.Node, "node", "", "the node's name")
	for _, name := range []string{"severity", "instance", "metric"} {
		_ = cmd.MarkFlagRequired(name) // fails only for a flag that is not there
	}
	f.add(cmd)
	return cmd
}

// wireValue sends what JSON calls a number as a number, all else as text.
func wireValue(s string) policies.Value {
	var n float64
	if s == "" {
		return policies.Value{}
	}
	if err := json.Unmarshal([]byte(s), &n); err == nil && s != "null" {
		return policies.Num(n)
	}
	return policies.Text(s)
}

func (f publishFlags) build(now time.Time) (policies.Alarm, error) {
	severity, err := policies.ParseSeverity(f.severity)
	if err != nil {
		return policies.Alarm{}, fmt.Errorf("--severity: %w", err)
	}
	al := f.alarm
	al.Severity, al.Metric, al.Value, al.Threshold = severity, policies.Metric(f.metric), wireValue(f.value), wireValue(f.threshold)
	al.ID, al.At, al.Source, al.Status = newID(), now, "publish@"+operator("").Host, policies.Firing
	return al, nil
}

// published is what publish -o json prints.
type published struct {
	ID          string          `json:"id"`
	Channel     string          `json:"channel"`
	Subscribers int64           `json:"subscribers"`
	Alarm       json.RawMessage `json:"alarm"`
}

func (a *app) publish(ctx context.Context, f publishFlags) (err error) {
	alarm, err := f.build(time.Now())
	if err != nil {
		return err
	}
	cfg, err := a.settings(f.busFlags)
	if err != nil {
		return err
	}
	b, err := a.connect(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	n, err := b.Send(ctx, alarm)
	if err != nil {
		return err
	}
	for kind := range b.StreamFaults() {
		fmt.Fprintf(a.stderr, "published, but not added to the stream (%s): a reader that is away now misses it\n", kind)
	}
	channel := alarm.Channel(b.Prefix())
	if a.json() {
		payload, err := b.Encode(alarm)
		if err != nil {
			return err
		}
		return a.printJSON(published{ID: alarm.ID, Channel: channel, Subscribers: n, Alarm: payload})
	}
	fmt.Fprintf(a.stdout, "published %s to %s, %d subscribers\n", alarm.ID, printable(channel), n)
	return nil
}
