package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/agent/observer/notify"
	"dcshealer/policies"
)

func (a *app) newNotifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "notify",
		Short:   "See what the receivers of notifications got, test them, or send again what they did not get",
		Example: "  dcshealer notify list\n  dcshealer notify test on-call-mail\n  dcshealer notify retry",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newNotifyListCommand(), a.newNotifyTestCommand(), a.newNotifyRetryCommand())
	return cmd
}

func (a *app) newNotifyListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the receivers, what waits for each, and the notices that were given up",
		Long: `list shows the receivers of the config and what came of their notices: the events that have not reached them yet, the notices that were
given up (dead), when one was last delivered, and why the last try failed. Below are the dead ones; notify retry sends them again.`,
		Example: "  dcshealer notify list\n  dcshealer notify list -o json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listNotify(cmd.Context(), time.Now()) },
	}
}

// receiverRow is one receiver, as notify list and status show it.
type receiverRow struct {
	notify.Account
	Kind      string                `json:"kind"`      // webhook, or the service of shoutrrr, such as smtp
	Events    []policies.NoticeKind `json:"events"`    // empty: all
	Instances []string              `json:"instances"` // empty: all
}

// deadLetter is a notice that was given up.
type deadLetter struct {
	Receiver string    `json:"receiver"`
	ID       string    `json:"id"`
	At       time.Time `json:"at"`
	Title    string    `json:"title"`
	Events   int       `json:"events"`
	Attempts int       `json:"attempts"`
	Error    string    `json:"error"`
}

// notifyReport is what notify list prints.
type notifyReport struct {
	Receivers []receiverRow `json:"receivers"`
	Dead      []deadLetter  `json:"dead"`
}

// shownDead bounds the dead letters that the text shows.
const shownDead = 20

func (a *app) listNotify(ctx context.Context, now time.Time) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	r, err := notifyReportOf(ctx, cfg)
	switch {
	case err != nil:
		return err
	case a.json():
		return a.printJSON(r)
	case len(r.Receivers) == 0:
		fmt.Fprintf(a.stdout, "No receivers: %s names none under notify. The role dba tells its console alone.\n", printable(a.configPath()))
		return nil
	}
	t := plainTable(a.stdout, "RECEIVER", "KIND", "PENDING", "DEAD", "DELIVERED", "LAST", "LAST ERROR")
	for _, to := range r.Receivers {
		last, fault := "never", "-"
		if to.LastDelivered != nil {
			last = span(now.Sub(*to.LastDelivered)) + " ago"
		}
		if to.LastFailed != nil {
			fault = span(now.Sub(*to.LastFailed)) + " ago: " + to.LastError
		}
		tableRow(t, to.Receiver, to.Kind, fmt.Sprint(to.Pending), fmt.Sprint(to.Dead), fmt.Sprint(to.Delivered), last, fault)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	a.printDead(r.Dead)
	return nil
}

func (a *app) printDead(dead []deadLetter) {
	for i, l := range dead {
		if i == 0 {
			fmt.Fprintln(a.stdout, "\nGiven up (dcshealer notify retry sends them again):")
		}
		if i == shownDead {
			fmt.Fprintf(a.stdout, "  and %d more: dcshealer notify list -o json\n", len(dead)-i)
			return
		}
		fmt.Fprintf(a.stdout, "  %s  %s: %s: %s\n", clock(l.At), printable(l.Receiver), printable(l.Title), printable(l.Error))
	}
}

