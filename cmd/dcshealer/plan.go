package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/policies"
	"dcshealer/remediation"
)

// planReport is what plan prints as JSON.
type planReport struct {
	At        time.Time                 `json:"at"`
	Instances []remediation.Examination `json:"instances"`
}

func (a *app) newPlanCommand() *cobra.Command {
	var instance string
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Probe now and show findings, plans and what each guard says; changes nothing",
		Long: `plan probes every node now, twice within a second where there is a fault, and shows what it found, what it would send and what each
guard says to that. It changes nothing. It exits 0 when there is no plan, and 2 when there is at least one, permitted or not.`,
		Example: "  dcshealer plan -c fleet.yaml\n  dcshealer plan --instance dcs-prod-01 -o json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.plan(cmd.Context(), instance) },
	}
	cmd.Flags().StringVar(&instance, "instance", "", "only this instance")
	return cmd
}

func (a *app) plan(ctx context.Context, instance string) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	names, err := chosen(cfg, instance)
	if err != nil {
		return err
	}
	h, done, err := a.handHealer(ctx, cfg, io.Discard, true)
	if err != nil {
		return err
	}
	defer done()
	report := planReport{At: time.Now().UTC(), Instances: make([]remediation.Examination, len(names))}
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { report.Instances[i], _ = h.Examine(ctx, name) })
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	a.withSavedStates(cfg, &report)
	if a.json() {
		err = a.printJSON(report)
	} else {
		a.printPlan(report)
	}
	if err != nil {
		return err
	}
	for _, e := range report.Instances {
		if len(e.Plans) > 0 {
			return exitError{code: exitPlanned}
		}
	}
	return nil
}

// chosen is the named instance, or all.
func chosen(cfg policies.Config, instance string) ([]string, error) {
	if instance == "" {
		var names []string
		for _, i := range cfg.Instances {
			names = append(names, i.Name)
		}
		return names, nil
	}
	if _, ok := cfg.Instance(instance); !ok {
		return nil, fmt.Errorf("--instance %q is not in %s; there are %s", instance, cfg.File, cfg.InstanceNames())
	}
	return []string{instance}, nil
}

func (a *app) printPlan(r planReport) {
	for _, e := range r.Instances {
		fmt.Fprintf(a.stdout, "%s (%s)\n", printable(e.Instance), e.State)
		if len(e.Findings) == 0 && len(e.Errors) == 0 {
			fmt.Fprintln(a.stdout, "  healthy: nothing found")
		}
		for _, f := range e.Findings {
			fmt.Fprintf(a.stdout, "  %-8s %s on %s%s: %s\n", strings.ToUpper(f.Severity.String()), f.Metric, f.Node, causeText(f.Cause), printable(f.Msg))
		}
		for _, msg := range notAmong(e.Errors, e.Findings) {
			fmt.Fprintf(a.stdout, "  error    %s\n", printable(msg))
		}
		for _, p := range e.Plans {
			a.printOnePlan(p)
		}
	}
}

// notAmong leaves out the errors of nodes that a finding tells of already.
func notAmong(errs []string, findings []policies.Finding) []string {
	return slices.DeleteFunc(slices.Clone(errs), func(text string) bool {
		return slices.ContainsFunc(findings, func(f policies.Finding) bool {
			return f.Metric == policies.MetricInstanceUp && strings.HasPrefix(text, f.Node+":")
		})
	})
}

func causeText(c policies.Cause) string {
	if c == "" {
		return ""
	}
	return " (" + string(c) + ")"
}

func (a *app) printOnePlan(p policies.Plan) {
	verdict := "would be carried out now"
	if !p.Permitted {
		verdict = fmt.Sprintf("stopped by %s", join(p.DeniedBy))
	}
	fmt.Fprintf(a.stdout, "  PLAN     %s on %s (%s): %s\n", p.Action, p.Node, p.Mode, verdict)
	for _, c := range p.Commands {
		fmt.Fprintf(a.stdout, "             send    %s\n", printable(strings.Join(c, " ")))
	}
	fmt.Fprintf(a.stdout, "             expect  %s\n", dash(expectText(p.Expect)))
	if p.Memory != nil {
		a.printMemory(*p.Memory)
	}
	for _, g := range p.Guards {
		fmt.Fprintf(a.stdout, "             %-5s   %-17s %s\n", g.Verdict, g.Guard, printable(g.Reason))
	}
}

// printMemory shows where the memory is, the largest part first and without what rounds to nothing, and what would help.
func (a *app) printMemory(r policies.MemoryReport) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(a.stdout, "             %-7s %s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	line("memory", "%s MiB counted against maxmemory %s MiB, %s MiB must come free: %s", mebibytes(r.Counted), mebibytes(r.Max), mebibytes(r.Needed), r.Cause)
	parts := slices.Clone(r.Parts)
	slices.SortStableFunc(parts, func(x, y policies.MemoryPart) int { return cmp.Compare(y.Bytes.Or(0), x.Bytes.Or(0)) })
	for _, p := range parts {
		switch {
		case !p.Bytes.Known:
			line("", "%8s MiB  %6s    %s%s", "?", "", p.Part, inBrackets(p.Note))
		case p.Share.V >= 0.0005:
			line("", "%8s MiB  %6.1f %%  %s%s", mebibytes(p.Bytes.V), p.Share.V*100, p.Part, inBrackets(aboutText(p)))
		}
	}
	for _, text := range r.Advice {
		line("advice", "%s", text)
	}
	for _, text := range r.Notes {
		line("note", "%s", text)
	}
}

// mebibytes is bytes in MiB to a tenth.
func mebibytes(n int64) string { return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) }

// aboutText says of what a part is, and that it is an estimate where it is one.
func aboutText(p policies.MemoryPart) string {
	if p.How != policies.HowEstimated {
		return p.Note
	}
	return strings.TrimSuffix("estimated; "+p.Note, "; ")
}

func inBrackets(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

func join(guards []policies.Guard) string {
	names := make([]string, len(guards))
	for i, g := range guards {
		names[i] = string(g)
	}
	return strings.Join(names, ", ")
}
