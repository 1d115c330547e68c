package policies

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// bigKey is the mean size of a key from which on a few of them may hold most of the memory.
const bigKey = 64 << 10

// MemoryReport is a diagnosis as plans and records show it, in bytes. It names clients by address and no key.
type MemoryReport struct {
	Cause         Cause        `json:"cause"`
	Counted       int64        `json:"counted_bytes"` // what the server compares with maxmemory; the parts add up to it
	Max           int64        `json:"maxmemory_bytes"`
	Needed        int64        `json:"needed_bytes"` // to come free for the critical alarm to clear
	Dataset       int64        `json:"dataset_bytes"`
	ClientBuffers int64        `json:"client_buffer_bytes"`
	Keys          int64        `json:"keys"`
	VolatileKeys  int64        `json:"volatile_keys"`
	ExpiredKeys   Opt[int64]   `json:"expired_keys"`
	Parts         []MemoryPart `json:"parts"`
	Advice        []string     `json:"advice"`
	Notes         []string     `json:"notes"`
}

// Report is the diagnosis for plans and records; nil where the memory could not be read.
func (d MemoryDiagnosis) Report() *MemoryReport {
	if !d.Known {
		return nil
	}
	return &MemoryReport{Cause: d.Cause, Counted: d.Counted, Max: d.Max, Needed: d.Need, Dataset: d.Dataset, ClientBuffers: d.ClientBuffers,
		Keys: d.Keys, VolatileKeys: d.Volatile, ExpiredKeys: d.Expired, Parts: d.Parts, Advice: d.Advice, Notes: d.Notes}
}

// largest are the parts of at least this share of the counted memory, the largest first.
func (d MemoryDiagnosis) largest(least float64) []MemoryPart {
	parts := slices.DeleteFunc(slices.Clone(d.Parts), func(p MemoryPart) bool { return p.Share.Or(0) < least })
	slices.SortStableFunc(parts, func(a, b MemoryPart) int { return cmp.Compare(b.Bytes.V, a.Bytes.V) })
	return parts
}

// Where says in a line where the memory is: of %s counted, what the largest parts hold.
func (d MemoryDiagnosis) Where() string {
	var parts []string
	for _, p := range d.largest(0.01) {
		parts = append(parts, fmt.Sprintf("%s %s (%s)", p.Part, amount(p.Bytes.V), percent(p)))
	}
	return fmt.Sprintf("of %s counted against maxmemory: %s", amount(d.Counted), strings.Join(parts, ", "))
}

// Brief names the largest parts, to follow the text of a finding; empty where nothing is known. Data is one there: how much of it has a
// TTL or has expired is an estimate, which a later look may make better, and the cause says what matters of it.
func (d MemoryDiagnosis) Brief() string {
	brief := MemoryDiagnosis{Parts: []MemoryPart{known("data", 0)}}
	for _, p := range d.Parts {
		switch p.Part {
		case PartExpired, PartDataWithTTL, PartDataWithoutTTL:
			brief.Parts[0].Bytes.V += p.Bytes.Or(0)
		default:
			brief.Parts = append(brief.Parts, p)
		}
	}
	brief.Parts[0].Share = Known(float64(brief.Parts[0].Bytes.V) / float64(max(1, d.Counted)))
	var parts []string
	for _, p := range brief.largest(0.1) {
		parts = append(parts, string(p.Part)+" "+percent(p))
	}
	if len(parts) == 0 {
		return ""
	}
	return "; held by " + strings.Join(parts, ", ")
}

// percent is a part's share, "about" where it is estimated.
func percent(p MemoryPart) string {
	about := ""
	if p.How == HowEstimated {
		about = "about "
	}
	return fmt.Sprintf("%s%d %%", about, int64(math.Round(p.Share.V*100)))
}

// why is a diagnosis for a refusal: the cause, where the memory is and what would help first.
func (d MemoryDiagnosis) why() string {
	return strings.Join(append([]string{string(d.Cause) + ": " + d.Where()}, d.Advice[:min(1, len(d.Advice))]...), "; ")
}

// advise says what would help: for the cause first, then for buffers without which there would be no alarm, and for large ones.
func (d MemoryDiagnosis) advise(s Snapshot) []string {
	out := d.advice(d.Cause, s)
	least := max(1, min(d.Need, d.Counted/4))
	if d.Cause != CauseClientBuffers && d.ClientBuffers >= least {
		out = append(out, d.advice(CauseClientBuffers, s)...)
	}
	if d.Cause != CauseReplicationBuffers && d.Replication >= least {
		out = append(out, d.advice(CauseReplicationBuffers, s)...)
	}
	return append(out, d.adviseUncounted(s)...)
}