// notifyReportOf joins the receivers of the config with what came of their notices.
func notifyReportOf(ctx context.Context, cfg policies.Config) (notifyReport, error) {
	r := notifyReport{Receivers: []receiverRow{}, Dead: []deadLetter{}}
	for _, to := range cfg.Notify.Receivers {
		kind, _, _ := strings.Cut(to.URL.Reveal(), ":")
		if to.Webhook {
			kind = "webhook"
		}
		row := receiverRow{Account: notify.Account{Receiver: to.Name}, Kind: kind, Events: []policies.NoticeKind{}, Instances: []string{}}
		row.Events, row.Instances = append(row.Events, to.Events...), append(row.Instances, to.Instances...)
		r.Receivers = append(r.Receivers, row)
	}
	if len(r.Receivers) == 0 {
		return r, nil
	}
	o, err := notify.ReadOutbox(ctx, outboxPath(cfg.StateDir))
	if errors.Is(err, notify.ErrNoOutbox) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	defer o.Close()
	accounts, err := o.Accounts(ctx)
	if err != nil {
		return r, err
	}
	for _, account := range accounts {
		for i := range r.Receivers {
			if r.Receivers[i].Receiver == account.Receiver {
				r.Receivers[i].Account = account
			}
		}
	}
	letters, err := o.Letters(ctx)
	for _, l := range letters {
		if _, known := cfg.Notify.Receiver(l.Receiver); l.Dead && known {
			r.Dead = append(r.Dead, deadLetter{Receiver: l.Receiver, ID: l.Notice.ID, At: l.Notice.At, Title: l.Notice.Title,
				Events: len(l.Notice.Events) + l.Notice.More, Attempts: l.Attempts, Error: l.Error})
		}
	}
	return r, err
}

// mostNoted receivers are named by note, which is one line of many.
const mostNoted = 3

// note says what is not well with a receiver, for a person; empty where all is.
func (r notifyReport) note() string {
	var parts []string
	for _, to := range r.Receivers {
		var said []string
		if to.Pending > 0 {
			said = append(said, fmt.Sprintf("%d pending", to.Pending))
		}
		if to.Dead > 0 {
			said = append(said, fmt.Sprintf("%d given up", to.Dead))
		}
		if to.Failing {
			said = append(said, "failing ("+to.LastError+")")
		}
		if len(said) > 0 {
			parts = append(parts, to.Receiver+": "+strings.Join(said, ", "))
		}
	}
	switch more := len(parts) - mostNoted; {
	case len(parts) == 0:
		return ""
	case more > 0:
		parts = append(parts[:mostNoted], fmt.Sprintf("%d more", more))
	}
	return "notifications: " + strings.Join(parts, "; ") + "; see dcshealer notify list"
}

func (a *app) newNotifyTestCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "test [RECEIVER]",
		Short: "Send a test notice to each receiver, or to one, and say what came of it",
		Long: `test sends one notice of the kind test to each receiver of the config, whatever events it asks for, by its URL, key and template. It waits for
the answers and tries nothing twice. Exit 0: each took it, 1: one did not.`,
		Example: "  dcshealer notify test\n  dcshealer notify test on-call-mail -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.testNotify(cmd.Context(), strings.Join(args, ""))
		},
	}
}

// testResult is what came of a test notice.
type testResult struct {
	Receiver string  `json:"receiver"`
	OK       bool    `json:"ok"`
	Took     float64 `json:"took"` // seconds
	Error    string  `json:"error,omitempty"`
}

// testWithin bounds one test notice; the senders bound themselves below it.
const testWithin = 30 * time.Second

