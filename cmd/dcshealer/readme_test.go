package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"dcshealer/remediation"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestReadmeShowsTheStateMachineOfTheCode(t *testing.T) {
	if want := "```mermaid\n" + strings.TrimSpace(remediation.Diagram()) + "\n```"; !strings.Contains(readme(t), want) {
		t.Errorf("README.md does not hold the diagram that the code generates:\n%s", want)
	}
}

// Each `dcshealer ...` line of the README names a command and flags that exist.
func TestReadmeCommandsExist(t *testing.T) {
	lines := regexp.MustCompile(`(?m)^dcshealer .*$`).FindAllString(readme(t), -1)
	if len(lines) < 10 {
		t.Fatalf("found %d command lines in README.md, want the tour from dry run to live", len(lines))
	}
	for _, line := range lines {
		line, _, _ = strings.Cut(line, " #")
		args := strings.Fields(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(line, "TEXT"))[1:]
		root := newRoot(&app{stdout: io.Discard, stderr: io.Discard})
		cmd, rest, err := root.Find(args)
		if err != nil || cmd == root {
			t.Errorf("%s: no such command: %v", line, err)
			continue
		}
		if err := cmd.ParseFlags(rest); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}
