// Package reattach puts a replica back under its master by REPLICAOF and proves that it is there. It decides nothing:
// the guards were asked before.
package reattach

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dcshealer/policies"
)

// Conn is the connection to the replica that the command goes through.
type Conn interface {
	// ReplicaOf returns the server's reply, and what the node was right before the command: nothing comes between the two.
	ReplicaOf(ctx context.Context, master policies.Address) (reply string, at policies.Snapshot, err error)
}

// Link is the connection to the replica whose link to its master is half open.
type Link interface {
	KillMasterLink(ctx context.Context) (closed int64, err error)
}

// ErrNothingHappened is the server's answer that it follows that master already: REPLICAOF is a no-op then, whatever
// the state of the link, on all versions.
var ErrNothingHappened = errors.New("the replica already follows that master: nothing happened")

// Send sends REPLICAOF once, and returns what the node was at that moment. A timeout is returned as it is: the command may have been
// carried out, and Verify tells.
func Send(ctx context.Context, c Conn, master policies.Address) (at policies.Snapshot, err error) {
	reply, at, err := c.ReplicaOf(ctx, master)
	switch {
	case err != nil:
		return at, fmt.Errorf("REPLICAOF %s: %w", master, err)
	case strings.HasPrefix(reply, "OK Already connected"):
		return at, ErrNothingHappened
	case reply != "OK":
		return at, fmt.Errorf("REPLICAOF %s: the server answered %.80q, want OK", master, reply)
	}
	return at, nil
}

// ErrNoLink is the server's answer that it has no link to a master: there is nothing to close.
var ErrNoLink = errors.New("the replica has no link to its master that could be closed: nothing happened")

// Reconnect closes the replica's link to its master once, so that it connects again and asks for a partial resync.
func Reconnect(ctx context.Context, c Link) error {
	closed, err := c.KillMasterLink(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("CLIENT KILL TYPE master: %w", err)
	case closed < 1:
		return ErrNoLink
	}
	return nil
}

// Verify waits until the replica is in step with its master. It follows progress: a copy may take as long as it moves.
type Verify struct {
	Replica, Master func(ctx context.Context) policies.Snapshot
	ReplicaNode     policies.Node
	MasterNode      policies.Node
	Before          policies.Snapshot // the master at the last look before the command
	Every           time.Duration     // between two looks; 0: 100 ms
	Stall           time.Duration     // no progress for so long is a failure; 0: 30 s
}

// Proof is what a verification saw last.
type Proof struct {
	Replica, Master policies.Snapshot
	LinkUpAfter     time.Duration
	Attached        bool
	Why             string // of a failure
}

// Run looks until the replica is attached, stands still for Stall, or ctx ends.
func (v Verify) Run(ctx context.Context) (Proof, error) {
	every, stall := v.Every, v.Stall
	if every == 0 {
		every = 100 * time.Millisecond
	}
	if stall == 0 {
		stall = 30 * time.Second
	}
	start := time.Now()
	moved, seen, foreign, astray := start, "", 0, 0
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		// The replica is read before its master, or its lag could come out negative.
		p := Proof{Replica: v.Replica(ctx)}
		p.Master = v.Master(ctx)
		p.Why = v.Attached(p.Replica, p.Master)
		p.Attached, p.LinkUpAfter = p.Why == "", time.Since(start)
		if p.Attached {
			return p, nil
		}
		if n := v.copies(p.Master); n >= loopCopies {
			return p, fmt.Errorf("%s is in a full-resync loop: %s began %d full copies and the link never came up; raise client-output-buffer-limit replica on %s", v.ReplicaNode.Name, v.MasterNode.Name, n, v.MasterNode.Name)
		}
		if foreign = v.foreign(p, foreign); foreign >= foreignLooks {
			return p, fmt.Errorf("%s has its link up to a server at %s that is not %s (history %.8s, not %.8s): the address leads elsewhere from there; its data may have been replaced: correct peer_address", v.ReplicaNode.Name, v.MasterNode.Peer(), v.MasterNode.Name, p.Replica.Replication.ReplID, p.Master.Replication.ReplID)
		}
		if astray = v.astray(p, astray); astray >= astrayLooks {
			return p, fmt.Errorf("%s follows %s:%d now and not %s at %s: somebody changed it, and it is left as it is", v.ReplicaNode.Name, p.Replica.Replication.MasterHost, p.Replica.Replication.MasterPort, v.MasterNode.Name, v.MasterNode.Peer())
		}
		if mark := v.progress(p.Replica, p.Master); mark != seen {
			moved, seen = time.Now(), mark
		}
		if time.Since(moved) > stall {
			return p, fmt.Errorf("%s did not come up under %s: %s, and nothing moved for %s", v.ReplicaNode.Name, v.MasterNode.Name, p.Why, stall)
		}
		select {
		case <-ctx.Done():
			return p, fmt.Errorf("wait for %s to come up under %s: %w (%s)", v.ReplicaNode.Name, v.MasterNode.Name, ctx.Err(), p.Why)
		case <-tick.C:
		}
	}
}

// foreignLooks in a row with the link up to another history mean another server, not a moment in between.
const foreignLooks = 10

