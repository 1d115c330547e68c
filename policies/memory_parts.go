package policies

import (
	"fmt"
	"math"
)

// Part names a part of the counted memory.
type Part string

// The parts, which add up to the counted memory.
const (
	PartExpired        Part = "expired-keys"        // expired and not deleted, their entries in the tables included
	PartDataWithTTL    Part = "data-with-ttl"       // of keys that are alive, as far as that is known
	PartDataWithoutTTL Part = "data-without-ttl"    // and whatever else the server counts as data
	PartClients        Part = "client-buffers"      // of normal and Pub/Sub clients, their input included
	PartReplication    Part = "replication-buffers" // the backlog, and what of the replicas' buffers is counted
	PartOverhead       Part = "overhead"            // tables of keys and of TTLs, and the server itself
	PartScripts        Part = "scripts"             // scripts and functions; from Redis 7.4 on their interpreter, too
	PartOther          Part = "other"
)

// How tells how far the bytes of a part can be relied on.
type How string

// The three ways.
const (
	HowKnown     How = "known"     // as the server counts them
	HowEstimated How = "estimated" // about
	HowUnknown   How = "unknown"   // among another part
)

// MemoryPart is one part of the counted memory.
type MemoryPart struct {
	Part  Part         `json:"part"`
	Bytes Opt[int64]   `json:"bytes"`
	Share Opt[float64] `json:"share"` // of the counted memory: 1 is all of it
	How   How          `json:"how"`
	Note  string       `json:"note,omitempty"`
}

// uses is what INFO tells apart in the counted memory; they add up to it.
type uses struct {
	data, clients, replication, overhead, scripts, other int64

	tables       int64 // what of overhead grows with the keys
	clientsKnown bool
}

// usesOf reads the uses off INFO, and the client buffers off CLIENT LIST where that was read: mem_clients_normal is up to a second old, and
// the server takes for data what it lacks. Data is the rest, here as there.
func usesOf(s Snapshot) uses {
	m := s.Memory
	aof := min(m.AOFBuffer.Or(0), m.NotCounted.V)
	spared := m.NotCounted.V - aof // of the replicas' buffers
	backlog, replicas := m.Backlog.Or(0), m.ClientsReplicas.Or(0)
	u := uses{replication: max(0, backlog+replicas-spared), other: m.AOFBuffer.Or(0) - aof + m.ClusterLinks.Or(0)}
	if !m.ReplicationBuffers.Known {
		// 6.0: a backlog of a fixed size beside one buffer for each replica; none of those is counted, and their sum is up to a second old.
		u.replication = backlog + max(0, replicas-spared)
	}
	rest := max(0, m.overhead().V-backlog-replicas-m.ClientsNormal.Or(0)-m.Scripts.Or(0)-m.AOFBuffer.Or(0)-m.ClusterLinks.Or(0))
	vm := min(s.countedVM(), rest)
	u.overhead, u.scripts = rest-vm, m.Scripts.Or(0)+vm
	u.clients, u.clientsKnown = s.clientBuffers()
	u.data = m.Counted().V - u.clients - u.replication - u.overhead - u.scripts - u.other
	u.settle()
	u.tables = max(0, u.overhead-m.Startup.Or(0))
	if s.Keys().V == 0 {
		u.data, u.other = 0, u.other+u.data
	}
	return u
}

// overhead is used_memory_overhead. Where the server holds less than it accounts for, its used_memory_dataset is a number out of range.
func (m Memory) overhead() Opt[int64] {
	if !m.Overhead.Known && m.Used.Known && m.Dataset.Known {
		return Known(m.Used.V - m.Dataset.V)
	}
	return m.Overhead
}

// settle makes up for parts that are together more than there is. The client buffers are first: they are of another moment, and
// Valkey 9 counts there also stored strings that replies only refer to.
func (u *uses) settle() {
	for _, part := range []*int64{&u.clients, &u.overhead, &u.scripts, &u.replication, &u.other} {
		take := min(max(0, -u.data), *part)
		*part -= take
		u.data += take
	}
}

// clientBuffers is what normal and Pub/Sub clients hold, input and output.
func (s Snapshot) clientBuffers() (bytes int64, known bool) {
	if s.ClientMemory.Known {
		return s.ClientMemory.V, true
	}
	return max(s.Memory.ClientsNormal.Or(0), s.ClientOutput.Or(0)), s.Memory.ClientsNormal.Known || s.ClientOutput.Known
}

