package main

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// secureStateDir makes the state_dir for this user alone (0700), and its files (0600), also where they were there with wider rights: whoever
// can write there can change what is live. A folder that others share is refused, and so is one that others can write and that is not ours to
// change; one that others can only read is used with a warning.
func secureStateDir(dir string, log *slog.Logger) error {
	const cure = "name a folder of its own as state_dir, such as one below it"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make state_dir %s: %w", dir, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at state_dir %s: %w", dir, err)
	}
	if info.Mode()&fs.ModeSticky != 0 {
		return fmt.Errorf("state_dir %s is a folder that all users share (mode %v): %s", dir, info.Mode(), cure)
	}
	if wide(info) {
		err := os.Chmod(dir, 0o700)
		switch {
		case err == nil:
			log.Warn("state_dir was open to other users, it is not any longer", "path", dir, "mode", info.Mode().String())
		case info.Mode().Perm()&0o002 != 0:
			return fmt.Errorf("state_dir %s can be written by all users (mode %v) and cannot be closed to them: %w; %s", dir, info.Mode(), err, cure)
		default:
			log.Warn("state_dir is open to other users and belongs to another one: chmod 700 it", "path", dir, "mode", info.Mode().String(), "err", err)
		}
	}
	return secureFiles(dir, log)
}

func wide(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 != 0 }

// secureFiles takes the rights of others from what this program keeps in the folder. Files of other names are not ours.
func secureFiles(dir string, log *slog.Logger) error {
	for _, pattern := range []string{"healer.*", "alarms.*", "notify.*", runInfoFile, busIDFile, countsPrefix + "*.json", "spool-*", filepath.Join("spool-*", "*"), requestPrefix + "*", "locks", filepath.Join("locks", "*"), filepath.Join("locks", ".*.lock")} {
		names, err := filepath.Glob(filepath.Join(globQuote(dir), pattern))
		if err != nil {
			return fmt.Errorf("look for the files of state_dir %s: %w", dir, err)
		}
		for _, name := range names {
			if err := secureFile(name, log); err != nil {
				return err
			}
		}
	}
	return nil
}

func secureFile(name string, log *slog.Logger) error {
	info, err := os.Lstat(name)
	if err != nil || !wide(info) || !info.Mode().IsRegular() && !info.IsDir() {
		return nil //nolint:nilerr // gone meanwhile; and a link has no rights of its own
	}
	mode := fs.FileMode(0o600)
	if info.IsDir() {
		mode = 0o700
	}
	if err := os.Chmod(name, mode); err != nil {
		return fmt.Errorf("close %s to other users (mode %v): %w; give it to the user that runs dcshealer", name, info.Mode(), err)
	}
	log.Warn("a file of state_dir was open to other users, it is not any longer", "path", name, "mode", info.Mode().String())
	return nil
}

// globQuote keeps a folder's name from being read as a pattern.
func globQuote(dir string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(dir)
}