// foreign counts such looks.
func (v Verify) foreign(p Proof, n int) int {
	x, m := p.Replica.Replication, p.Master.Replication
	if x.LinkUp.Or(false) && !x.SyncInProgress.Or(true) && p.Master.Reach == policies.ReachUp && x.ReplID != m.ReplID {
		return n + 1
	}
	return 0
}

// loopCopies full copies without a link mean that each is cut off and begun again.
const loopCopies = 4

// copies is how many full copies the master began since the command; 0 when that is not known.
func (v Verify) copies(m policies.Snapshot) int64 {
	a, b := v.Before.Stats.SyncFull, m.Stats.SyncFull
	if v.Before.RunID != m.RunID || !a.Known || !b.Known {
		return 0
	}
	return b.V - a.V
}

// Attached returns "" when the replica is in step with its master, or what is missing.
func (v Verify) Attached(x, m policies.Snapshot) string {
	r := x.Replication
	peer := v.MasterNode.Peer()
	switch {
	case x.Reach != policies.ReachUp:
		return fmt.Sprintf("the replica cannot be read (%s)", x.Reach)
	case m.Reach != policies.ReachUp:
		return fmt.Sprintf("the master cannot be read (%s)", m.Reach)
	case m.Replication.Role != policies.RoleMaster:
		return "the master is no longer a master"
	case r.Role != policies.RoleReplica:
		return "the node is still a master"
	case !v.points(x, m):
		return fmt.Sprintf("it follows %s:%d instead of %s", r.MasterHost, r.MasterPort, peer)
	case !r.LinkUp.Or(false):
		return "the link is down, state " + r.LinkState
	case r.ReplID.None() || r.ReplID != m.Replication.ReplID:
		return "the replication ids differ"
	case !listed(m):
		return "the master does not list it online"
	case r.LastIOSecondsAgo.Or(0) > freshIO:
		return fmt.Sprintf("its master has sent nothing for %d s", r.LastIOSecondsAgo.V)
	case v.Before.RunID == m.RunID && v.Before.Replication.Offset.Known && r.ReplicaOffset.Or(v.Before.Replication.Offset.V) < v.Before.Replication.Offset.V:
		return fmt.Sprintf("it has not caught up yet: offset %d, its master was at %d", r.ReplicaOffset.V, v.Before.Replication.Offset.V)
	}
	return ""
}

// points reports whether the replica points at its master, by the address that it was given or by what the names resolve to.
func (v Verify) points(x, m policies.Snapshot) bool {
	r, peer := x.Replication, v.MasterNode.Peer()
	same := strings.EqualFold(r.MasterHost, peer.Host) || slices.ContainsFunc(x.MasterIPs, func(ip string) bool { return slices.Contains(m.OwnIPs, ip) })
	return same && r.MasterPort == peer.Port
}

// astrayLooks in a row at a replica that follows somebody else mean that somebody changed it.
const astrayLooks = 3

// astray counts such looks.
func (v Verify) astray(p Proof, n int) int {
	x := p.Replica
	if x.Reach == policies.ReachUp && x.Replication.Role == policies.RoleReplica && p.Master.Reach == policies.ReachUp && !v.points(x, p.Master) {
		return n + 1
	}
	return 0
}

// freshIO is the age in seconds up to which the last byte proves a link that was just made; a link that was half open is older.
const freshIO = 5

// listed reports whether the master shows a replica online. Which line is this one's cannot be told by address where
// replica-announce-ip or a NAT lies between; the ids and offsets have to agree besides.
func listed(m policies.Snapshot) bool {
	for _, l := range m.Replication.Replicas {
		if l.State == "online" {
			return true
		}
	}
	return false
}

// progress is a text that changes while a copy moves: the bytes left, the time of the last byte, what the master shows. The states of a
// link that is made anew each second, and what the replica says of a copy that its master never began, go to and fro for ever.
func (v Verify) progress(x, m policies.Snapshot) string {
	r := x.Replication
	s := fmt.Sprint(x.Reach, r.Role, r.LinkUp, x.Loading)
	if b := v.Before.Replication.Offset; r.ReplicaOffset.Or(0) < b.Or(0) {
		s += r.ReplicaOffset.String() // beyond that its master's PINGs move it, whatever else is missing
	}
	if v.begun(m) {
		s += fmt.Sprint(r.LinkState == "sync", r.SyncInProgress, r.SyncLeftBytes, r.SyncReadBytes)
		if r.SyncInProgress.Or(false) && r.SyncLastIOSeconds.Or(99) <= 2 {
			s += fmt.Sprint(x.At.Unix()) // bytes came in within the last two seconds
		}
	}
	for _, l := range m.Replication.Replicas {
		s += l.State
	}
	return s
}

// begun reports whether the master may have begun a full copy since the command. A replica whose login or PSYNC is refused says at times
// that it copies.
func (v Verify) begun(m policies.Snapshot) bool {
	counted := v.Before.RunID == m.RunID && v.Before.Stats.SyncFull.Known && m.Stats.SyncFull.Known
	return !counted || v.copies(m) > 0
}
