package policies

import (
	"fmt"
	"time"
)

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
		return deny("no key of %s has a TTL: there is nothing to expire; %s", f.M.Node, d.Where())
	case d.Cause == CauseClientBuffers:
		return deny("client buffers hold the memory of %s, no sweep frees them; %s", f.M.Node, d.Where())
	case d.Expired.Known && d.Exact && d.Expired.V == 0:
		return deny("no key of %s has expired, 0 expired keys; %s", f.M.Node, d.Where())
	case d.Expired.Known && d.Exact && d.most() < d.Need:
		return deny("about %d expired keys hold %d MiB at the most and %d MiB must come free for the alarm to clear; %s", d.Expired.V, d.most()>>20, d.Need>>20, d.Where())
	case d.VolatileBytes < d.Need/slack:
		return deny("all %d keys with a TTL hold about %d MiB and %d MiB must come free for the alarm to clear; %s", vol.V, d.VolatileBytes>>20, d.Need>>20, d.Where())
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

// slack is how far an even share of the memory may understate what the keys with a TTL hold: stale keys are often the bigger ones.
const slack = 4

// MemoryDiagnosis says where a full master's memory is, in bytes.
type MemoryDiagnosis struct {
	Known         bool
	Cause         Cause
	Counted       int64 // what the server compares with maxmemory
	Max           int64
	Dataset       int64
	ClientBuffers int64
	Need          int64 // to come free for the critical alarm to clear
	VolatileBytes int64 // all keys with a TTL, by their share of the keys: about
	Volatile      int64
	Keys          int64
	Expired       Opt[int64] // expired keys, where a replica in step could tell
	ExpiredBytes  Opt[int64]
	Exact         bool // every key was counted, not a part of them
	Method        string
}

// Estimate is what a replica in step tells of the expired keys of its master. The zero value is: nothing.
type Estimate struct {
	Keys   Opt[int64]
	Bytes  Opt[int64] // by the mean size of live keys with a TTL
	Exact  bool       // Keys were counted in full
	Method string
}

// most is what the expired keys can hold: stale keys are often bigger than the live ones, by which their bytes are estimated.
func (d MemoryDiagnosis) most() int64 {
	even := int64(0)
	if d.Keys > 0 {
		even = int64(float64(max(0, d.Counted-d.ClientBuffers)) * float64(d.Expired.V) / float64(d.Keys))
	}
	return slack * max(d.ExpiredBytes.Or(0), even)
}

// DiagnoseMemory tells where the memory of a full master is.
func DiagnoseMemory(s Snapshot, p Policy, e Estimate) MemoryDiagnosis {
	m := s.Memory
	counted, keys, vol := m.Counted(), s.Keys(), s.Volatile()
	if !counted.Known || m.Max.Or(0) <= 0 || !keys.Known || !m.Dataset.Known {
		return MemoryDiagnosis{}
	}
	d := MemoryDiagnosis{
		Known: true, Counted: counted.V, Max: m.Max.V, Dataset: m.Dataset.V,
		Keys: keys.V, Volatile: vol.V, Expired: e.Keys, ExpiredBytes: e.Bytes, Exact: e.Exact, Method: e.Method,
		Need: max(0, counted.V-p.UsedMemory.CriticalClear().Of(m.Max.V)),
	}
	// mem_clients_normal lags; CLIENT LIST is exact where it was read.
	d.ClientBuffers = max(m.ClientsNormal.Or(0), s.ClientOutput.Or(0))
	if keys.V > 0 {
		// A key with a TTL costs its data and its entry in the expires table; an even share of data and overhead is the best guess.
		d.VolatileBytes = int64(float64(max(0, d.Counted-d.ClientBuffers)) * float64(vol.V) / float64(keys.V))
	}
	if d.Expired.Known && !d.ExpiredBytes.Known && vol.V > 0 {
		// No key with a TTL was left alive to be measured: an even share is the best guess.
		d.ExpiredBytes = Known(int64(float64(d.VolatileBytes) * float64(d.Expired.V) / float64(vol.V)))
	}
	d.Cause = d.cause()
	return d
}

func (d MemoryDiagnosis) cause() Cause {
	switch {
	// Without the client buffers there would be no alarm.
	case d.ClientBuffers > 0 && d.ClientBuffers >= d.Need && d.Dataset < d.Max/2:
		return CauseClientBuffers
	case d.Expired.Known && d.Expired.V > 0 && d.most() >= d.Need:
		return CauseExpiredKeys
	case d.Volatile == 0 && d.Dataset < d.Max/2:
		return CauseOverhead
	case d.VolatileBytes < d.Need/slack, d.Volatile == 0:
		return CauseDataWithoutTTL
	case d.Expired.Known:
		return CauseDataWithTTL
	}
	return CauseExpiredKeys // presumed: known only by acting
}

// Where says in a line where the memory is.
func (d MemoryDiagnosis) Where() string {
	return fmt.Sprintf("of %d MiB counted against maxmemory the data set holds %d MiB (%d keys, %d with a TTL), client buffers %d MiB",
		d.Counted>>20, d.Dataset>>20, d.Keys, d.Volatile, d.ClientBuffers>>20)
}
