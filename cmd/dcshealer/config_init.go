package main

import (
	_ "embed" // the sample
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
)

//go:embed config_sample.yaml
var sampleConfig []byte

func (a *app) newConfigInitCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a commented sample config: three instances, dry run for all",
		Long: `Init writes a sample config that explains every setting to FILE, or else to the file that -c names. It replaces nothing
that is there, unless --force is given.`,
		Example: "  dcshealer config init\n  dcshealer config init fleet.yaml && dcshealer config check -c fleet.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			file := a.configPath()
			if len(args) == 1 {
				file = args[0]
			}
			return a.initConfig(file, force)
		},
	}
	c.Flags().BoolVar(&force, "force", false, "replace the file if there is one")
	return c
}

func (a *app) initConfig(file string, force bool) error {
	if err := writeSample(file, force); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write a sample config: %s is there already; name another file, or add --force to replace it", file)
	} else if err != nil {
		return fmt.Errorf("write a sample config to %s: %s", file, plainCause(err))
	}
	if a.json() {
		return a.printJSON(map[string]string{"file": file})
	}
	_, err := fmt.Fprintf(a.stdout, "wrote %s\nput in your nodes' addresses, then: dcshealer config check -c %s\n", printable(file), shellWord(file))
	return err
}

// writeSample writes the sample; without force only where no file is, checked by the same call that creates it.
func writeSample(file string, force bool) error {
	mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(file, mode, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(sampleConfig)
	return errors.Join(err, f.Close())
}
