package policies

import "math"

// slack is how far an even share of the memory may understate what the keys with a TTL hold: stale keys are often the bigger ones.
const slack = 4

// MemoryDiagnosis says where a full master's memory is, in bytes.
type MemoryDiagnosis struct {
	Known         bool
	Cause         Cause
	Counted       int64 // what the server compares with maxmemory
	Max           int64
	Dataset       int64 // the data of all keys, without their entries in the tables
	ClientBuffers int64
	Replication   int64 // backlog and replica buffers, as far as they are counted
	Need          int64 // to come free for the critical alarm to clear
	VolatileBytes int64 // all keys with a TTL, by their share of the keys: about
	Volatile      int64
	Keys          int64
	Expired       Opt[int64] // expired keys, where a replica in step could tell
	ExpiredBytes  Opt[int64]
	Exact         bool // every key was counted, not a part of them
	Method        string
	Parts         []MemoryPart // they add up to Counted
	Advice        []string     // what would help, the nearest first
	Notes         []string     // what stands beside the counted memory

	tables int64 // of all keys: freed with them
}

// Estimate is what a replica in step tells of the expired keys of its master. The zero value is: nothing.
type Estimate struct {
	Keys   Opt[int64]
	Bytes  Opt[int64]   // that they hold
	Mean   Opt[float64] // bytes of a key with a TTL, known even where none has expired
	Exact  bool         // Keys were counted in full
	Method string
}

// mean is the mean size of a key with a TTL, its entry in the table included.
func (e Estimate) mean() Opt[float64] {
	if !e.Mean.Known && e.Bytes.Known && e.Keys.V > 0 {
		return Known(float64(e.Bytes.V) / float64(e.Keys.V))
	}
	return e.Mean
}

// DiagnoseMemory tells where the memory of a full master is. It needs no more than INFO; CLIENT LIST makes the client buffers exact,
// and an estimate tells expired keys from live ones.
func DiagnoseMemory(s Snapshot, p Policy, e Estimate) MemoryDiagnosis {
	m := s.Memory
	counted, keys, vol := m.Counted(), s.Keys(), s.Volatile()
	if !counted.Known || m.Max.Or(0) <= 0 || !keys.Known || !m.overhead().Known {
		return MemoryDiagnosis{}
	}
	u := usesOf(s)
	d := MemoryDiagnosis{
		Known: true, Counted: counted.V, Max: m.Max.V, Dataset: u.data, ClientBuffers: u.clients, Replication: u.replication, tables: u.tables,
		Keys: keys.V, Volatile: vol.V, Expired: e.Keys, ExpiredBytes: e.Bytes, Exact: e.Exact, Method: e.Method,
		Need: max(0, counted.V-p.UsedMemory.CriticalClear().Of(m.Max.V)),
	}
	// A key with a TTL costs its data and its entries in the tables; an even share is the best guess.
	d.VolatileBytes = d.even(vol.V)
	if d.Expired.Known && !d.ExpiredBytes.Known && vol.V > 0 {
		// No key with a TTL was left alive to be measured.
		d.ExpiredBytes = Known(d.even(d.Expired.V))
	}
	d.Parts = d.parts(s, u, e)
	d.Cause = d.cause()
	d.Advice = d.advise(s)
	d.Notes = notes(s)
	return d
}

// even is the share of so many keys, were they all of one size.
func (d MemoryDiagnosis) even(keys int64) int64 { return portion(d.Dataset+d.tables, keys, d.Keys) }

// portion is n of total parts of bytes; 0 of none.
func portion(bytes, n, total int64) int64 {
	if total <= 0 {
		return 0
	}
	return int64(math.Round(float64(bytes) * float64(n) / float64(total)))
}

// most is what the expired keys can hold: stale keys are often bigger than the live ones, by which their bytes are estimated.
func (d MemoryDiagnosis) most() int64 { return slack * max(d.ExpiredBytes.Or(0), d.even(d.Expired.V)) }

// hopeless reports that what is known of the keys with a TTL leaves a sweep no chance to clear the alarm.
func (d MemoryDiagnosis) hopeless() bool {
	switch {
	case d.Volatile == 0:
		return true
	case d.Expired.Known:
		return d.Expired.V == 0 || d.most() < d.Need
	}
	return d.VolatileBytes < d.Need/slack
}

// cause names what would have to go for the alarm to clear. Fragmentation is none: the alarm goes by counted memory, and what a process
// holds beyond that is not counted.
func (d MemoryDiagnosis) cause() Cause {
	buffers, cause := d.ClientBuffers, CauseClientBuffers
	if d.Replication > buffers {
		buffers, cause = d.Replication, CauseReplicationBuffers
	}
	with, without := d.bytes(PartDataWithTTL)+d.bytes(PartExpired), d.bytes(PartDataWithoutTTL)
	// Without them there would be no alarm, or they are more than the data is; and they are no small thing.
	excess := buffers >= d.Counted/4 && (buffers >= d.Need || buffers > with+without)
	switch {
	case d.Expired.V > 0 && d.ExpiredBytes.Or(0) >= d.Need:
		return CauseExpiredKeys
	case excess && (d.Dataset < d.Max/2 || d.hopeless()):
		return cause
	case !d.hopeless():
		return CauseExpiredKeys // presumed, where it is known only by acting
	case d.Dataset < d.Max/2 && d.bytes(PartOverhead)+d.bytes(PartScripts) > with+without:
		return CauseOverhead
	case without > with:
		return CauseDataWithoutTTL
	}
	return CauseDataWithTTL
}
