package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/agent"
	"dcshealer/agent/bus"
	"dcshealer/agent/observer"
	"dcshealer/agent/probe"
	"dcshealer/policies"
)

// roles are what run can do, in the order in which they start.
var roles = []string{"archiver", "dba", "dashboard", "healer", "agent"}

type runFlags struct {
	logFlags
	roles  []string
	dryRun bool
}

func (a *app) newRunCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Watch the fleet, publish alarms, observe them and heal: everything in one process, or some roles",
		Long: `run watches every node, publishes alarms on the bus, and runs the observers and the healer. Dry run is the default: the healer plans and says
what it would do, and sends nothing until live repair is enabled for an instance and action. SIGHUP has it take its config file again, as
config reload does.`,
		Example: "  dcshealer run -c fleet.yaml\n  dcshealer run --roles agent,archiver\n  dcshealer run --dry-run --log-format json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.runRoles(cmd.Context(), f) },
	}
	cmd.Flags().StringSliceVar(&f.roles, "roles", roles, "roles to run: agent, healer, dba, dashboard, archiver")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "send nothing, whatever the config and the runtime settings say")
	cmd.Flags().StringVar(&f.format, "log-format", "text", "text or json")
	cmd.Flags().StringVar(&f.level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

func (a *app) runRoles(ctx context.Context, f runFlags) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if err := checkRoles(f.roles); err != nil {
		return err
	}
	log, err := f.newLogger(a.stderr)
	if err != nil {
		return err
	}
	file, err := filepath.Abs(a.configPath())
	if err != nil {
		return fmt.Errorf("config %s: find its folder: %w", a.configPath(), err)
	}
	s := &service{cfg: cfg, stateDir: cfg.StateDir, file: a.configPath(), path: file, hup: a.hup, answered: map[string]bool{}, flags: f, log: log, lines: observer.NewLineWriter(a.stdout)}
	return s.run(ctx)
}

func checkRoles(names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("--roles: want some of %s", strings.Join(roles, ", "))
	}
	for _, n := range names {
		if !slices.Contains(roles, n) {
			return fmt.Errorf("--roles %q: want some of %s", n, strings.Join(roles, ", "))
		}
	}
	return nil
}

// service is one run: its parts start one after another and stop in reverse order.
type service struct {
	cfg      policies.Config // in effect; once it runs only reloads reads or changes it
	file     string          // of cfg, as the operator named it
	path     string          // absolute
	flags    runFlags
	log      *slog.Logger
	lines    io.Writer
	parts    *parts
	bus      *bus.Bus
	busURL   policies.Secret
	busPass  *probe.Password
	keys     *bus.Keys
	mustSign atomic.Bool // alarms from the bus, for the healer
	pub      *bus.Publisher
	heal     *healing
	web      *webSide     // nil: nothing is served
	notify   *notifying   // nil: the role dba is not in this process
	agent    *agent.Agent // nil: not in this process
	readers  []reader     // every subscription of this process
	archived *bus.Decoder // of the archiver; nil: not in this process
	gate     *bus.Gate    // of the healer; nil: not in this process
	stateDir string       // of cfg: a reload does not change it

	hup      <-chan os.Signal // SIGHUP; nil: never
	answered map[string]bool  // requests to reload, by id
}

// stopWithin bounds a clean stop.
const stopWithin = 5 * time.Second

func (s *service) has(role string) bool { return slices.Contains(s.flags.roles, role) }

func (s *service) run(ctx context.Context) (err error) {
	s.parts = newParts(s.log)
	defer func() { err = errors.Join(err, s.parts.stop(stopWithin)) }()
	if err := secureStateDir(s.cfg.StateDir, s.log); err != nil {
		return err
	}
	// The healer's lock comes before anything is started: a second healer on one state_dir refuses.
	if s.has("healer") {
		if err := s.openHealer(ctx); err != nil {
			return err
		}
	}
	if err := s.openWeb(); err != nil {
		return err
	}
	if err := s.openBus(); err != nil {
		return err
	}
	if err := s.startRoles(ctx); err != nil {
		return err
	}
	s.startWeb()
	s.parts.start("bus counts", s.noteCounts)
	s.log.Info("running", "roles", strings.Join(s.flags.roles, ","), "instances", len(s.cfg.Instances), "bus", s.bus.Addr(), "dry_run", s.flags.dryRun)
	s.parts.start("reload", s.reloads)
	select {
	case <-ctx.Done():
		s.log.Info("stopping")
		return nil
	case err := <-s.parts.failed:
		return err
	}
}

// openBus connects to the configured bus, or starts one on loopback.
func (s *service) openBus() error {
	s.busURL = s.cfg.Bus.URL
	if s.busURL == "" {
		e, err := bus.StartEmbedded(bus.EmbeddedOptions{Prefix: s.cfg.Bus.Prefix, Log: s.log})
		if err != nil {
			return fmt.Errorf("start the embedded bus: %w", err)
		}
		s.parts.onStop("embedded bus", e.Close)
		s.busURL = e.URL()
		s.log.Info("no bus is configured: an embedded one listens", "bus", s.busURL.Reveal())
	}
	s.keys = bus.NewKeys(s.cfg.Bus.HMACKeys...)
	s.mustSign.Store(s.cfg.Bus.RequireSignature)
	s.busPass = probe.NewPassword(s.cfg.Bus.Password, s.cfg.Bus.PasswordFile)
	b, err := bus.New(bus.Options{URL: s.busURL, TLS: s.cfg.Bus.TLS, Prefix: s.cfg.Bus.Prefix, Password: s.busPass.Next, Keys: s.keys, Log: s.log})
	if err != nil {
		return fmt.Errorf("open the bus: %w", err)
	}
	s.bus = b
	s.parts.onStop("bus", b.Close)
	info := runInfo{PID: os.Getpid(), Started: time.Now().UTC(), Bus: maskedURL(s.busURL), Roles: s.flags.roles, Prefix: s.cfg.Bus.Prefix, Listen: s.listens(), Config: s.path}
	if err := writeRunInfo(s.cfg.StateDir, info); err != nil {
		return err
	}
	s.parts.onStop("run info", func() error { return removeRunInfo(s.cfg.StateDir, info.PID) })
	return nil
}
