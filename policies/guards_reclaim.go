package policies

import "time"

// ReclaimFacts is what the guards of reclaim-expired need: a fresh probe of the master M and where its memory is.
type ReclaimFacts struct {
	Facts
	M         Snapshot
	Diagnosis MemoryDiagnosis
	CalmRTT   time.Duration // median round trip of INFO in a calm time; 0: not known
}

// ReclaimGuards asks every guard of reclaim-expired, the common ones first.
func ReclaimGuards(f ReclaimFacts) []Ruling {
	return append(CommonGuards(f.Facts),
		Rule(GuardBusy, f.busy()),
		Rule(GuardIsMaster, f.isMaster()),
		Rule(GuardWorthwhile, f.worthwhile()),
		Rule(GuardLatency, f.latency()),
	)
}

func (f ReclaimFacts) busy() Verdict {
	p := f.M.Persistence
	switch {
	case !p.BgsaveRunning.Known || !p.AOFRewriteRunning.Known || !f.M.Loading.Known:
		return deny("%s does not say whether it saves or loads", f.M.Node)
	case f.M.Loading.V:
		return hold("%s is loading its data set", f.M.Node)
	case p.BgsaveRunning.V || p.AOFRewriteRunning.V:
		return hold("%s is saving (BGSAVE or AOF rewrite): deletions would copy memory", f.M.Node)
	case clientsPaused(f.M):
		return hold("clients are paused on %s (%s): SCAN deletes nothing then", f.M.Node, f.M.Clients.Paused.V)
	}
	for _, l := range f.M.Replication.Replicas {
		if l.State != "online" {
			return hold("%s is copying to its replica %s:%d (%s)", f.M.Node, l.Host, l.Port, l.State)
		}
	}
	if behind := f.M.Replication.Behind(); behind > MostBehind {
		return hold("a replica of %s is %d MiB behind: deletions would add to that", f.M.Node, behind>>20)
	}
	return allow("%s neither saves, loads nor copies", f.M.Node)
}

// isMaster: a replica ignores maxmemory and deletes nothing by itself.
func (f ReclaimFacts) isMaster() Verdict {
	if f.M.Reach == ReachLoading {
		return hold("%s is loading its data set", f.M.Node)
	}
	if f.M.Reach != ReachUp || f.M.Replication.Role != RoleMaster {
		return deny("%s is not a reachable master (%s, %s)", f.M.Node, f.M.Reach, f.M.Replication.Role)
	}
	return allow("%s is a master", f.M.Node)
}

// worthwhile denies on what is known. INFO's expired_stale_perc of 0 proves nothing, so unknown with volatile keys is
// allowed: the sweep ends itself when its first pass brings nothing.
func (f ReclaimFacts) worthwhile() Verdict {
	d := f.Diagnosis
	vol := f.M.Volatile()
	switch {
	case !vol.Known || !d.Known:
		return deny("the memory of %s could not be read in full", f.M.Node)
	case vol.V == 0:
		return deny("no key of %s has a TTL: there is nothing to expire; %s", f.M.Node, d.why())
	case d.Cause == CauseClientBuffers:
		return deny("client buffers hold the memory of %s, no sweep frees them; %s", f.M.Node, d.why())
	case d.Cause == CauseReplicationBuffers:
		return deny("replication buffers hold the memory of %s, no sweep frees them; %s", f.M.Node, d.why())
	case d.Expired.Known && d.Exact && d.Expired.V == 0:
		return deny("no key of %s has expired, 0 expired keys; %s", f.M.Node, d.why())
	case d.Expired.Known && d.Exact && d.most() < d.Need:
		return deny("about %d expired keys hold %d MiB at the most and %d MiB must come free for the alarm to clear; %s", d.Expired.V, d.most()>>20, d.Need>>20, d.why())
	case d.VolatileBytes < d.Need/slack && d.most() < d.Need:
		return deny("all %d keys with a TTL hold about %d MiB and %d MiB must come free for the alarm to clear; %s", vol.V, d.VolatileBytes>>20, d.Need>>20, d.why())
	case d.Expired.Known:
		return allow("about %d expired keys, %d MiB; %d MiB must come free", d.Expired.V, d.ExpiredBytes.Or(0)>>20, d.Need>>20)
	}
	return allow("%d of %d keys have a TTL; how many have expired is not known without acting", vol.V, f.M.Keys().V)
}

// latency goes by our own round trips: a sweep on a server that already struggles makes it worse.
func (f ReclaimFacts) latency() Verdict {
	const floor, factor = 20 * time.Millisecond, 5
	rtt := f.M.RTT
	limit := 100 * time.Millisecond
	if f.CalmRTT > 0 {
		limit = max(floor, factor*f.CalmRTT)
	}
	switch {
	case rtt <= 0:
		return deny("the round trip to %s was not measured", f.M.Node)
	case rtt > limit:
		return hold("%s answers in %s, more than %s is too slow to add load", f.M.Node, rtt.Round(100*time.Microsecond), limit)
	}
	return allow("%s answers in %s", f.M.Node, rtt.Round(10*time.Microsecond))
}
