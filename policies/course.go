package policies

import (
	"maps"
	"time"
)

// LinkCourse is what several looks at a replica add up to while its link to its master is down: how far the master's
// counters moved since the first of them. The zero value has seen nothing.
type LinkCourse struct {
	Since, Last time.Time // the first and the newest look
	first, last linkReading
	past        bool       // a look found the connection made: the state goes through "connecting" at each try
	broke       int        // copies that ended without a link, as the replica shows them
	copyFrom    Opt[int64] // the master's offset at the newest look with a new copy
	copyAt      time.Time  // of that look
	cut         bool       // that was more than the output buffer of a replica could hold at the time
	grown       int64      // bytes: the most by which the stream grew for one copy
}

// linkReading is what one look says of a link that is down.
type linkReading struct {
	xRun, mRun string
	target     Address
	copying    bool       // a copy was under way
	left, read Opt[int64] // master_sync_left_bytes, master_sync_read_bytes
	counters   [counters]Opt[int64]
}

// The counters of the master that tell why a link stays down. All but the stream start at 0 with CONFIG RESETSTAT.
const (
	counterCopies = iota // full copies begun
	counterKills         // clients cut off for their output buffers
	counterStream        // bytes of the replication stream
	counterWrongPass
	counterNoPerm
	counterRejected // connections over maxclients
	counters
)

// Next adds a look at the replica and its master. It starts anew when the link is up, the replica follows another address, either
// server restarted or a counter went back. A look at which one of them does not answer, or that is not newer, changes nothing.
func (c LinkCourse) Next(x, m Snapshot) LinkCourse {
	r, s := x.Replication, m.Stats
	switch {
	case !x.Reach.Answers() || !m.Reach.Answers() || !x.At.After(c.Last):
		return c
	case r.Role != RoleReplica || r.LinkUp.Or(true):
		return LinkCourse{}
	}
	now := linkReading{xRun: x.RunID, mRun: m.RunID, target: Address{r.MasterHost, r.MasterPort}, counters: [counters]Opt[int64]{
		s.SyncFull, s.OutputBufferKills, m.Replication.Offset, s.WrongPassErrors, s.NoPermErrors, s.RejectedConnections,
	}}
	now.copying, now.left, now.read = r.SyncInProgress.Or(false), r.SyncLeftBytes, r.SyncReadBytes
	if c.Since.IsZero() || !now.goesOnFrom(c.last) || x.At.Sub(c.Since) > courseMost {
		return LinkCourse{Since: x.At, Last: x.At, first: now, last: now, copyFrom: m.Replication.Offset, past: connects(r)}
	}
	c.past = c.past || connects(r)
	if copies := now.counters[counterCopies].V - c.last.counters[counterCopies].V; copies > 0 {
		if a, b := c.copyFrom, m.Replication.Offset; a.Known && b.Known {
			c.grown = max(c.grown, (b.V-a.V)/copies)
		}
		c.copyFrom, c.copyAt = m.Replication.Offset, x.At
		if c.past && !now.copying && !c.last.copying {
			c.broke++ // begun and ended between two looks
		}
	}
	c.cut = c.cut || c.outgrew(m.ReplicaBuffer)
	if now.beganAnew(c.last) {
		c.broke++
	}
	c.Last, c.last = x.At, now
	return c
}

// connects reports whether the replica's connection to its master is made, or was and is made again soon.
func connects(r Replication) bool { return r.LinkState != "connecting" && r.LinkState != "" }

// outgrew reports whether the stream grew by more for one copy than a replica's output buffer may hold. The limit is the newest reading of it:
// what a probe keeps of CONFIG GET may be a minute old.
func (c LinkCourse) outgrew(limit Opt[BufferLimit]) bool {
	least := limit.V.Hard
	if limit.V.Soft > 0 && (least == 0 || limit.V.Soft < least) {
		least = limit.V.Soft
	}
	return limit.Known && least > 0 && c.grown >= least
}

// courseMost is how long a course goes on before it starts anew: what happened long ago says nothing of now.
const courseMost = 15 * time.Minute

// beganAnew reports whether the copy that was under way is no longer, or is another one.
func (r linkReading) beganAnew(o linkReading) bool {
	again := r.left.Known && o.left.Known && r.left.V > o.left.V || r.read.Known && o.read.Known && r.read.V < o.read.V
	return o.copying && (!r.copying || again)
}

func (r linkReading) goesOnFrom(o linkReading) bool {
	if r.xRun != o.xRun || r.mRun != o.mRun || r.target != o.target {
		return false
	}
	for i := range r.counters {
		if r.counters[i].Known && o.counters[i].Known && r.counters[i].V < o.counters[i].V {
			return false
		}
	}
	return true
}

