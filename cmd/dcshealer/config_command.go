package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"dcshealer/policies"
)

// newConfigCommand checks the config file, writes a sample of it, or has a running process take it.
func (a *app) newConfigCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "config",
		Short:   "Check the config file, write a sample, or have the running dcshealer take it",
		Example: "  dcshealer config init -c fleet.yaml\n  dcshealer config check -c fleet.yaml\n  dcshealer config reload -c fleet.yaml",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.newConfigCheckCommand(), a.newConfigInitCommand(), a.newConfigReloadCommand())
	return c
}

func (a *app) newConfigCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the config file and the secret and TLS files it names",
		Long: `Check reads the config file as run does and names every fault in it at once, with file, line, path and what is wanted.
It connects to nothing; plan asks the nodes. Exit 0: the file may be used, 1: it may not.`,
		Example: "  dcshealer config check -c fleet.yaml\n  dcshealer config check -c fleet.yaml -o json",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.checkConfig() },
	}
}

// configReport is the answer of config check -o json.
type configReport struct {
	File      string                `json:"file"`
	OK        bool                  `json:"ok"`
	Instances int                   `json:"instances"` // 0 where the file has faults
	Nodes     int                   `json:"nodes"`
	Errors    []policies.FieldError `json:"errors"`
}

func (a *app) checkConfig() error {
	cfg, err := a.config()
	report := configReport{File: a.configPath(), OK: err == nil, Instances: len(cfg.Instances), Nodes: nodeCount(cfg), Errors: []policies.FieldError{}}
	if err != nil {
		report.Errors = fieldErrors(report.File, err)
	}
	if a.json() {
		if err := a.printJSON(report); err != nil {
			return fmt.Errorf("print the report on %s: %w", report.File, err)
		}
	}
	switch {
	case err != nil && a.json():
		return exitError{code: exitFailed}
	case err != nil:
		return exitError{code: exitFailed, msg: faultLines(report.Errors)}
	case a.json():
		return nil
	}
	return a.printConfig(cfg)
}

// faultLines is one line a fault.
func faultLines(faults []policies.FieldError) string {
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = printable(f.Error())
	}
	return strings.Join(lines, "\n")
}

func nodeCount(cfg policies.Config) (n int) {
	for _, in := range cfg.Instances {
		n += len(in.Nodes)
	}
	return n
}

// printConfig shows what the file means: one line an instance and one a policy.
func (a *app) printConfig(cfg policies.Config) error {
	fmt.Fprintf(a.stdout, "%s: ok, %s, %s\n\n", cfg.File, nounCount(len(cfg.Instances), "instance"), nounCount(nodeCount(cfg), "node"))
	w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "INSTANCE\tNODES\tMANAGED BY\tPOLICY\tLIVE")
	for _, in := range cfg.Instances {
		name := in.Policy
		if name == "" {
			name = "default"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", in.Name, len(in.Nodes), in.ManagedBy, name, liveActions(in.Live))
	}
	fmt.Fprintln(w, "\nPOLICY\tPRESET\tMEMORY\tCLIENTS\tSWEEP TO\tFULL RESYNC\tWINDOWS")
	for _, name := range slices.Sorted(maps.Keys(cfg.Policies)) {
		p := cfg.Policies[name]
		fmt.Fprintf(w, "%s\t%s\t%v / %v\t%v / %v\t%v\t%s\t%s\n", name, p.Preset, p.UsedMemory.Warning, p.UsedMemory.Critical,
			p.Clients.Warning, p.Clients.Critical, p.Reclaim.Target, allowOrDeny(p.Reattach.FullResync), windowTexts(p.Windows))
	}
	return w.Flush()
}

func liveActions(live []policies.Action) string {
	if len(live) == 0 {
		return "dry run for all"
	}
	names := make([]string, len(live))
	for i, a := range live {
		names[i] = string(a)
	}
	return strings.Join(names, ", ")
}

func windowTexts(ws []policies.Window) string {
	if len(ws) == 0 {
		return "always"
	}
	texts := make([]string, len(ws))
	for i, w := range ws {
		texts[i] = w.Cron + " for " + w.Duration.String()
		if w.Zone != "" {
			texts[i] += " " + w.Zone
		}
	}
	return strings.Join(texts, "; ")
}

func allowOrDeny(yes bool) string {
	if yes {
		return "allow"
	}
	return "deny"
}

func nounCount(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
