package web

import (
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"dcshealer/policies"
)

const (
	pointsKept = 720         // of a node: an hour at the usual interval
	pointEvery = time.Second // closer ones are left out
)

// column is one line of a chart.
type column struct {
	name string
	of   func(s policies.Snapshot, lag policies.Opt[int64]) float64
}

// columns are what is kept of every probe. What is not known is NaN, and null in JSON.
var columns = [...]column{
	{"up", func(s policies.Snapshot, _ policies.Opt[int64]) float64 { return flag(s.Reach == policies.ReachUp) }},
	{"memory_counted_bytes", func(s policies.Snapshot, _ policies.Opt[int64]) float64 { return number(s.Memory.Counted()) }},
	{"memory_max_bytes", func(s policies.Snapshot, _ policies.Opt[int64]) float64 { return number(s.Memory.Max) }},
	{"clients", func(s policies.Snapshot, _ policies.Opt[int64]) float64 { return number(s.Clients.Connected) }},
	{"clients_max", func(s policies.Snapshot, _ policies.Opt[int64]) float64 { return number(s.Clients.Max) }},
	{"operations_per_second", func(s policies.Snapshot, _ policies.Opt[int64]) float64 { return number(s.Stats.OpsPerSecond) }},
	{"evicted_keys_total", func(s policies.Snapshot, _ policies.Opt[int64]) float64 { return number(s.Stats.EvictedKeys) }},
	{"expired_keys_total", func(s policies.Snapshot, _ policies.Opt[int64]) float64 { return number(s.Stats.ExpiredKeys) }},
	{"slowlog_entries_total", func(s policies.Snapshot, _ policies.Opt[int64]) float64 {
		return number(policies.Opt[int64]{V: s.Slowlog.Newest + 1, Known: s.Slowlog.Known})
	}},
	{"replication_lag_bytes", func(_ policies.Snapshot, lag policies.Opt[int64]) float64 { return number(lag) }},
	{"round_trip_seconds", func(s policies.Snapshot, _ policies.Opt[int64]) float64 {
		return number(policies.Opt[float64]{V: s.RTT.Seconds(), Known: s.RTT > 0})
	}},
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func number[T int64 | float64](v policies.Opt[T]) float64 {
	if !v.Known {
		return math.NaN()
	}
	return float64(v.V)
}

// track is what is kept of one node.
type track struct {
	role policies.Role // in the config
	last policies.Snapshot
	at   []int64 // Unix ms, oldest first
	v    [len(columns)][]float64
}

func (t *track) add(s policies.Snapshot, lag policies.Opt[int64]) {
	t.last = s
	ms := s.At.UnixMilli()
	if n := len(t.at); n > 0 && ms-t.at[n-1] < pointEvery.Milliseconds() {
		if ms >= t.at[n-1] {
			return // too close
		}
		t.at = t.at[:0] // the clock was set back: what is older by it would stand after what is newer
		for i := range t.v {
			t.v[i] = t.v[i][:0]
		}
	}
	t.at = keep(t.at, ms)
	for i, c := range columns {
		t.v[i] = keep(t.v[i], c.of(s, lag))
	}
}

// keep appends to a list that holds pointsKept at most, in room that does not grow.
func keep[T any](list []T, v T) []T {
	if len(list) < pointsKept {
		return append(list, v)
	}
	copy(list, list[1:])
	list[len(list)-1] = v
	return list
}

// series are the newest probes of every node, in memory.
type series struct {
	mu    sync.Mutex           // guards what follows
	nodes map[[2]string]*track // by instance and node
	order [][2]string          // those of the config
}

func newSeries() *series { return &series{nodes: map[[2]string]*track{}} }

// Observe keeps a new snapshot; in is its instance. It does not wait.
func (s *Server) Observe(snap policies.Snapshot, in policies.Instance, lag policies.Opt[int64]) {
	s.series.mu.Lock()
	defer s.series.mu.Unlock()
	i := slices.IndexFunc(in.Nodes, func(n policies.Node) bool { return n.Name == snap.Node })
	if i < 0 {
		return
	}
	key := [2]string{in.Name, snap.Node}
	t := s.series.nodes[key]
	if t == nil {
		t = &track{}
		s.series.nodes[key] = t
	}
	t.role = in.Nodes[i].Role
	t.add(snap, lag)
}

// Configure says which nodes there are, and in which order. What is kept of others goes.
func (s *Server) Configure(cfg policies.Config) {
	s.series.mu.Lock()
	defer s.series.mu.Unlock()
	s.series.order = nil
	for _, in := range cfg.Instances {
		for _, n := range in.Nodes {
			s.series.order = append(s.series.order, [2]string{in.Name, n.Name})
		}
	}
	for key := range s.series.nodes {
		if !slices.Contains(s.series.order, key) {
			delete(s.series.nodes, key)
		}
	}
}

// nodeView is one node as the API shows it.
type nodeView struct {
	Instance   string           `json:"instance"`
	Node       string           `json:"node"`
	Role       policies.Role    `json:"role"` // in the config
	Reach      policies.Reach   `json:"reach"`
	Err        string           `json:"error,omitempty"`
	Version    string           `json:"version"`
	ActualRole policies.Role    `json:"actual_role"`
	LinkUp     *bool            `json:"link_up"` // null: not a replica, or not known
	At         time.Time        `json:"at"`
	Latest     map[string]value `json:"latest"`
	Series     *seriesView      `json:"series,omitempty"`
}

type seriesView struct {
	At     []int64            `json:"at"` // Unix ms
	Values map[string][]value `json:"values"`
}

// value is a number, or null.
type value float64

// MarshalJSON writes null for NaN.
func (v value) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(v)) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(v))
}

