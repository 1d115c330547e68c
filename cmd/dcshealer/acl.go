package main

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dcshealer/policies"
)

// aclFlags are the flags of acl.
type aclFlags struct {
	profile, user, server string
	with                  []string
}

// The users that are shown where neither a flag nor the config names one: two, because one server may be both node and bus.
const (
	defaultACLUser = "dcshealer"
	defaultBusUser = "dcshealer-bus"
)

func (a *app) newACLCommand() *cobra.Command {
	var f aclFlags
	cmd := &cobra.Command{
		Use:   "acl",
		Short: "Show the smallest ACL rules that this program needs",
		Long: `acl prints ready ACL SETUSER commands: for the nodes, and for the bus. With a config it grants what the config opts into, for each instance;
without one the two repairs alone, and it lists what more each option takes. Put a password in place of PASSWORD, send the command to
every node of the instance, replicas too, and keep it with ACL SAVE (where the server has an aclfile) or CONFIG REWRITE.
The profile observe has no right to change anything: what it runs plans, and its sweep and REPLICAOF are refused by the server.`,
		Example: "  dcshealer acl --profile observe --server 7.2\n  dcshealer acl -c fleet.yaml\n  dcshealer acl --user healer --with lazy_free,estimate -o json",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.acl(f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.profile, "profile", string(policies.ProfileHeal), "observe or heal")
	flags.StringVar(&f.user, "user", "", "name of the user (default: that of the config, or "+defaultACLUser+")")
	flags.StringVar(&f.server, "server", "", "only for servers of this `VERSION`, such as 6.0 or 7.2")
	flags.StringSliceVar(&f.with, "with", nil, "also what these take: "+oneOf(policies.Optional()))
	return cmd
}

// aclUser is one command of the answer.
type aclUser struct {
	For     string   `json:"for"` // an instance, nodes (without a config) or bus
	User    string   `json:"user"`
	Servers string   `json:"servers"`
	Command []string `json:"command"`
}

// aclOption is what one need takes beyond the commands above.
type aclOption struct {
	Need    policies.Need `json:"need"`
	Why     string        `json:"why"`
	Rules   string        `json:"rules"`
	Granted bool          `json:"granted"` // to every instance of the answer
}

// aclReport is the answer of acl -o json.
type aclReport struct {
	Profile policies.Profile `json:"profile"`
	Users   []aclUser        `json:"users"`
	Options []aclOption      `json:"options"` // none with the profile observe
}

func (a *app) acl(f aclFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	cfg := policies.DefaultConfig()
	if a.hasConfig() {
		var err error
		if cfg, err = a.config(); err != nil {
			return err
		}
	}
	report, err := f.report(cfg)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(report)
	}
	a.printACL(report)
	return nil
}

