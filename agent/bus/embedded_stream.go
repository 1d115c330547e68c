package bus

import (
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2/server"

	"dcshealer/policies"
)

// embeddedBytes bounds what the stream takes of this process's memory.
const embeddedBytes = 64 << 20

// alarmStream is the embedded bus's stream, with the forms of the commands that Bus uses.
// Miniredis's own compares ids as text in every entry: reading 10,000 alarms took it minutes, holding its lock.
type alarmStream struct {
	key string

	mu      sync.Mutex // guards what follows
	entries []streamEntry
	bytes   int // of them
	last    streamID
	groups  map[string]*streamGroup
}

type streamEntry struct {
	id               streamID
	channel, payload string
}

// hook answers the stream's commands; done is false for all others.
func (s *alarmStream) hook(c *server.Peer, cmd string, args []string) (done bool) {
	switch cmd {
	case "XADD":
		s.add(c, args)
	case "XLEN":
		s.mu.Lock()
		defer s.mu.Unlock()
		c.WriteInt(len(s.entries))
	case "XRANGE":
		s.rang(c, args, false)
	case "XREVRANGE":
		s.rang(c, args, true)
	default:
		return s.groupHook(c, cmd, args)
	}
	return true
}

// add demands the one form that Send uses.
func (s *alarmStream) add(c *server.Peer, args []string) {
	if len(args) != 9 || args[0] != s.key || !strings.EqualFold(args[1], "maxlen") || args[2] != "~" || args[4] != "*" ||
		args[5] != fieldChannel || args[7] != fieldPayload || len(args[6]) > 1024 || len(args[8]) > policies.MaxPayload {
		c.WriteError("ERR an embedded bus takes only XADD " + s.key + " MAXLEN ~ N * channel CHANNEL payload PAYLOAD")
		return
	}
	c.WriteBulk(s.append(args[6], args[8], time.Now()).String())
}

// append keeps ids rising whatever the clock does.
func (s *alarmStream) append(channel, payload string, now time.Time) streamID {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := streamID{ms: uint64(max(now.UnixMilli(), 0))}
	if !s.last.less(id) {
		id = s.last.next()
	}
	s.last = id
	e := streamEntry{id, channel, payload}
	for s.bytes += e.cost(); len(s.entries) >= streamCap || s.bytes > embeddedBytes && len(s.entries) > 0; {
		s.bytes -= s.entries[0].cost()
		s.entries[0] = streamEntry{} // let go of the payload
		s.entries = s.entries[1:]
	}
	s.entries = append(s.entries, e)
	return id
}

func (e streamEntry) cost() int { return len(e.channel) + len(e.payload) + messageCost }

// rang reads KEY FROM TO [COUNT N]; ids are -, + or ms-seq.
func (s *alarmStream) rang(c *server.Peer, args []string, reverse bool) {
	count := streamCap
	if len(args) == 5 && strings.EqualFold(args[3], "count") {
		n, err := strconv.Atoi(args[4])
		if err != nil {
			c.WriteError("ERR value is not an integer or out of range")
			return
		}
		count, args = n, args[:3]
	}
	if len(args) != 3 {
		c.WriteError("ERR wrong number of arguments: want KEY FROM TO [COUNT N]")
		return
	}
	from, to := args[1], args[2]
	if reverse {
		from, to = to, from
	}
	entries, err := s.between(from, to)
	if err != nil {
		c.WriteError("ERR Invalid stream ID specified as stream command argument")
		return
	}
	if args[0] != s.key {
		entries = nil
	}
	writeEntries(c, entries, count, reverse)
}

func (s *alarmStream) between(from, to string) ([]streamEntry, error) {
	low, err := boundID(from, streamID{})
	if err != nil {
		return nil, err
	}
	high, err := boundID(to, streamID{^uint64(0), ^uint64(0)})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, j := s.index(low), sort.Search(len(s.entries), func(i int) bool { return high.less(s.entries[i].id) })
	return append([]streamEntry(nil), s.entries[i:max(i, j)]...), nil
}

// index is that of the first entry at or after an id. The caller holds s.mu.
func (s *alarmStream) index(id streamID) int {
	return sort.Search(len(s.entries), func(i int) bool { return !s.entries[i].id.less(id) })
}

// boundID reads an end of a range; a missing seq is the other end's.
func boundID(s string, open streamID) (streamID, error) {
	if s == "-" {
		return streamID{}, nil
	}
	if s == "+" {
		return streamID{^uint64(0), ^uint64(0)}, nil
	}
	if !strings.Contains(s, "-") {
		s += "-" + strconv.FormatUint(open.seq, 10)
	}
	return parseStreamID(s)
}

func writeEntries(c *server.Peer, entries []streamEntry, count int, reverse bool) {
	n := min(max(count, 0), len(entries))
	c.WriteLen(n)
	for i := range n {
		e := entries[i]
		if reverse {
			e = entries[len(entries)-1-i]
		}
		writeEntry(c, e)
	}
}

func writeEntry(c *server.Peer, e streamEntry) {
	c.WriteLen(2)
	c.WriteBulk(e.id.String())
	c.WriteStrings([]string{fieldChannel, e.channel, fieldPayload, e.payload})
}
