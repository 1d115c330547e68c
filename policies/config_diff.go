package policies

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ChangeKind says what became of a setting, an instance or a policy.
type ChangeKind string

// The kinds of a Change.
const (
	ChangeAdded   ChangeKind = "added"
	ChangeRemoved ChangeKind = "removed"
	ChangeChanged ChangeKind = "changed"
)

// A Change is one difference between two configs. A secret shows neither Old nor New.
type Change struct {
	Path string     `json:"path"` // as in the config file, instances by their names: instances.dcs-prod-01.live
	Kind ChangeKind `json:"kind"`
	Old  string     `json:"old,omitempty"`
	New  string     `json:"new,omitempty"`
}

func (c Change) String() string {
	switch {
	case c.Old == "" && c.New == "":
		return c.Path + ": " + string(c.Kind)
	case c.Kind == ChangeAdded:
		return c.Path + ": added, " + c.New
	case c.Kind == ChangeRemoved:
		return c.Path + ": removed, was " + c.Old
	}
	return fmt.Sprintf("%s: %s -> %s", c.Path, cmp.Or(c.Old, `""`), cmp.Or(c.New, `""`))
}

// A ConfigDiff is what a new config changes in a running process.
type ConfigDiff struct {
	Changes []Change
	Added   []string // instances, in the order of the new config
	Removed []string // in the order of the old one
	Changed []string // those in both for which something changed, their policy and the agent's pace included
	// Reconnect are those of Changed to which connections are made anew: nodes, user, password, TLS or renamed commands are others, or
	// the timeout.
	Reconnect map[string]bool
}

// AtStart are the settings that a running process cannot change: they take effect when it is started again.
var AtStart = [...]string{"state_dir", "bus.url", "bus.prefix", "bus.tls.ca_file", "bus.tls.cert_file", "bus.tls.key_file", "bus.tls.server_name", "listen",
	"dashboard.tls.cert_file", "dashboard.tls.key_file", "archive.keep", "archive.max_mb"}

// ConfigDiffOf compares a running config with a new one. Both have been checked.
func ConfigDiffOf(before, after Config) ConfigDiff {
	d := ConfigDiff{Changes: differences(before.general(), after.general()), Reconnect: map[string]bool{}}
	d.instances(before, after)
	for _, name := range slices.Sorted(maps.Keys(union(before.Policies, after.Policies))) {
		p, was := before.Policies[name]
		q, is := after.Policies[name]
		switch {
		case was && is:
			d.Changes = append(d.Changes, differences(p.settings(name), q.settings(name))...)
		case was:
			d.Changes = append(d.Changes, Change{Path: JoinPath("policies", name), Kind: ChangeRemoved})
		default:
			d.Changes = append(d.Changes, Change{Path: JoinPath("policies", name), Kind: ChangeAdded})
		}
	}
	return d
}

func union[V any](a, b map[string]V) map[string]V {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, b)
	return all
}

func (d *ConfigDiff) instances(before, after Config) {
	pace, timeout := before.Agent != after.Agent, before.Agent.Timeout != after.Agent.Timeout
	for _, i := range before.Instances {
		if _, stays := after.Instance(i.Name); !stays {
			d.Removed = append(d.Removed, i.Name)
			d.Changes = append(d.Changes, Change{Path: instancePath(i.Name), Kind: ChangeRemoved, Old: nodeNames(i)})
		}
	}
	for _, i := range after.Instances {
		was, known := before.Instance(i.Name)
		if !known {
			d.Added = append(d.Added, i.Name)
			d.Changes = append(d.Changes, Change{Path: instancePath(i.Name), Kind: ChangeAdded, New: nodeNames(i)})
			continue
		}
		reach, own := differences(was.reach(), i.reach()), differences(was.own(), i.own())
		d.Changes = append(append(d.Changes, own...), reach...)
		policy := differences(before.PolicyOf(was).settings(""), after.PolicyOf(i).settings(""))
		if pace || len(reach)+len(own)+len(policy) > 0 || !sameOrder(was, i) {
			d.Changed = append(d.Changed, i.Name)
		}
		if timeout || len(reach) > 0 || !sameOrder(was, i) {
			d.Reconnect[i.Name] = true
		}
	}
}

// sameOrder reports whether the nodes stand in the same order, which is that of the snapshots.
func sameOrder(a, b Instance) bool {
	return slices.EqualFunc(a.Nodes, b.Nodes, func(x, y Node) bool { return x.Name == y.Name })
}

func nodeNames(i Instance) string {
	names := make([]string, len(i.Nodes))
	for k, n := range i.Nodes {
		names[k] = n.Name + " at " + n.Address.String()
	}
	return strings.Join(names, ", ")
}

// differences compares two lists by path, in the order of the new one, what is gone first.
func differences(before, after []setting) (out []Change) {
	old := map[string]setting{}
	for _, s := range before {
		old[s.path] = s
	}
	fresh := map[string]bool{}
	for _, s := range after {
		fresh[s.path] = true
	}
	for _, s := range before {
		if !fresh[s.path] {
			out = append(out, shown(Change{Path: s.path, Kind: ChangeRemoved, Old: s.text}, s.secret))
		}
	}
	for _, s := range after {
		was, known := old[s.path]
		switch {
		case !known:
			out = append(out, shown(Change{Path: s.path, Kind: ChangeAdded, New: s.text}, s.secret))
		case was.text != s.text:
			out = append(out, shown(Change{Path: s.path, Kind: ChangeChanged, Old: was.text, New: s.text}, s.secret))
		}
	}
	return out
}

// shown is a change that may be shown: of a secret only that there is one.
func shown(c Change, secret bool) Change {
	if secret {
		c.Old, c.New = "", ""
	}
	c.Old, c.New = Printable(c.Old, 500), Printable(c.New, 500)
	return c
}

// NeedRestart is a fault for each change that a running process cannot make. They have no place in a file: what stands there is right.
func (d ConfigDiff) NeedRestart(file string) (out []FieldError) {
	for _, c := range d.Changes {
		if slices.Contains(AtStart[:], c.Path) {
			got := "another value than the running process has"
			if c.Old+c.New != "" {
				got = fmt.Sprintf("%q", c.New)
			}
			out = append(out, FieldError{File: file, Path: c.Path, Got: got, Bare: true, Want: wantAsStarted(c)})
		}
	}
	return out
}

func wantAsStarted(c Change) string {
	want := "the value with which the process was started"
	if c.Old != "" {
		want += fmt.Sprintf(", %q", c.Old)
	}
	return want + ": to change it, restart dcshealer run"
}