func (f aclFlags) check() error {
	if !slices.Contains(policies.Profiles[:], policies.Profile(f.profile)) {
		return fmt.Errorf("--profile %q: want %s", f.profile, oneOf(policies.Profiles[:]))
	}
	for _, n := range f.with {
		if !slices.Contains(policies.Optional(), policies.Need(n)) {
			return fmt.Errorf("--with %q: want %s", n, oneOf(policies.Optional()))
		}
	}
	switch {
	case strings.EqualFold(f.user, "default"):
		return fmt.Errorf("--user %s: that is every client that names no user, and these rules would lock all of them out; name a user of its own", f.user)
	case f.user != "" && (len(f.user) > 100 || strings.ContainsFunc(f.user, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`"'\`, c) })):
		return fmt.Errorf("--user %q: want a name of printable characters without white space and quotes", f.user)
	}
	return nil
}

// report lists the users: one for each kind of rights that the instances take, and one for the bus.
func (f aclFlags) report(cfg policies.Config) (r aclReport, err error) {
	r.Profile, r.Options = policies.Profile(f.profile), []aclOption{}
	lines := policies.ACLLines[:]
	if f.server != "" {
		line, err := policies.ParseACLLine(f.server)
		if err != nil {
			return r, fmt.Errorf("--server: %w", err)
		}
		lines = []policies.ACLLine{line}
	}
	instances := cfg.Instances
	if len(instances) == 0 {
		instances = []policies.Instance{{}}
	}
	granted := map[policies.Need]int{}
	for _, in := range instances {
		rights := f.rights(cfg, in)
		for _, n := range rights.Wanted {
			granted[n]++
		}
		for _, l := range lines {
			user := f.userOf(in.Username, defaultACLUser)
			r.Users = append(r.Users, aclUser{For: orText(in.Name, "nodes"), User: user, Servers: l.Servers(), Command: rights.SetUser(user, l)})
		}
	}
	busUser, more := f.busUser(cfg.Bus.URL)
	for _, l := range lines {
		r.Users = append(r.Users, aclUser{For: "bus", User: busUser, Servers: l.Servers(), Command: policies.BusUser(busUser, cfg.Bus.Prefix, l, more...)})
	}
	if r.Profile == policies.ProfileHeal {
		for _, n := range policies.Optional() {
			g := policies.GrantOf(n)
			r.Options = append(r.Options, aclOption{Need: n, Why: g.Why, Rules: g.Shown(), Granted: granted[n] == len(instances)})
		}
	}
	return r, nil
}

// rights are what the config opts into, and what --with names.
func (f aclFlags) rights(cfg policies.Config, in policies.Instance) policies.Rights {
	r := policies.Rights{Profile: policies.Profile(f.profile)}
	if in.Name != "" {
		r = policies.RightsFor(cfg, in, r.Profile)
	}
	for _, n := range f.with {
		if !slices.Contains(r.Wanted, policies.Need(n)) {
			r.Wanted = append(r.Wanted, policies.Need(n))
		}
		if policies.Need(n) == policies.NeedEvict && len(r.Patterns) == 0 {
			r.Patterns = []string{"PATTERN"}
		}
	}
	return r
}

// userOf is the name to show: the config's is no help where it is that of everybody.
func (f aclFlags) userOf(configured, otherwise string) string {
	if strings.EqualFold(configured, "default") {
		configured = ""
	}
	return orText(f.user, orText(configured, otherwise))
}

// busUser is the user of the bus, and the commands that its URL takes beyond those of every bus.
func (f aclFlags) busUser(bus policies.Secret) (user string, more []string) {
	u, err := url.Parse(bus.Reveal())
	if err != nil {
		return f.userOf("", defaultBusUser), nil
	}
	if db := strings.Trim(u.Path, "/"); db != "" && db != "0" {
		more = []string{"select"}
	}
	return f.userOf(u.User.Username(), defaultBusUser), more
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// printACL groups the commands by what they are for; instances whose commands are the same share them.
func (a *app) printACL(r aclReport) {
	fmt.Fprintf(a.stdout, "# Profile %s. Put a password in place of PASSWORD.\n", r.Profile)
	var order []string
	whom := map[string][]string{}
	for _, u := range r.Users {
		key := u.Servers + "\n" + strings.Join(u.Command, " ")
		if whom[key] == nil {
			order = append(order, key)
		}
		whom[key] = append(whom[key], u.For)
	}
	for _, key := range order {
		servers, command, _ := strings.Cut(key, "\n")
		fmt.Fprintf(a.stdout, "\n# %s, %s\n%s\n", printable(strings.Join(whom[key], ", ")), servers, printable(command))
	}
	var more []string
	for _, o := range r.Options {
		if !o.Granted {
			more = append(more, fmt.Sprintf("#   --with %-18s %s\n#     %s", o.Need, o.Rules, o.Why))
		}
	}
	if len(more) > 0 {
		fmt.Fprintf(a.stdout, "\n# Left out, where it is not wanted:\n%s\n", strings.Join(more, "\n"))
	}
}