func (d MemoryDiagnosis) advice(c Cause, s Snapshot) []string {
	switch c {
	case CauseExpiredKeys:
		return d.adviseSweep()
	case CauseClientBuffers:
		return d.adviseClients(s)
	case CauseReplicationBuffers:
		return []string{d.adviseBacklog(s)}
	case CauseDataWithTTL:
		return d.adviseWithTTL(s.Memory.Policy)
	case CauseDataWithoutTTL:
		return d.adviseWithoutTTL(s.Memory.Policy)
	}
	return d.adviseOverhead()
}

func (d MemoryDiagnosis) adviseSweep() []string {
	if d.Expired.Known {
		return []string{fmt.Sprintf("reclaim-expired deletes them: about %d keys, %s", d.Expired.V, amount(d.ExpiredBytes.Or(0)))}
	}
	return append([]string{fmt.Sprintf("reclaim-expired: how many of the %d keys with a TTL have expired is not known without acting; a sweep tells, and ends itself when its first pass brings nothing", d.Volatile)},
		d.adviseBigKeys()...)
}

// adviseClients names the client to close and the limit that would have closed it.
func (d MemoryDiagnosis) adviseClients(s Snapshot) []string {
	c := s.TopClientUse
	if s.TopClient == "" {
		return []string{fmt.Sprintf("no client holds much by itself, of %s in all of them: fewer connections%s", amount(d.ClientBuffers), sumLimit(s))}
	}
	holds, limit := fmt.Sprintf("%s of output that it does not read (omem)", amount(c.Output)), "client-output-buffer-limit normal"
	switch {
	case c.Output < c.Memory/2:
		holds, limit = fmt.Sprintf("%s, most of it input: an unfinished command or MULTI", amount(c.Memory)), "client-query-buffer-limit"
	case c.Kind == ClientPubSub:
		limit = "client-output-buffer-limit pubsub"
	case c.Kind == ClientMonitor:
		holds += ", of MONITOR"
	}
	out := []string{fmt.Sprintf("the client %s holds %s: CLIENT KILL ADDR %s frees it, a smaller %s keeps it from coming back", s.TopClient, holds, s.TopClient, limit)}
	if c.Memory < d.ClientBuffers/2 {
		out = append(out, fmt.Sprintf("other clients hold the rest of %s: look for tot-mem in CLIENT LIST%s", amount(d.ClientBuffers), sumLimit(s)))
	}
	return out
}

// adviseUncounted is for Valkey from 9 on, which does not copy big strings into replies: those that wait for a client to read count as data
// for the most part, and stored ones as output of the client that asked for them.
func (d MemoryDiagnosis) adviseUncounted(s Snapshot) []string {
	l := s.Line()
	switch {
	case s.Product != "valkey" || !l.Known || l.V.Major < 9 || s.TopClient == "" || !s.TopClientUse.Waiting:
		return nil
	case d.Cause == CauseClientBuffers:
		return []string{"Valkey 9 counts stored big strings there, too, where replies refer to them: closing the client may free less"}
	}
	return []string{fmt.Sprintf("the client %s does not read, and Valkey 9 shows in no figure of it what big strings wait for it: it may hold much of what looks like data; CLIENT KILL ADDR %s tells", s.TopClient, s.TopClient)}
}

// sumLimit names the setting that bounds all client buffers together.
func sumLimit(s Snapshot) string {
	if l := s.Line(); !l.Known || l.V.Major < 7 {
		return ""
	}
	return ", or bound their sum with maxmemory-clients"
}

// adviseBacklog says how small the backlog would have to be.
func (d MemoryDiagnosis) adviseBacklog(s Snapshot) string {
	set := s.Memory.BacklogSize
	if !set.Known {
		return fmt.Sprintf("the replication backlog holds %s: a smaller repl-backlog-size frees it at once", amount(d.Replication))
	}
	ring := !s.Memory.ReplicationBuffers.Known // 6.0: one piece of memory, set aside as a whole
	text := fmt.Sprintf("the replication backlog holds %s (repl-backlog-size %d)", amount(d.Replication), set.V)
	to := backlogFor(d.Replication-d.Need-d.Need/8, ring) // with something to spare
	if to == 0 {
		to = backlogFor(d.Replication-d.Need, ring)
	}
	if to == 0 {
		return text + ": a smaller one would not clear the alarm by itself; maxmemory has to hold it, too"
	}
	text += fmt.Sprintf(": CONFIG SET repl-backlog-size %d clears the alarm at once, as long as the replicas can catch up with that much; or a higher maxmemory", to)
	if ring {
		text += "; this version then forgets the backlog it has, and a replica that is off copies in full"
	}
	return text
}