// Span is the time from the first look to the newest.
func (c LinkCourse) Span() time.Duration { return c.Last.Sub(c.Since) }

// moved is how far a counter came; unknown when the master does not report it.
func (c LinkCourse) moved(counter int) Opt[int64] {
	a, b := c.first.counters[counter], c.last.counters[counter]
	if !a.Known || !b.Known {
		return Opt[int64]{}
	}
	return Known(b.V - a.V)
}

// Copies is how many full copies the master began, for whichever replica.
func (c LinkCourse) Copies() Opt[int64] { return c.moved(counterCopies) }

// Streamed is how many bytes the master's replication stream grew.
func (c LinkCourse) Streamed() Opt[int64] { return c.moved(counterStream) }

// refusals counts the logins, and with rights also the commands, that the master refused to anybody, a second. Those for want of any
// password are left out: our own probes ask for one that way.
func (c LinkCourse) refusals(rights bool) float64 {
	n := c.moved(counterWrongPass).Or(0)
	if rights {
		n += c.moved(counterNoPerm).Or(0)
	}
	return float64(n) / max(1, c.Span().Seconds())
}

// copyRate is what a full copy is taken to manage, dump, transfer and loading together, in bytes a second. A low figure for servers of
// today, so that what is derived from it errs towards more room.
const copyRate = 20 << 20

// StreamRate is how fast the master's stream grew, in bytes a second; unknown before a second has passed.
func (c LinkCourse) StreamRate() Opt[int64] {
	if s := c.Streamed(); s.Known && c.Span() >= time.Second {
		return Known(int64(float64(s.V) / c.Span().Seconds()))
	}
	return Opt[int64]{}
}

// RoomForCopy is the output buffer that a replica needs while a data set of that many bytes is copied and the stream grows at rate
// bytes a second: twice what comes up in that time, in whole powers of two from 64 MiB.
func RoomForCopy(dataset, rate int64) int64 {
	need := 2 * rate * (dataset/copyRate + 10) // 10 s: repl-diskless-sync-delay and the start
	room := int64(64 << 20)
	for room < need && room < 1<<40 {
		room *= 2
	}
	return room
}

// LinkWatch is what the looks at the nodes of one instance add up to, whoever took them. The zero value has seen nothing; it is not safe
// for concurrent use.
type LinkWatch struct {
	master   Snapshot
	masterUp time.Time
	courses  map[string]LinkCourse
	linked   map[string]linkedSince
}

// linkedSince is since when a replica's link was up at every look.
type linkedSince struct {
	since, last time.Time
	runID       string
}

func (l linkedSince) next(s Snapshot) linkedSince {
	r := s.Replication
	switch {
	case !s.At.After(l.last):
		return l
	case !s.Reach.Answers() || r.Role != RoleReplica || !r.LinkUp.Or(false):
		return linkedSince{last: s.At}
	case l.since.IsZero() || s.RunID != l.runID || s.At.Sub(l.last) > watchGap:
		return linkedSince{since: s.At, last: s.At, runID: s.RunID}
	}
	l.last = s.At
	return l
}

// watchGap is the longest time between two looks at a master that counts as having been answered without a break.
const watchGap = 15 * time.Second

// See adds a look at one node; one that is older than what was seen of the master changes nothing.
func (w *LinkWatch) See(s Snapshot, master string) {
	if s.Node != master {
		if w.courses == nil {
			w.courses, w.linked = map[string]LinkCourse{}, map[string]linkedSince{}
		}
		w.linked[s.Node] = w.linked[s.Node].next(s)
		w.courses[s.Node] = w.courses[s.Node].Next(s, w.master)
		return
	}
	if !s.At.After(w.master.At) {
		return
	}
	switch {
	case !s.Reach.Answers():
		w.masterUp = time.Time{}
	case w.masterUp.IsZero() || s.At.Sub(w.master.At) > watchGap || s.RunID != w.master.RunID:
		w.masterUp = s.At
	}
	w.master = s
}

// Clone is a copy that goes on by itself.
func (w *LinkWatch) Clone() LinkWatch {
	c := *w
	c.courses, c.linked = maps.Clone(w.courses), maps.Clone(w.linked)
	return c
}

// Into puts what was seen beside the snapshots of a group.
func (w *LinkWatch) Into(g *Group) {
	g.MasterUp, g.Courses, g.Linked = w.masterUp, maps.Clone(w.courses), map[string]time.Time{}
	for name, l := range w.linked {
		if !l.since.IsZero() {
			g.Linked[name] = l.since
		}
	}
}
