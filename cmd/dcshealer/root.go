package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"dcshealer/policies"
)

// app is what the commands share: where they print and the flags that stand anywhere after the command's name.
type app struct {
	stdout, stderr io.Writer
	configFile     string           // -c; empty: dcshealer.yaml in the current folder
	output         string           // -o: text or json
	hup            <-chan os.Signal // SIGHUP, for run; nil: it ends the process as usual
}

// outputsAnnotation names a form of output that a command has beside text and JSON.
const outputsAnnotation = "outputs"

const defaultConfigFile = "dcshealer.yaml"

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "dcshealer",
		Short: "A self-healing operator for fleets of Redis instances",
		Long: `dcshealer watches every node of a fleet of Redis or Valkey instances, publishes alarms by severity on Redis Pub/Sub, shows
them to the people who need them, and repairs two faults by itself: memory filled with expired keys, and a replica
that has come off its master. Dry run is the default; live repair is enabled per instance and action.`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			outputs := []string{"text", "json"}
			if more := cmd.Annotations[outputsAnnotation]; more != "" {
				outputs = append(outputs, more)
			}
			if !slices.Contains(outputs, a.output) {
				return fmt.Errorf("--output %q: want %s", a.output, oneOf(outputs))
			}
			return nil
		},
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.PersistentFlags().StringVarP(&a.configFile, "config", "c", "", "config file (default: "+defaultConfigFile+" in the current folder)")
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "text", "output format: text or json")
	root.AddCommand(a.commands()...)
	return root
}

// configPath is the config file to read, as the operator named it.
func (a *app) configPath() string {
	if a.configFile != "" {
		return a.configFile
	}
	return defaultConfigFile
}

// hasConfig reports whether a config file was named or lies here: some commands work without one.
func (a *app) hasConfig() bool {
	if a.configFile != "" {
		return true
	}
	_, err := os.Stat(defaultConfigFile)
	return err == nil
}

// config loads and checks the config file.
func (a *app) config() (policies.Config, error) { return loadConfig(a.configPath()) }

func (a *app) json() bool { return a.output == "json" }

// printJSON writes v to stdout, indented.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
