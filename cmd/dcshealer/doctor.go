package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/agent/probe"
	"dcshealer/policies"
)

func (a *app) newDoctorCommand() *cobra.Command {
	var instance string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check that nodes, bus and state_dir are as this program needs them; changes nothing",
		Long: `doctor asks every node what a probe asks, and what its user may do, holds that against the config, tries the bus with a canary that wakes
nobody, and looks at the state_dir. It changes nothing on any node. Each finding says what was seen and what to do about it.
It exits 0 when nothing stands in the way, warnings included, and 1 when something would keep it from seeing a node or from a
repair that may run for real.`,
		Example: "  dcshealer doctor -c fleet.yaml\n  dcshealer doctor --instance dcs-prod-01 -o json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), instance) },
	}
	cmd.Flags().StringVar(&instance, "instance", "", "only this instance")
	return cmd
}

// doctorReport is the answer of doctor -o json.
type doctorReport struct {
	At       time.Time              `json:"at"`
	OK       bool                   `json:"ok"` // no finding is an error
	Findings []policies.CheckResult `json:"findings"`
}

func (a *app) doctor(ctx context.Context, instance string) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	chosenNames, err := chosen(cfg, instance)
	if err != nil {
		return err
	}
	log, err := logFlags{level: "error"}.newLogger(a.stderr)
	if err != nil {
		return err
	}
	r := doctorReport{At: time.Now().UTC(), Findings: checkState(ctx, cfg)}
	r.Findings = append(r.Findings, a.checkBus(ctx, cfg)...)
	live := liveNow(ctx, cfg)
	results := make([][]policies.CheckResult, len(chosenNames))
	var wg sync.WaitGroup
	for i, name := range chosenNames {
		wg.Go(func() { results[i] = checkInstance(ctx, cfg, name, live[name], log) })
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	r.Findings = append(r.Findings, slices.Concat(results...)...)
	return a.printDoctor(r)
}

// checkInstance asks all nodes side by side and judges what they said.
func checkInstance(ctx context.Context, cfg policies.Config, name string, live []policies.Action, log *slog.Logger) []policies.CheckResult {
	in, _ := cfg.Instance(name)
	d := policies.Doctor{Config: cfg, Instance: in, Live: live, Now: time.Now(), Nodes: make([]policies.Checkup, len(in.Nodes))}
	var wg sync.WaitGroup
	for i, n := range in.Nodes {
		o, err := probe.For(in, n, cfg.Agent.Timeout, log)
		if err != nil { // a file of the TLS section that is gone since the config was checked
			return []policies.CheckResult{{Severity: policies.HealthError, Instance: name, Check: policies.CheckTLS, Seen: err.Error(), Cure: "correct the setting under tls of the instance"}}
		}
		wg.Go(func() {
			p := probe.New(o)
			defer p.Close()
			d.Nodes[i] = p.Checkup(ctx)
		})
	}
	wg.Wait()
	return append(checkCertificate(in.TLS, name, "tls", d.Now), d.Diagnose()...)
}

// checkBus tries the configured bus, or the embedded one of the process that runs here.
func (a *app) checkBus(ctx context.Context, cfg policies.Config) []policies.CheckResult {
	one := func(h policies.Health, cure, seen string) []policies.CheckResult {
		return []policies.CheckResult{{Severity: h, Check: policies.CheckBus, Seen: seen, Cure: cure}}
	}
	if cfg.Bus.URL == "" {
		if _, err := busOfRun(cfg.StateDir); err != nil {
			return one(policies.HealthOK, "", "none is configured: dcshealer run starts one of its own")
		}
	}
	b, err := a.connect(ctx, cfg, slog.New(slog.DiscardHandler))
	switch {
	case err != nil && cfg.Bus.URL == "":
		return one(policies.HealthWarning, "start dcshealer run", err.Error())
	case err != nil:
		return one(policies.HealthError, "correct bus.url, or the files under bus.tls", err.Error())
	}
	canary := policies.Alarm{ID: newID(), At: time.Now(), Source: "doctor@" + operator("").Host, Severity: policies.Notice, Status: policies.Firing,
		Instance: policies.SelfInstance, Metric: policies.MetricCanary, Value: policies.Int(1), Msg: "a canary of dcshealer doctor"}
	results := append(checkCertificate(cfg.Bus.TLS, "", "bus.tls", time.Now()), b.Checkup(ctx, canary)...)
	if err := b.Close(); err != nil && !errors.Is(err, context.Canceled) {
		results = append(results, one(policies.HealthWarning, "", "close the connection: "+err.Error())...)
	}
	return results
}

func (a *app) printDoctor(r doctorReport) error {
	counts := map[policies.Health]int{}
	for i, f := range r.Findings {
		counts[f.Severity]++
		r.Findings[i].Seen, r.Findings[i].Cure = printable(f.Seen), printable(f.Cure)
	}
	r.OK = counts[policies.HealthError] == 0
	if a.json() {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else {
		a.printFindings(r.Findings)
		fmt.Fprintf(a.stdout, "%d errors, %d warnings, %d checks well\n", counts[policies.HealthError], counts[policies.HealthWarning], counts[policies.HealthOK])
	}
	if !r.OK {
		return exitError{code: exitFailed}
	}
	return nil
}

// printFindings prints a line a finding under the name of what it is about, and its cure below it.
func (a *app) printFindings(findings []policies.CheckResult) {
	about := ""
	for _, f := range findings {
		where := cmp.Or(f.Instance, "this process")
		if f.Node != "" {
			where += "/" + f.Node
		}
		if where != about {
			about = where
			fmt.Fprintln(a.stdout, printable(where))
		}
		fmt.Fprintf(a.stdout, "  %-7s  %-11s  %s\n", f.Severity, f.Check, f.Seen)
		if f.Cure != "" {
			fmt.Fprintf(a.stdout, "  %-7s  %-11s  -> %s\n", "", "", f.Cure)
		}
	}
}
