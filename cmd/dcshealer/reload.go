package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"dcshealer/agent"
	"dcshealer/policies"
	"dcshealer/remediation"
)

// reloadReport is what came of a reload: what changed, or why nothing did.
type reloadReport struct {
	File      string                `json:"file"`
	OK        bool                  `json:"ok"`
	PID       int                   `json:"pid"`
	Changes   []policies.Change     `json:"changes"`
	Finishing []string              `json:"finishing"` // instances whose action under way goes to its end by the settings before
	Errors    []policies.FieldError `json:"errors"`    // why the file was not taken: the config before it goes on
}

// reloads takes the config file again at each SIGHUP and each request of the command config reload, until ctx ends.
func (s *service) reloads(ctx context.Context) error {
	tick := time.NewTicker(requestTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.hup:
			s.log.Info("config is read again", "reason", "SIGHUP")
			s.reload(ctx)
		case <-tick.C:
			s.answerRequests(ctx)
		}
	}
}

// reload reads the config file and takes it into effect as a whole, or not at all: all that can fail comes before the first change.
func (s *service) reload(ctx context.Context) reloadReport {
	r := reloadReport{File: s.file, PID: os.Getpid(), Changes: []policies.Change{}, Finishing: []string{}, Errors: []policies.FieldError{}}
	cfg, err := loadConfig(s.file)
	if err != nil {
		r.Errors = fieldErrors(s.file, err)
		return s.refused(r)
	}
	d := policies.ConfigDiffOf(s.cfg, cfg)
	if r.Errors = append(r.Errors, d.NeedRestart(s.file)...); len(r.Errors) > 0 {
		return s.refused(r)
	}
	ready, err := s.prepare(cfg, d)
	if err != nil {
		r.Errors = fieldErrors(s.file, err)
		return s.refused(r)
	}
	r.OK, r.Changes = true, append(r.Changes, d.Changes...)
	// The healer first: it knows an instance before the first alarm of it comes.
	if s.heal != nil {
		r.Finishing = append(r.Finishing, s.heal.healer.Reload(ctx, cfg, d, ready.probers)...)
	}
	if ready.agent != nil {
		ready.agent.Commit()
	}
	s.keys.Set(cfg.Bus.HMACKeys)
	s.mustSign.Store(cfg.Bus.RequireSignature)
	s.busPass.Set(cfg.Bus.Password, cfg.Bus.PasswordFile)
	s.notify.reloaded(s.cfg, cfg)
	s.cfg = cfg
	s.web.reloaded(cfg)
	s.tell(r)
	return r
}

// prepared is what a new config needs, made and not at work yet.
type prepared struct {
	agent   *agent.Reload // nil: no agent in this process
	probers map[string]map[string]remediation.Prober
}

func (s *service) prepare(cfg policies.Config, d policies.ConfigDiff) (p prepared, err error) {
	if s.heal != nil {
		if p.probers, err = s.heal.probers.forDiff(cfg, d); err != nil {
			return p, err
		}
	}
	if s.agent != nil {
		if p.agent, err = s.agent.Prepare(cfg, d); err != nil {
			for _, probers := range p.probers {
				s.heal.probers.release(probers)
			}
		}
	}
	return p, err
}

func (s *service) refused(r reloadReport) reloadReport {
	for _, f := range r.Errors {
		s.log.Error("config was not taken, the one before it goes on", "err", printable(f.Error()))
	}
	return r
}

func (s *service) tell(r reloadReport) {
	for _, c := range r.Changes {
		s.log.Info("setting changed", "setting", c.Path, "kind", string(c.Kind), "from", c.Old, "to", c.New)
	}
	for _, name := range r.Finishing {
		s.log.Info("the action under way is finished by the settings before", "instance", name)
	}
	s.log.Info("config reloaded", "changes", len(r.Changes), "instances", len(s.cfg.Instances))
}

// reloadText is the report for a person.
func reloadText(r reloadReport) (lines []string) {
	what := fmt.Sprintf("%s: reloaded by the dcshealer with pid %d", r.File, r.PID)
	if len(r.Changes) == 0 {
		return append(lines, what+": nothing has changed")
	}
	lines = append(lines, what+": "+nounCount(len(r.Changes), "change"))
	for _, c := range r.Changes {
		lines = append(lines, "  "+printable(c.String()))
	}
	for _, name := range r.Finishing {
		lines = append(lines, "  "+printable(name)+": the action under way is finished by the settings before")
	}
	return lines
}