func (a *app) testNotify(ctx context.Context, only string) error {
	cfg, receivers, err := a.receivers(only)
	if err != nil {
		return err
	}
	results := make([]testResult, len(receivers))
	var wg sync.WaitGroup
	for i, r := range receivers {
		wg.Go(func() { results[i] = testReceiver(ctx, cfg, r) })
	}
	wg.Wait()
	failed := 0
	for _, r := range results {
		if !r.OK {
			failed++
		}
	}
	if a.json() {
		if err := a.printJSON(results); err != nil {
			return err
		}
	} else {
		t := plainTable(a.stdout, "RECEIVER", "RESULT", "TOOK", "ERROR")
		for _, r := range results {
			word := "delivered"
			if !r.OK {
				word = "failed"
			}
			tableRow(t, r.Receiver, word, fmt.Sprintf("%.2f s", r.Took), dash(r.Error))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if failed > 0 {
		return exitError{code: exitFailed, msg: fmt.Sprintf("%d of %s did not take the test notice", failed, nounCount(len(results), "receiver"))}
	}
	return nil
}

// receivers are those of the config, or the one that is named.
func (a *app) receivers(only string) (cfg policies.Config, receivers []policies.Receiver, err error) {
	if cfg, err = a.config(); err != nil {
		return cfg, nil, err
	}
	if len(cfg.Notify.Receivers) == 0 {
		return cfg, nil, fmt.Errorf("no receivers: %s names none under notify", a.configPath())
	}
	if only == "" {
		return cfg, cfg.Notify.Receivers, nil
	}
	r, ok := cfg.Notify.Receiver(only)
	if !ok {
		names := make([]string, len(cfg.Notify.Receivers))
		for i, to := range cfg.Notify.Receivers {
			names[i] = to.Name
		}
		return cfg, nil, fmt.Errorf("receiver %q: want one of the config: %s", only, strings.Join(names, ", "))
	}
	return cfg, []policies.Receiver{r}, nil
}

func testReceiver(ctx context.Context, cfg policies.Config, r policies.Receiver) testResult {
	ctx, cancel := context.WithTimeout(ctx, testWithin)
	defer cancel()
	began := time.Now()
	err := func() error {
		sender, err := notify.NewSender(r)
		if err != nil {
			return err
		}
		template, err := notify.ParseTemplate(r.Title, r.Template)
		if err != nil {
			return err
		}
		op := operator(sessionUser())
		e := notify.Event{Kind: notify.KindTest, At: began.UTC(), Instance: cfg.Instances[0].Name,
			Msg: fmt.Sprintf("a test of the receiver %s by %s on %s: nothing has happened", r.Name, cmp.Or(op.By, "somebody"), op.Host)}
		return sender.Send(ctx, template.Apply(notify.NewNotice(newID(), op.Host, []notify.Event{e}, began)))
	}()
	result := testResult{Receiver: r.Name, OK: err == nil, Took: time.Since(began).Seconds()}
	if err != nil {
		result.Error = err.Error()
	}
	return result
}

func (a *app) newNotifyRetryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "retry [RECEIVER]",
		Short: "Have the notices that were given up sent again, of all receivers or of one",
		Long: `retry puts the dead notices back on their way. The dcshealer that runs with the role dba on the same state_dir sends them, or the next one
that does; each is tried for as long as a new one.`,
		Example: "  dcshealer notify retry\n  dcshealer notify retry on-call-mail",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.retryNotify(cmd.Context(), strings.Join(args, ""))
		},
	}
}

func (a *app) retryNotify(ctx context.Context, only string) (err error) {
	cfg, _, err := a.receivers(only)
	if err != nil {
		return err
	}
	var n int64
	switch o, openErr := notify.ReadOutbox(ctx, outboxPath(cfg.StateDir)); {
	case errors.Is(openErr, notify.ErrNoOutbox): // and none is made
	case openErr != nil:
		return openErr
	default:
		if err := o.Close(); err != nil {
			return fmt.Errorf("close the outbox of notifications: %w", err)
		}
		if n, err = revive(ctx, cfg, only); err != nil {
			return err
		}
	}
	if a.json() {
		return a.printJSON(map[string]int64{"retried": n})
	}
	if n == 0 {
		fmt.Fprintln(a.stdout, "No notice was given up.")
		return nil
	}
	fmt.Fprintf(a.stdout, "%s on the way again; see: dcshealer notify list\n", nounCount(int(n), "notice"))
	return nil
}

func revive(ctx context.Context, cfg policies.Config, only string) (n int64, err error) {
	o, err := notify.OpenOutbox(ctx, outboxPath(cfg.StateDir))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	return o.Revive(ctx, only, time.Now())
}
