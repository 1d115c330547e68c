package bus

import (
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2/server"
)

// maxGroups bounds what outside clients can make the embedded bus remember.
const maxGroups = 100

// streamGroup is a consumer group of the embedded stream.
type streamGroup struct {
	last    streamID       // the newest entry that was handed out
	pending []pendingEntry // by rising id
}

// pendingEntry was handed out and not acknowledged.
type pendingEntry struct {
	id       streamID
	consumer string
	at       time.Time
}

// groupHook answers the commands of groups; done is false for all others.
func (s *alarmStream) groupHook(c *server.Peer, cmd string, args []string) (done bool) {
	switch cmd {
	case "XGROUP":
		s.createGroup(c, args)
	case "XREADGROUP":
		s.readGroup(c, args)
	case "XACK":
		s.ack(c, args)
	case "XAUTOCLAIM":
		s.autoClaim(c, args)
	default:
		return false
	}
	return true
}

// createGroup takes CREATE KEY GROUP ID|$ MKSTREAM.
func (s *alarmStream) createGroup(c *server.Peer, args []string) {
	if len(args) != 5 || !strings.EqualFold(args[0], "create") || args[1] != s.key || !strings.EqualFold(args[4], "mkstream") || len(args[2]) > 1024 {
		c.WriteError("ERR an embedded bus takes only XGROUP CREATE " + s.key + " GROUP ID MKSTREAM")
		return
	}
	start, err := boundID(args[3], streamID{})
	if args[3] != "$" && err != nil {
		c.WriteError("ERR Invalid stream ID specified as stream command argument")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.groups[args[2]] != nil:
		c.WriteError("BUSYGROUP Consumer Group name already exists")
		return
	case len(s.groups) >= maxGroups:
		c.WriteError("ERR an embedded bus has no room for more than " + strconv.Itoa(maxGroups) + " groups")
		return
	case args[3] == "$":
		start = s.last
	}
	if s.groups == nil {
		s.groups = map[string]*streamGroup{}
	}
	s.groups[args[2]] = &streamGroup{last: start}
	c.WriteOK()
}

// readGroup takes GROUP GROUP CONSUMER COUNT N STREAMS KEY ID|>.
func (s *alarmStream) readGroup(c *server.Peer, args []string) {
	if len(args) != 8 || !strings.EqualFold(args[0], "group") || !strings.EqualFold(args[3], "count") || !strings.EqualFold(args[5], "streams") || len(args[2]) > 1024 {
		c.WriteError("ERR an embedded bus takes only XREADGROUP GROUP GROUP CONSUMER COUNT N STREAMS KEY ID")
		return
	}
	count, err := strconv.Atoi(args[4])
	after, err2 := boundID(args[7], streamID{})
	if err != nil || count < 1 || args[7] != ">" && err2 != nil {
		c.WriteError("ERR Invalid count, or stream ID specified as stream command argument")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[args[1]]
	switch {
	case g == nil || args[6] != s.key:
		c.WriteError("NOGROUP No such key '" + args[6] + "' or consumer group '" + args[1] + "'")
	case args[7] == ">":
		s.writeNew(c, g, args[2], count)
	default:
		s.writePending(c, g, args[2], after, count)
	}
}

// writeNew hands out what nobody of the group has had. The caller holds s.mu.
func (s *alarmStream) writeNew(c *server.Peer, g *streamGroup, consumer string, count int) {
	i := s.index(g.last.next())
	entries := s.entries[i:min(i+count, len(s.entries))]
	if len(entries) == 0 {
		c.WriteLen(-1) // a null array
		return
	}
	now := time.Now()
	s.writeKey(c, len(entries))
	for _, e := range entries {
		writeEntry(c, e)
		g.pending = append(g.pending, pendingEntry{e.id, consumer, now})
	}
	g.last = entries[len(entries)-1].id
}

// writePending hands out again what a consumer has not acknowledged; an entry that the cap took has no fields. The caller
// holds s.mu.
func (s *alarmStream) writePending(c *server.Peer, g *streamGroup, consumer string, after streamID, count int) {
	var own []*pendingEntry
	for i := g.index(after.next()); i < len(g.pending) && len(own) < count; i++ {
		if g.pending[i].consumer == consumer {
			own = append(own, &g.pending[i])
		}
	}
	s.writeKey(c, len(own))
	for _, p := range own {
		if i := s.index(p.id); i < len(s.entries) && s.entries[i].id == p.id {
			writeEntry(c, s.entries[i])
			continue
		}
		c.WriteLen(2)
		c.WriteBulk(p.id.String())
		c.WriteLen(-1)
	}
}

func (s *alarmStream) writeKey(c *server.Peer, entries int) {
	c.WriteLen(1)
	c.WriteLen(2)
	c.WriteBulk(s.key)
	c.WriteLen(entries)
}

// index is that of the first pending entry at or after an id.
func (g *streamGroup) index(id streamID) int {
	return sort.Search(len(g.pending), func(i int) bool { return !g.pending[i].id.less(id) })
}

// ack takes KEY GROUP ID [ID ...].
func (s *alarmStream) ack(c *server.Peer, args []string) {
	if len(args) < 3 {
		c.WriteError("ERR wrong number of arguments for 'xack' command")
		return
	}
	done := map[streamID]bool{}
	for _, a := range args[2:] {
		id, err := parseStreamID(a)
		if err != nil {
			c.WriteError("ERR Invalid stream ID specified as stream command argument")
			return
		}
		done[id] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[args[1]]
	if g == nil || args[0] != s.key {
		c.WriteInt(0)
		return
	}
	before := len(g.pending)
	g.pending = slices.DeleteFunc(g.pending, func(p pendingEntry) bool { return done[p.id] })
	c.WriteInt(before - len(g.pending))
}

// autoClaim takes KEY GROUP CONSUMER MIN-IDLE 0-0 COUNT N JUSTID, and always looks through all of them.
func (s *alarmStream) autoClaim(c *server.Peer, args []string) {
	if len(args) != 8 || args[0] != s.key || !strings.EqualFold(args[5], "count") || !strings.EqualFold(args[7], "justid") || len(args[2]) > 1024 {
		c.WriteError("ERR an embedded bus takes only XAUTOCLAIM " + s.key + " GROUP CONSUMER MIN-IDLE 0-0 COUNT N JUSTID")
		return
	}
	idle, err := strconv.ParseInt(args[3], 10, 64)
	if err != nil {
		c.WriteError("ERR Invalid min-idle-time argument for XAUTOCLAIM")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[args[1]]
	if g == nil {
		c.WriteError("NOGROUP No such key '" + s.key + "' or consumer group '" + args[1] + "'")
		return
	}
	now := time.Now()
	var ids []string
	for i := range g.pending {
		if p := &g.pending[i]; now.Sub(p.at).Milliseconds() >= idle {
			p.consumer, p.at = args[2], now
			ids = append(ids, p.id.String())
		}
	}
	c.WriteLen(2)
	c.WriteBulk("0-0")
	c.WriteStrings(ids)
}
