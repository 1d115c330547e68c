package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

// The command line as a shell sees it: one script a topic in testdata/script. UPDATE_SCRIPTS=1 rewrites what cmp compares.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	bin := filepath.Dir(program(t))
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") == "1",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			switch strings.TrimPrefix(filepath.Base(e.WorkDir), "script-") {
			case "bus":
				e.Setenv("BUS", startServer(t).url())
			case "live":
				f, in := newFleet(t), newPair(t)
				f.policies = eager
				f.addPair("one", "", in)
				e.Setenv("FLEET", f.write())
				e.Setenv("MASTER_HOST", in.m.Addr.Host)
				e.Setenv("MASTER_PORT", strconv.Itoa(in.m.Addr.Port))
				e.Setenv("REPLICA", in.r.addr())
			case "pause":
				f, m := newFleet(t), startServer(t)
				f.policies = slowSweep
				m.expire(100_000)
				e.Setenv("FLEET", f.add("one", liveBoth, master("m", m)).write())
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"await": awaitText, "until": untilSays, "redis": redisCommand, "help-everywhere": helpEverywhere},
	})
}

// untilSays runs a program again and again until its stdout holds a text: until TEXT PROGRAM ARGS...
func untilSays(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until TEXT PROGRAM ARGS...")
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%q does not say %q within %s: %v\n%s", args[1:], args[0], patience, err, ts.ReadFile("stdout"))
		}
	}
}

// redisCommand sends one command as a person would: redis ADDRESS COMMAND ARGS...
func redisCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: redis ADDRESS COMMAND ARGS...")
	}
	c := redis.NewClient(&redis.Options{Addr: args[0]})
	defer c.Close()
	command := make([]any, len(args)-1)
	for i, a := range args[1:] {
		command[i] = a
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ts.Check(c.Do(ctx, command...).Err())
}

// awaitText waits until a file holds a text: await FILE TEXT.
func awaitText(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE TEXT")
	}
	seen := ""
	for deadline := time.Now().Add(patience); !strings.Contains(seen, args[1]); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not hold %q within %s:\n%s", args[0], args[1], patience, seen)
		}
		data, _ := os.ReadFile(ts.MkAbs(args[0])) // it may not be there yet
		seen = string(data)
	}
}

// helpEverywhere asks each command of the tree for its help: on stdout, with an example that names the program.
func helpEverywhere(ts *testscript.TestScript, neg bool, args []string) {
	root := newRoot(&app{stdout: io.Discard, stderr: io.Discard})
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		words := strings.Fields(cmd.CommandPath())
		ts.Check(ts.Exec(words[0], append(words[1:], "--help")...))
		help := ts.ReadFile("stdout")
		_, examples, has := strings.Cut(help, "Examples:\n")
		if cmd != root && (!has || !strings.Contains(examples, cmd.CommandPath()) && !cmd.HasSubCommands()) {
			ts.Fatalf("%s --help shows no example of itself:\n%s", cmd.CommandPath(), help)
		}
		if ts.ReadFile("stderr") != "" {
			ts.Fatalf("%s --help writes to stderr: %s", cmd.CommandPath(), ts.ReadFile("stderr"))
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
}