// countedVM is the memory of the scripts' interpreter where it is counted: on Redis from 7.4 on (seen on 8.0), not on Redis before that
// nor on Valkey up to 9.1.
func (s Snapshot) countedVM() int64 {
	if l := s.Line(); s.Product != "redis" || !l.Known || l.V.Compare(Line{7, 4}) < 0 {
		return 0
	}
	return s.Memory.ScriptVM.Or(0)
}

// parts takes what is expired off the data and off the tables, and splits the rest by TTL.
func (d MemoryDiagnosis) parts(s Snapshot, u uses, e Estimate) []MemoryPart {
	expired, n := d.expiredPart(s.Stats.ExpiredStalePercent.Or(0))
	alive, overhead := u.data, u.overhead
	if expired.Bytes.Known {
		data := min(alive, max(0, expired.Bytes.V-portion(u.tables, n, d.Keys)))
		entries := min(expired.Bytes.V-data, u.tables)
		expired.Bytes.V = data + entries
		alive, overhead = alive-data, overhead-entries
	}
	with, how := d.withTTL(alive, n, e.mean())
	if expired.How == HowEstimated {
		how = HowEstimated
	}
	clients := MemoryPart{Part: PartClients, How: HowUnknown}
	if u.clientsKnown {
		clients = known(PartClients, u.clients)
	}
	out := []MemoryPart{expired,
		{Part: PartDataWithTTL, Bytes: Known(with), How: how, Note: fmt.Sprintf("%d keys", max(0, d.Volatile-n))},
		{Part: PartDataWithoutTTL, Bytes: Known(alive - with), How: how, Note: fmt.Sprintf("%d keys", d.Keys-d.Volatile)},
		clients, known(PartReplication, u.replication), known(PartOverhead, overhead), known(PartScripts, u.scripts), known(PartOther, u.other)}
	for i, p := range out {
		if p.Bytes.Known && d.Counted > 0 {
			out[i].Share = Known(math.Round(float64(p.Bytes.V)/float64(d.Counted)*1e4) / 1e4)
		}
	}
	return out
}

func known(p Part, bytes int64) MemoryPart {
	return MemoryPart{Part: p, Bytes: Known(bytes), How: HowKnown}
}

// withTTL is what of the data of live keys is that of keys with a TTL, where n of these have expired. mean is the measured size of one.
func (d MemoryDiagnosis) withTTL(alive, n int64, mean Opt[float64]) (int64, How) {
	left := max(0, d.Volatile-n)
	switch {
	case d.Volatile == 0:
		return 0, HowKnown
	case d.Volatile >= d.Keys:
		return alive, HowKnown
	case mean.Known:
		entries := portion(d.tables, left, d.Keys)
		return min(alive, max(0, int64(mean.V*float64(left))-entries)), HowEstimated
	}
	return portion(alive, left, max(1, d.Keys-n)), HowEstimated
}

// expiredPart is what the expired keys hold, and how many they are. stale is expired_stale_perc, of which 0 proves nothing.
func (d MemoryDiagnosis) expiredPart(stale float64) (MemoryPart, int64) {
	p := MemoryPart{Part: PartExpired, How: HowEstimated}
	switch n := int64(min(stale, 100) / 100 * float64(d.Volatile)); {
	case d.Expired.Known && (d.Volatile == 0 || d.Expired.V == 0 && d.Exact):
		return MemoryPart{Part: PartExpired, Bytes: Known(int64(0)), How: HowKnown, Note: d.Method}, 0
	case d.Expired.Known:
		p.Bytes, p.Note = d.ExpiredBytes, fmt.Sprintf("%d keys by %s", d.Expired.V, d.Method)
		return p, d.Expired.V
	case n > 0:
		p.Bytes, p.Note = Known(d.even(n)), fmt.Sprintf("about %d keys by expired_stale_perc, which lags", n)
		return p, n
	}
	return MemoryPart{Part: PartExpired, How: HowUnknown, Note: "part of data-with-ttl: not known without acting"}, 0
}

// bytes is a part's size; 0 where it is not known.
func (d MemoryDiagnosis) bytes(name Part) int64 {
	for _, p := range d.Parts {
		if p.Part == name {
			return p.Bytes.Or(0)
		}
	}
	return 0
}
