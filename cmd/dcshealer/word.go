package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// wordFlags are what every command takes by which a person changes what may run: why, who and for how long.
type wordFlags struct{ period, reason, by string }

func (f *wordFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.reason, "reason", "", "why; it goes into the journal (required)")
	f.addBy(cmd)
}

func (f *wordFlags) addBy(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.by, "by", "", "who decides it; absent: the user of the operating system")
}

func (f *wordFlags) addPeriod(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.period, "for", "", "how long, such as 2h or 3d; absent: until changed")
}

// word is what a person said.
type word struct {
	reason, by string
	until      time.Time // zero: until changed
}

// word checks the flags; command begins the errors.
func (f wordFlags) word(command string, now time.Time) (w word, err error) {
	w = word{reason: strings.TrimSpace(f.reason), by: f.person()}
	if w.reason == "" {
		return w, errors.New(command + ": --reason is required: it goes into the journal")
	}
	if f.period != "" {
		d, err := parseDuration(f.period)
		if err != nil || d <= 0 {
			return w, fmt.Errorf("%s: --for %q: want a duration such as 30m, 2h or 3d", command, f.period)
		}
		w.until = now.Add(d)
	}
	return w, nil
}

// person is who decides.
func (f wordFlags) person() string {
	if by := strings.TrimSpace(f.by); by != "" {
		return by
	}
	return sessionUser()
}

// sessionUser is the name of the user who runs this, for the audit.
func sessionUser() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "uid " + strconv.Itoa(os.Getuid())
}

// write has the journal of the config's state_dir take a person's word. It is on disk when this returns, and a running healer hears it
// within a second.
func write(ctx context.Context, cfg policies.Config, by string, do func(j *journal.Journal) error) error {
	j, err := journal.Open(ctx, cfg.StateDir, operator(by))
	if err != nil {
		return err
	}
	return errors.Join(do(j), j.Close())
}

// moment is now as the journal keeps it.
func moment() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// scopeOf reads an instance of the command line, or --all: then it is empty.
func scopeOf(command string, args []string, all bool) (instance string, err error) {
	switch {
	case all && len(args) > 0:
		return "", fmt.Errorf("%s: --all is every instance: leave %q out", command, args[0])
	case all:
		return "", nil
	case len(args) == 0 || args[0] == "":
		return "", fmt.Errorf("%s: name an instance, or --all", command)
	}
	return args[0], nil
}

// scopeConfig is the config of a command that is about an instance, or about all: then a file with faults will do, as long as it tells the
// state_dir. A person who stops everything must not have to mend a file first.
func (a *app) scopeConfig(instance string) (policies.Config, error) {
	cfg, err := a.config()
	if err == nil || instance != "" {
		return cfg, err
	}
	dir, dirErr := stateDirOf(a.configPath())
	if dirErr != nil {
		return cfg, err
	}
	fmt.Fprintf(a.stderr, "%s has faults (dcshealer config check); its state_dir is %s\n", printable(a.configPath()), printable(dir))
	return policies.Config{File: a.configPath(), StateDir: dir}, nil
}

// known is an error where the config has no such instance; an empty one stands for all.
func known(cfg policies.Config, command, instance string) error {
	if _, ok := cfg.Instance(instance); !ok && instance != "" {
		return fmt.Errorf("%s: no instance %q in %s: it has %s", command, instance, cfg.File, cfg.InstanceNames())
	}
	return nil
}

// orNil is for JSON: no time is null.
func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
