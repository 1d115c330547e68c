package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"dcshealer/agent/archive"
	"dcshealer/agent/bus"
	"dcshealer/agent/observer"
	"dcshealer/policies"
)

// busIDFile names a state_dir on the bus.
const busIDFile = "bus-id"

var wellFormedBusID = regexp.MustCompile(`^[0-9A-Z]{26}$`)

// busID names a state_dir on the bus, so that its healer finds what it had not taken, whatever host it runs on. It is made where
// there is none, and made again where it was damaged: then what waited under the old name is not read.
func busID(dir string) (string, error) {
	file := filepath.Join(dir, busIDFile)
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the name of this state_dir on the bus: %w; give the file to this user", err)
	}
	if id := strings.TrimSpace(string(data)); wellFormedBusID.MatchString(id) {
		return id, nil
	}
	id := newID()
	if err := os.WriteFile(file, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("name this state_dir on the bus: %w; give the folder to this user, or name another state_dir", err)
	}
	return id, nil
}

// archiverFeed is a subscription whose place in the stream belongs to the archive: another archive on the same bus has its own.
func archiverFeed(ctx context.Context, b *bus.Bus, store *archive.Archive) (*bus.Subscription, error) {
	id, err := store.ID(ctx)
	if err != nil {
		return nil, err
	}
	return b.SubscribeGroup(observer.ArchiverTopics(), bus.Group{Name: "archiver-" + id, Consumer: operator("").Host}), nil
}

// archiveLimits are those of a config.
func archiveLimits(cfg policies.Config) archive.Limits {
	return archive.Limits{Keep: cfg.Archive.Keep, MaxBytes: int64(cfg.Archive.MaxMB) << 20}
}
