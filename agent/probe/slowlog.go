package probe

import (
	"context"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// slowlogMax is how many entries are asked for at most; slowlog-max-len is 128 by default.
const slowlogMax = 128

// slowSeen is the newest entry that was read of one run of a server. Ids rise without gaps and survive SLOWLOG RESET.
type slowSeen struct {
	runID  string
	newest int64
}

// slowlog fills Slowlog: newest is the answer to SLOWLOG GET 1, more is asked only for entries not seen yet.
func (p *Prober) slowlog(ctx context.Context, snap *policies.Snapshot, newest *redis.Cmd) error {
	reply, err := newest.Slice()
	if err != nil {
		p.slow = slowSeen{}
		return nil // refused or renamed: unknown
	}
	entries := slowEntries(reply)
	log := &snap.Slowlog
	log.Known, log.Newest = true, -1
	if len(entries) > 0 {
		log.Newest = entries[0].ID
	}
	log.Entries = entries
	if n := p.slow.missing(snap.RunID, log.Newest); n > 1 {
		more := redis.NewCmd(ctx, "slowlog", "get", n)
		if err := p.s.pipeline(ctx, more); err != nil {
			return err
		}
		if reply, err := more.Slice(); err == nil {
			log.Entries = slowEntries(reply)
			log.Newest = max(log.Newest, newestOf(log.Entries))
		}
	}
	p.slow.see(snap.RunID, log.Newest)
	return nil
}

// see remembers newest; the log may have been emptied (-1), and its ids go on.
func (s *slowSeen) see(runID string, newest int64) {
	if s.runID != runID {
		*s = slowSeen{runID: runID, newest: -1}
	}
	s.newest = max(s.newest, newest)
}

// missing is how many entries have to be asked for to know all up to newest.
func (s slowSeen) missing(runID string, newest int64) int64 {
	if newest < 0 {
		return 0
	}
	if s.runID != runID {
		return slowlogMax
	}
	return min(newest-s.newest, slowlogMax)
}

func newestOf(entries []policies.SlowEntry) int64 {
	if len(entries) == 0 {
		return -1
	}
	return entries[0].ID
}

// slowEntries keeps id and time; the arguments, which may hold keys and values, are dropped.
func slowEntries(reply []any) []policies.SlowEntry {
	var entries []policies.SlowEntry
	for _, item := range reply {
		fields, _ := item.([]any)
		if len(fields) < 2 {
			continue
		}
		id, ok := fields[0].(int64)
		unix, ok2 := fields[1].(int64)
		if ok && ok2 {
			entries = append(entries, policies.SlowEntry{ID: id, Unix: unix})
		}
	}
	return entries
}
