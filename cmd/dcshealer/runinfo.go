package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dcshealer/policies"
)

const runInfoFile = "run.json"

// runInfo is what a running process says of itself in its state_dir. It holds no secret.
type runInfo struct {
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Bus     string    `json:"bus"` // URL, credentials masked
	Roles   []string  `json:"roles"`
	Prefix  string    `json:"prefix"`
	Listen  string    `json:"listen"`
	Config  string    `json:"config"` // the config file, absolute
}

// readRunInfo reads what the newest run has left. It is fs.ErrNotExist where none runs; after a crash the file stays,
// so what it says has to be tried.
func readRunInfo(stateDir string) (info runInfo, err error) {
	path := filepath.Join(stateDir, runInfoFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return info, fmt.Errorf("read run info: %w", err)
	}
	if err := json.Unmarshal(data, &info); err != nil {
		return info, fmt.Errorf("read run info %s: %w; start dcshealer run again, which writes it", path, err)
	}
	return info, nil
}

// writeRunInfo replaces the file in one step, mode 0600.
func writeRunInfo(stateDir string, info runInfo) error {
	data, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return fmt.Errorf("write run info: %w", err)
	}
	if err := writeWhole(filepath.Join(stateDir, runInfoFile), append(data, '\n')); err != nil {
		return fmt.Errorf("write run info: %w", err)
	}
	return nil
}

// writeWhole replaces a file in one step, mode 0600.
func writeWhole(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// removeRunInfo removes the file at the end of the run of this pid, and leaves another's.
func removeRunInfo(stateDir string, pid int) error {
	info, err := readRunInfo(stateDir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.PID != pid {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(filepath.Join(stateDir, runInfoFile))
}

// busOfRun is the bus of the process that runs on this state_dir.
func busOfRun(stateDir string) (policies.Secret, error) {
	const cure = "start dcshealer run, or name a bus with --bus or under bus.url"
	info, err := readRunInfo(stateDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("find the bus: none is configured and no dcshealer runs on %s; %s", stateDir, cure)
	case err != nil:
		return "", err
	case info.Bus == "" || strings.Contains(info.Bus, "[redacted]"):
		return "", fmt.Errorf("find the bus: the dcshealer that runs on %s uses %q, which has a password; use its config file with -c", stateDir, info.Bus)
	}
	return policies.Secret(info.Bus), nil
}

// maskedURL is a bus URL that may be shown.
func maskedURL(u policies.Secret) string { return maskURL(u.Reveal()) }
