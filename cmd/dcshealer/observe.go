package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"

	"dcshealer/agent/archive"
	"dcshealer/agent/bus"
	"dcshealer/agent/observer"
	"dcshealer/policies"
)

// archiveFile is the alarm archive's name in a state_dir.
const archiveFile = archive.FileName

func (a *app) newObserveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "observe",
		Short: "Show one role's console on any bus, standalone",
		Long: `observe runs one observer by itself, on any bus that carries alarms in the wire format. It keeps receiving after the bus
was away; the archiver also keeps what it missed, where the alarms were added to the stream. Stop it with Ctrl-C.`,
		Example: "  dcshealer observe dba --bus redis://127.0.0.1:6379\n  dcshealer observe archiver --bus redis://127.0.0.1:6379 --state-dir ./state\n  dcshealer observe dba --bus rediss://bus.internal:6380 --ca-file ca.pem --cert-file client.pem --key-file client.key",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		a.newObserveRole("dba", "Print critical alarms, for the person on duty", observer.DBATopics()),
		a.newObserveRole("dashboard", "Print critical and warning alarms, for the O&M team", observer.DashboardTopics()),
		a.newObserveRole("archiver", "Keep every alarm in STATE_DIR/"+archiveFile+" and print it", observer.ArchiverTopics()),
		a.newObserveRole("healer", "Print what a healer says first to each critical alarm; heals nothing", observer.DBATopics()),
	)
	return cmd
}

func (a *app) newObserveRole(role, short string, topics policies.Topics) *cobra.Command {
	var f busFlags
	var l logFlags
	cmd := &cobra.Command{
		Use:     role,
		Short:   short,
		Example: "  dcshealer observe " + role + " --bus redis://127.0.0.1:6379",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.json() {
				return errors.New("observe prints lines for people; for JSON use alarms list -o json")
			}
			log, err := l.newLogger(a.stderr)
			if err != nil {
				return err
			}
			return a.observe(cmd.Context(), role, topics, f, log)
		},
	}
	f.add(cmd)
	if role == "archiver" {
		cmd.Flags().StringVar(&f.stateDir, "state-dir", "", "folder of the archive (default: that of the config, or ./state)")
	}
	cmd.Flags().StringVar(&l.format, "log-format", "text", "text or json")
	cmd.Flags().StringVar(&l.level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// observe runs until the context ends.
func (a *app) observe(ctx context.Context, role string, topics policies.Topics, f busFlags, log *slog.Logger) (err error) {
	cfg, err := a.settings(f)
	if err != nil {
		return err
	}
	b, err := a.connect(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	r, err := openRole(ctx, role, topics, b, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	decoder := bus.NewDecoder(b.Prefix(), log.With("component", role))
	if role == "archiver" {
		decoder.CountGaps() // it reads every channel
	}
	o := observer.Options{Feed: r.feed, Decode: decoder, Out: a.stdout, Prefix: b.Prefix(), Log: log}
	var wg sync.WaitGroup
	defer wg.Wait() // before the archive is closed
	wg.Go(func() { _ = r.run(o)(ctx) })
	if r.store != nil {
		wg.Go(func() { _ = r.store.Retain(ctx, archiveLimits(cfg), log.With("component", "archive")) })
	}
	return r.feed.Run(ctx)
}

// observed is a role with its feed and what to close after it.
type observed struct {
	feed  *bus.Subscription
	store *archive.Archive // nil: it keeps nothing
	run   func(observer.Options) func(context.Context) error
	close func() error
}

func openRole(ctx context.Context, role string, topics policies.Topics, b *bus.Bus, cfg policies.Config) (observed, error) {
	r := observed{close: func() error { return nil }}
	switch role {
	case "dba":
		r.run = func(o observer.Options) func(context.Context) error { return observer.NewDBA(o).Run }
	case "dashboard":
		r.run = func(o observer.Options) func(context.Context) error { return observer.NewDashboard(o).Run }
	case "healer":
		r.run = func(o observer.Options) func(context.Context) error { return observer.NewHealerConsole(o).Run }
	}
	if r.run != nil {
		r.feed = b.Subscribe(topics)
		return r, nil
	}
	store, err := archive.Open(ctx, filepath.Join(cfg.StateDir, archiveFile))
	if err != nil {
		return r, err
	}
	r.run = func(o observer.Options) func(context.Context) error { return observer.NewArchiver(o, store).Run }
	r.store, r.close = store, store.Close
	if r.feed, err = archiverFeed(ctx, b, store); err != nil {
		return r, errors.Join(err, store.Close())
	}
	return r, nil
}
