package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"dcshealer/agent/bus"
	"dcshealer/agent/probe"
	"dcshealer/policies"
)

// busFlags name a bus for one command.
type busFlags struct {
	url, prefix, stateDir string
	tls                   policies.TLS
}

func (f *busFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.url, "bus", "", "URL of the bus, such as redis://127.0.0.1:6379 (default: that of the config, or of the dcshealer that runs here)")
	flags.StringVar(&f.prefix, "prefix", "", "start of the channel names (default: that of the config, or redis:monitor)")
	flags.StringVar(&f.tls.CAFile, "ca-file", "", "for rediss://: the authority that signed the bus server's certificate (default: bus.tls of the config, or the system's)")
	flags.StringVar(&f.tls.CertFile, "cert-file", "", "for rediss://: a client certificate, where the server asks for one")
	flags.StringVar(&f.tls.KeyFile, "key-file", "", "for rediss://: the key of --cert-file")
	flags.StringVar(&f.tls.ServerName, "server-name", "", "for rediss://: the name in the server's certificate, where it is not the address")
}

// settings are the config's, or the defaults: with --bus no config is needed, and one that lies here is not read. bus.tls of a config
// that is named holds for --bus too.
func (a *app) settings(f busFlags) (policies.Config, error) {
	cfg := policies.DefaultConfig()
	if a.configFile != "" || f.url == "" && a.hasConfig() {
		var err error
		if cfg, err = a.config(); err != nil {
			return cfg, err
		}
	}
	if f.url != "" {
		cfg.Bus.URL, cfg.Bus.Password, cfg.Bus.PasswordFile = policies.Secret(f.url), "", "" // which belong to the config's bus
	}
	if f.prefix != "" {
		cfg.Bus.Prefix = f.prefix
	}
	if f.stateDir != "" {
		cfg.StateDir = f.stateDir
	}
	return cfg, f.secure(&cfg.Bus)
}

// secure lays the flags over the config's TLS section.
func (f busFlags) secure(b *policies.BusConfig) error {
	if !isSecureURL(b.URL) {
		b.TLS = nil // that of a config whose url --bus replaced
		if f.tls != (policies.TLS{}) {
			return errors.New("--ca-file, --cert-file, --key-file and --server-name are for a bus whose URL begins with rediss://")
		}
		return nil
	}
	if (f.tls.CertFile == "") != (f.tls.KeyFile == "") {
		return errors.New("--cert-file and --key-file go together: a client certificate needs its key")
	}
	t := policies.TLS{}
	if b.TLS != nil {
		t = *b.TLS
	}
	if f.tls.CAFile != "" {
		t.CAFile = f.tls.CAFile
	}
	if f.tls.CertFile != "" {
		t.CertFile, t.KeyFile = f.tls.CertFile, f.tls.KeyFile
	}
	if f.tls.ServerName != "" {
		t.ServerName = f.tls.ServerName
	}
	b.TLS = &t
	return nil
}

// connect opens the bus of the settings; where none is configured, the embedded one of the process that runs on the state_dir.
func (a *app) connect(ctx context.Context, cfg policies.Config, log *slog.Logger) (*bus.Bus, error) {
	keys := bus.NewKeys(cfg.Bus.HMACKeys...)
	if cfg.Bus.URL != "" {
		return bus.New(bus.Options{URL: cfg.Bus.URL, TLS: cfg.Bus.TLS, Prefix: cfg.Bus.Prefix, Log: log,
			Password: probe.NewPassword(cfg.Bus.Password, cfg.Bus.PasswordFile).Next, Keys: keys})
	}
	url, err := busOfRun(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	b, err := bus.New(bus.Options{URL: url, Prefix: cfg.Bus.Prefix, Keys: keys, Log: log})
	if err != nil {
		return nil, err
	}
	if err := b.Ping(ctx); err != nil { // an embedded bus ends with its process, which may have left its address behind
		return nil, errors.Join(fmt.Errorf("%w; the dcshealer that ran on %s is gone: start dcshealer run, or name a bus with --bus or under bus.url", err, cfg.StateDir), b.Close())
	}
	return b, nil
}