func (t *track) view(instance, node string, whole bool) nodeView {
	s := t.last
	v := nodeView{Instance: instance, Node: node, Role: t.role, Reach: s.Reach, Err: policies.Printable(s.Err, 500), Version: s.Product + " " + s.Version,
		ActualRole: s.Replication.Role, At: s.At.UTC(), Latest: map[string]value{}}
	if s.Version == "" {
		v.Version = ""
	}
	if up := s.Replication.LinkUp; up.Known && s.Replication.Role == policies.RoleReplica {
		v.LinkUp = &up.V
	}
	for i, c := range columns {
		v.Latest[c.name] = value(t.v[i][len(t.v[i])-1])
	}
	if whole {
		v.Series = &seriesView{At: slices.Clone(t.at), Values: map[string][]value{}}
		for i, c := range columns {
			list := make([]value, len(t.v[i]))
			for k, x := range t.v[i] {
				list[k] = value(x)
			}
			v.Series.Values[c.name] = list
		}
	}
	return v
}

// list is the nodes that pass, with their series where one node is asked for.
func (s *series) list(instance, node string) []nodeView {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []nodeView{}
	for _, key := range s.order {
		t := s.nodes[key]
		if t == nil || instance != "" && key[0] != instance || node != "" && key[1] != node {
			continue
		}
		out = append(out, t.view(key[0], key[1], node != ""))
	}
	return out
}

func (s *Server) nodes() http.HandlerFunc {
	rt := api[slices.IndexFunc(api, func(rt route) bool { return rt.operation == "nodes" })]
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := readRequest(w, r, rt)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		list := s.series.list(q.Query.Get("instance"), q.Query.Get("node"))
		if node := q.Query.Get("node"); node != "" && len(list) == 0 {
			s.fail(w, r, &Fault{http.StatusNotFound, errNoNode(node)})
			return
		}
		writeJSON(w, http.StatusOK, list)
	}
}

type errNoNode string

func (e errNoNode) Error() string {
	return "no probe of a node " + strconv.Quote(policies.Printable(string(e), 100)) + " is at hand: the role agent of this process makes them"
}
