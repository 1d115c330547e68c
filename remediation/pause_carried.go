package remediation

import (
	"context"
	"slices"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// carryPauses has the pauses of instances that the config no longer names hold for those that have their nodes now: an instance that gets
// another name stays paused. Of one that has no successor it is said that its pause is about nothing.
func (h *Healer) carryPauses(ctx context.Context, cfg policies.Config) {
	if h.opt.Journal == nil || h.opt.LookOnly || h.opt.Trigger != policies.TriggerAlarm {
		return
	}
	now := time.Now()
	pauses, err := h.opt.Journal.Pauses(ctx, now)
	if err != nil {
		h.log.Error("pauses of instances that have another name now could not be read", "err", err)
		return
	}
	for _, p := range pauses {
		if _, ok := cfg.Instance(p.Instance); ok || p.Instance == "" {
			continue
		}
		heirs := h.heirs(cfg, p.Instance)
		if len(heirs) == 0 {
			h.log.Warn("a pause is about an instance that is not in the config", "instance", p.Instance, "reason", p.Reason)
		}
		for _, to := range heirs {
			if slices.ContainsFunc(pauses, func(o journal.Pause) bool { return o.Instance == to }) {
				continue
			}
			carried := journal.Pause{Instance: to, Until: p.Until, Reason: p.Reason + " (paused as " + p.Instance + ")", By: p.By, At: now}
			if err := h.opt.Journal.SetPause(ctx, carried); err != nil {
				h.log.Error("a pause could not be carried over to the new name of an instance", "instance", to, "from", p.Instance, "err", err)
				continue
			}
			h.say(to, "paused, as %s was: %s", p.Instance, pauseText(carried))
		}
	}
}

// heirs are the instances of the config that have a server of an instance that is not in it.
func (h *Healer) heirs(cfg policies.Config, gone string) (names []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	had := map[policies.Address]bool{}
	for _, n := range h.memory {
		if n.Instance == gone && !n.Address.IsZero() {
			had[n.Address] = true
		}
	}
	for _, i := range cfg.Instances {
		if slices.ContainsFunc(i.Nodes, func(n policies.Node) bool { return had[n.Address] }) {
			names = append(names, i.Name)
		}
	}
	return names
}
