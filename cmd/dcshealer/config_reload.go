package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dcshealer/policies"
)

func (a *app) newConfigReloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the running dcshealer take the config file again, and show what changed",
		Long: `Reload asks the dcshealer that runs on the file's state_dir to read its config file again, as SIGHUP does, and prints what changed, or
why the file was refused: then the config before it goes on as a whole. Instances come and go without a restart, the others keep what
they know; an action under way is finished by the settings with which it began. state_dir, bus.url, bus.prefix and listen need a
restart. Where several processes run on one state_dir each takes the request up; the answer is that of the newest.
Exit 0: the file is in effect, 1: it was refused, or nobody answered.`,
		Example: "  dcshealer config reload -c fleet.yaml\n  dcshealer config reload -c fleet.yaml -o json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.reloadConfig(cmd.Context()) },
	}
}

func (a *app) reloadConfig(ctx context.Context) error {
	stateDir, err := stateDirOf(a.configPath())
	if err != nil { // nobody could read the file
		return a.printReload(reloadReport{File: a.configPath(), Changes: []policies.Change{}, Finishing: []string{}, Errors: fieldErrors(a.configPath(), err)})
	}
	info, err := readRunInfo(stateDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("reload %s: no dcshealer runs on its state_dir %s: it reads the file when it starts (a running one keeps the state_dir it was started with)", a.configPath(), stateDir)
	case err != nil:
		return err
	case info.Config != "" && !sameFile(info.Config, a.configPath()):
		return fmt.Errorf("reload %s: the dcshealer with pid %d on %s was started with %s: name that with -c, or start it with this one", a.configPath(), info.PID, stateDir, printable(info.Config))
	}
	r, err := askReload(ctx, stateDir, info.PID)
	if err != nil {
		return err
	}
	r.File = a.configPath()
	for i := range r.Errors {
		r.Errors[i].File = r.File
	}
	return a.printReload(r)
}

// printReload prints what changed on stdout, or the faults on stderr; the exit code is 1 then.
func (a *app) printReload(r reloadReport) error {
	if a.json() {
		if err := a.printJSON(r); err != nil {
			return fmt.Errorf("print the report on %s: %w", r.File, err)
		}
		if !r.OK {
			return exitError{code: exitFailed}
		}
		return nil
	}
	if !r.OK {
		text := faultLines(r.Errors)
		if r.PID != 0 {
			text += fmt.Sprintf("\nThe dcshealer with pid %d goes on with the config that it has.", r.PID)
		}
		return exitError{code: exitFailed, msg: text}
	}
	for _, line := range reloadText(r) {
		fmt.Fprintln(a.stdout, line)
	}
	return nil
}

// stateDirOf is the state_dir that a config file names, also of one that has faults elsewhere: the process that runs on it may read what
// this one cannot, and says itself what it thinks of the file.
func stateDirOf(file string) (string, error) {
	cfg, err := loadConfig(file)
	if err == nil {
		return cfg.StateDir, nil
	}
	data, readErr := readBounded(file, maxConfigSize)
	folder, absErr := filepath.Abs(filepath.Dir(file))
	if readErr != nil || absErr != nil {
		return "", err
	}
	d := configLoader{file: file, folder: folder, readFile: readSecretFile, lookupEnv: os.LookupEnv, stat: os.Stat}.decoder()
	cfg = policies.DefaultConfig()
	root := d.parse(data)
	if root == nil {
		return "", err
	}
	d.config(fileValue{node: root}, &cfg)
	if d.unread["state_dir"] || d.unread[""] {
		return "", err
	}
	return cfg.StateDir, nil
}

// sameFile reports whether two names lead to one file.
func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}
