// Command dcshealer watches a fleet of Redis instances, publishes alarms and repairs what it safely can. This package
// holds the flags, the config file, the wiring and the output; it decides nothing about Redis.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"dcshealer/agent/probe"
	"dcshealer/policies"
)

// version is set by the build (-ldflags -X main.version=...).
var version = "dev"

// Exit codes of every command.
const (
	exitDone    = 0
	exitFailed  = 1 // a fault or bad input
	exitPlanned = 2 // plan and heal: there is something to do
	exitDenied  = 3 // heal: a guard refused
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main inside a test: it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal kills at once
	probe.QuietLibrary()         // go-redis would print each failed dial of a dead node on stderr
	a := &app{stdout: stdout, stderr: stderr}
	if slices.Contains(args, "run") { // from the first moment on: before the config is read a SIGHUP must not end the process
		hup := make(chan os.Signal, 1)
		signal.Notify(hup, syscall.SIGHUP)
		defer signal.Stop(hup)
		a.hup = hup
	}
	root := newRoot(a)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var exit exitError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &exit):
		if exit.msg != "" {
			fmt.Fprintln(stderr, exit.msg)
		}
		return exit.code
	}
	text := err.Error()
	if fault := (policies.FieldError{}); !errors.As(err, &fault) { // which names its file
		text = "dcshealer: " + text
	}
	fmt.Fprintln(stderr, text)
	return exitFailed
}

// exitError ends a command with a code of its own; an empty msg prints nothing more.
type exitError struct {
	code int
	msg  string
}

func (e exitError) Error() string { return fmt.Sprintf("exit %d: %s", e.code, e.msg) }
