package policies

import "fmt"

// ExpiredBounds is what INFO alone tells of the expired keys of a node: between which numbers they are, and how they can be known.
type ExpiredBounds struct {
	LeastKeys, MostKeys   Opt[int64]
	LeastBytes, MostBytes Opt[int64] // that their deletion gives back
	Method                string     // for a person
}

// BoundExpired bounds the expired keys where no replica in step can tell them. INFO counts them with the live keys: they may be none and
// they may be all that have a TTL. These few or many may hold nearly all that the keys hold, so that no share of the memory bounds their
// bytes. What INFO does not show stays unknown.
func BoundExpired(s Snapshot) ExpiredBounds {
	keys, volatile := s.Keys(), s.Volatile()
	switch {
	case !volatile.Known:
		return ExpiredBounds{Method: NotKnownWithoutActing + ": INFO shows no keyspace"}
	case volatile.V == 0:
		none := Known(int64(0))
		return ExpiredBounds{none, none, none, none, "no key has a TTL"}
	}
	b := ExpiredBounds{
		LeastKeys: Known(int64(0)), MostKeys: volatile, LeastBytes: Known(int64(0)), MostBytes: s.keysHold(),
		Method: fmt.Sprintf("%s: none to all of the %d keys with a TTL", NotKnownWithoutActing, volatile.V),
	}
	if b.MostBytes.Known {
		b.MostBytes.V = max(0, b.MostBytes.V-(keys.V-volatile.V)*leastKeyBytes)
		b.Method += fmt.Sprintf(", 0 to %d MiB", b.MostBytes.V>>20)
	}
	return b
}

// leastKeyBytes is less than a key holds on any version: its object is 16 bytes.
const leastKeyBytes = 16

// keysHold is the most that the keys and their tables may hold.
func (s Snapshot) keysHold() Opt[int64] {
	if !s.Memory.Counted().Known || !s.Memory.overhead().Known {
		return Opt[int64]{}
	}
	u := usesOf(s)
	return Known(u.data + u.tables)
}
