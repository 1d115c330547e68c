package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) newDemoCommand() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Break a real fleet on this machine and see it healed, in half a minute",
		Long: `demo starts three real instances and a bus on free ports of 127.0.0.1, runs every role on them, breaks them for real, shows the plan in
dry run, enables live repair, and proves that all is healed. It needs a redis-server or valkey-server on PATH and leaves nothing behind.
It exits 0 when all is healed and proven, else 1; the logs are kept then.`,
		Example: "  dcshealer demo\n  dcshealer demo --keep          # stays up to play with, until Ctrl-C\n  dcshealer demo -o json         # the final table alone on stdout",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.configFile != "" {
				return errors.New("demo: -c is not for the demo: it writes a config of its own and touches no other fleet")
			}
			return a.demo(cmd.Context(), keep)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "stay up after the end, with addresses and commands to try, until Ctrl-C")
	return cmd
}

// demo is one performance: its servers, the program that runs on them, and what came of it.
type demo struct {
	app     *app
	tell    *narrator
	self    string // this program, which plays itself
	server  serverProgram
	dir     string // data, logs, config and state
	config  string
	listen  string // the dashboard's address
	began   time.Time
	fleet   demoFleet
	cases   []*demoCase
	roles   *demoProcess // dcshealer run; nil before
	started []*demoProcess
	closers []func() error
	report  demoReport
}

func (a *app) demo(ctx context.Context, keep bool) error {
	server, err := findServerProgram(ctx)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	// The system ends the children of a thread that is gone (see childAttributes): this one stays until all have ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	d, err := a.newDemo(server)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	err = d.play(ctx)
	err = errors.Join(err, d.conclude(err))
	if err == nil && keep {
		err = d.stay(ctx)
		ctx = context.WithoutCancel(ctx) // Ctrl-C is how it is meant to end
	}
	return d.end(ctx, err)
}

func (a *app) newDemo(server serverProgram) (*demo, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program, to run it: %w", err)
	}
	dir, err := os.MkdirTemp("", "dcshealer-demo-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for data and logs: %w; set TMPDIR to a folder that can be written", err)
	}
	to := a.stdout
	if a.json() {
		to = a.stderr
	}
	d := &demo{app: a, tell: newNarrator(to), self: self, server: server, dir: dir, began: time.Now()}
	d.report = demoReport{Server: server.String(), Repairs: []demoRepair{}, Alarms: map[string]int64{}}
	d.cases = []*demoCase{d.replicaCase(), d.memoryCase()}
	return d, nil
}

// play goes through the acts; the first that fails ends it.
func (d *demo) play(ctx context.Context) error {
	d.tell.title("dcshealer demo: a real fleet on this machine is broken and healed. It takes about half a minute.")
	for _, act := range []func(context.Context) error{d.startFleet, d.watch, d.breakAll, d.dryRun, d.goLive, d.review} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// conclude shows what came of it: the table, or as JSON also what went wrong.
func (d *demo) conclude(failed error) error {
	d.report.Took = seconds(time.Since(d.began))
	d.report.Healed = failed == nil
	for _, c := range d.cases {
		d.report.Repairs = append(d.report.Repairs, c.demoRepair)
	}
	if failed != nil {
		d.report.Error = failed.Error()
	}
	if d.app.json() {
		return d.app.printJSON(d.report)
	}
	if failed == nil {
		d.tell.block("\n" + d.report.table())
		d.tell.say("Alarms fired, by severity: %s (dcshealer alarms trend --by severity)", d.report.trend())
	}
	return nil
}

// end stops everything. What failed keeps its logs; a person's Ctrl-C does not.
func (d *demo) end(ctx context.Context, failed error) error {
	interrupted := ctx.Err() != nil
	if err := d.stop(); err != nil && !interrupted {
		failed = errors.Join(failed, err)
	}
	if failed != nil && !interrupted {
		return fmt.Errorf("demo: %w\nEverything is stopped. The logs, one a process, the config and the state are kept in %s", failed, d.dir)
	}
	if err := os.RemoveAll(d.dir); err != nil {
		return fmt.Errorf("demo: remove its folder: %w", err)
	}
	if interrupted {
		return errors.New("demo: interrupted; everything is stopped and removed")
	}
	d.tell.good("All healed and proven in %.0f s. Everything is stopped, and nothing is left behind.", d.report.Took)
	d.tell.say("For your own fleet: dcshealer config init, edit dcshealer.yaml, then dcshealer plan, which changes nothing.")
	return nil
}