// backlogFor is the largest backlog, in whole MiB, that takes no more than so many bytes; 0: none does. For a ring the allocator has only
// four sizes from one power of two to the next: 21 MiB take 24.
func backlogFor(bytes int64, ring bool) int64 {
	step := int64(1 << 20)
	for ring && step*8 <= bytes {
		step *= 2
	}
	return max(0, bytes) / step * step
}

func (d MemoryDiagnosis) adviseWithTTL(policy string) []string {
	held := amount(d.bytes(PartDataWithTTL))
	text := fmt.Sprintf("%d keys with a TTL hold about %s and go as they expire", max(0, d.Volatile-d.Expired.Or(0)), held)
	if policy == "noeviction" {
		text += "; sooner: evict-near-expiry in the ladder of the instance, a higher maxmemory, or a maxmemory-policy such as volatile-ttl"
	} else {
		text += fmt.Sprintf("; sooner: a higher maxmemory, or evict-near-expiry in the ladder of the instance, as %s does not evict enough", policy)
	}
	return append([]string{text}, d.adviseBigKeys()...)
}

func (d MemoryDiagnosis) adviseWithoutTTL(policy string) []string {
	n := d.Keys - d.Volatile
	text := fmt.Sprintf("%d keys without a TTL hold about %s (mean %s) and stay until they are deleted: a higher maxmemory, or delete some, or give them a TTL", n, amount(d.bytes(PartDataWithoutTTL)),
		amount(portion(d.bytes(PartDataWithoutTTL), 1, n)))
	switch {
	case policy == "noeviction":
		text += "; a maxmemory-policy such as allkeys-lru would evict them, and lose them"
	case strings.HasPrefix(policy, "volatile-"):
		text += "; " + policy + " evicts none of them"
	}
	big := d.adviseBigKeys()
	return append(big, text)
}

// adviseBigKeys is for keys of which a few may hold most: INFO cannot tell them apart.
func (d MemoryDiagnosis) adviseBigKeys() []string {
	mean := portion(d.Dataset, 1, d.Keys)
	if mean < bigKey {
		return nil
	}
	return []string{fmt.Sprintf("%d keys of %s in the mean: a few big ones may hold most, whatever their TTL; find them with redis-cli --bigkeys (or --memkeys) on a replica; XTRIM shortens a stream, also when the server is full", d.Keys, amount(mean))}
}

func (d MemoryDiagnosis) adviseOverhead() []string {
	if scripts := d.bytes(PartScripts); scripts >= d.bytes(PartOverhead) {
		return []string{fmt.Sprintf("scripts and functions hold %s: SCRIPT FLUSH drops the cached scripts; give values as arguments instead of writing them into the script", amount(scripts))}
	}
	if d.tables < d.Dataset || d.Keys == 0 {
		return []string{fmt.Sprintf("the server itself and what belongs to no key hold %s: maxmemory is too small for it", amount(d.bytes(PartOverhead)+d.bytes(PartOther)))}
	}
	return []string{fmt.Sprintf("the tables of %d keys hold %s, more than their data (mean %s): fewer and bigger keys, such as hashes, or a higher maxmemory", d.Keys, amount(d.tables), amount(portion(d.Dataset, 1, d.Keys)))}
}

// notes are about memory that is not counted against maxmemory, and so no cause of the alarm.
func notes(s Snapshot) []string {
	m := s.Memory
	out := []string{}
	if m.RSS.Known && m.Used.V > 0 {
		out = append(out, fmt.Sprintf("the process holds %s, %.2f times used memory: what is beyond that, fragmentation, is not counted against maxmemory and no cause here", amount(m.RSS.V), float64(m.RSS.V)/float64(m.Used.V)))
	}
	if m.NotCounted.V >= 1<<20 {
		out = append(out, fmt.Sprintf("%s in the buffers of replicas and of the AOF are not counted against maxmemory", amount(m.NotCounted.V)))
	}
	return out
}

// amount is bytes for a person, to three figures or so: parts that add up should look like it.
func amount(n int64) string {
	const mib = 1 << 20
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 100*mib:
		return fmt.Sprintf("%d MiB", (n+mib/2)/mib)
	case n >= mib:
		return fmt.Sprintf("%.1f MiB", float64(n)/mib)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
