package policies

import (
	"slices"
	"strings"
)

// rights holds what the user may do, and what the server knows, against what the instance needs.
func (d *Doctor) rights(n Node, c Checkup) {
	wanted := RightsFor(d.Config, d.Instance, ProfileHeal)
	line := ACLLine70
	if v := c.Line(); v.Known {
		line = ACLLineOf(v.V)
	}
	told, said := c.Permission.By != "", map[string]bool{}
	for _, g := range Grants {
		if !wanted.has(g.Need) {
			continue
		}
		denied, unknown := d.lacks(g, c, said)
		if len(denied) > 0 {
			d.say(d.weight(g.Need), n, CheckRights, "ACL SETUSER "+cmpOr(c.User, cmpOr(d.Instance.Username, "default"))+" "+strings.Join(denied, " ")+d.otherwise(g.Need), "%s: the user may not send %s", g.Why, names(denied))
		}
		if len(unknown) > 0 {
			d.say(d.weight(g.Need), n, CheckCommands, "name it under renamed_commands where it is renamed; a server that forbids it cannot be repaired that way", "%s: the server knows no %s", g.Why, strings.ToUpper(strings.Join(unknown, ", ")))
		}
	}
	switch {
	case !told && line == ACLLine70:
		d.say(HealthWarning, n, CheckRights, "grant +acl|whoami +acl|dryrun, which change nothing, and ask again", "the server does not tell what the user may do")
	case !told:
		d.say(HealthWarning, n, CheckRights, "compare them with dcshealer acl, or run doctor once as a user with +acl|whoami +acl|getuser", "the server does not tell what the user may do, as before 7.0 only ACL GETUSER does")
	case len(said) == 0:
		d.say(HealthOK, n, CheckRights, "", "all that the config asks for is allowed, by %s", c.Permission.By)
	}
}

// lacks lists what a need takes and is not allowed, as rules, and what the server does not know, without what was said before.
func (d *Doctor) lacks(g Grant, c Checkup, said map[string]bool) (denied, unknown []string) {
	for _, command := range g.Commands {
		base, _, _ := strings.Cut(command, "|")
		switch {
		case said[command], said[base]:
		case c.Commands && slices.Contains(c.Unknown, base):
			unknown, said[base] = append(unknown, base), true
		case !c.Permission.Of(command).Or(true):
			denied, said[command] = append(denied, "+"+command), true
		}
	}
	return denied, unknown
}

func names(rules []string) string {
	out := make([]string, len(rules))
	for i, r := range rules {
		out[i] = strings.ToUpper(strings.NewReplacer("+", "", "|", " ").Replace(r))
	}
	return strings.Join(out, ", ")
}

// weight is how bad it is that a need is not met. What a repair can do without is a warning.
func (d *Doctor) weight(n Need) Health {
	switch n {
	case NeedProbe:
		return HealthError
	case NeedEstimate, NeedLazyFree, NeedRewrite:
		return HealthWarning
	}
	return d.breaking(Action(n))
}

// otherwise is how to do without.
func (d *Doctor) otherwise(n Need) string {
	switch n {
	case NeedEstimate:
		return " %R~* (before 7.0: ~*), or do without the estimate"
	case NeedLazyFree:
		return ", or set lazy_free: false under reclaim-expired"
	case NeedRewrite:
		return ", or set config_rewrite: false under reattach-replica"
	}
	return ""
}

// RightQuestion is a command as ACL DRYRUN takes it: with as many arguments as it must have. It is never sent itself.
func RightQuestion(command string) []string {
	arguments := map[string][]string{
		"scan": {"0"}, "select": {"0"}, "replicaof": {"127.0.0.1", "6379"}, "client|kill": {"type", "master"}, "client|setname": {"x"},
		"config|get": {"maxmemory"}, "config|set": {"maxmemory", "0"}, "pttl": {"x"}, "memory|usage": {"x"}, "eval": {"return 1", "0"}, "unlink": {"x"},
		"publish": {"x", "x"}, "subscribe": {"x"}, "psubscribe": {"x"}, "xadd": {"x", "*", "x", "x"}, "xrange": {"x", "-", "+"}, "xrevrange": {"x", "+", "-"},
		"xgroup|create": {"x", "x", "$"}, "xreadgroup": {"group", "x", "x", "streams", "x", ">"}, "xack": {"x", "x", "0"},
		"xautoclaim": {"x", "x", "x", "0", "0"}, "xpending": {"x", "x"}, "xclaim": {"x", "x", "x", "0", "0"},
	}
	return append(strings.Split(command, "|"), arguments[command]...)
}

// AllCommands are all commands of Grants, each once.
func AllCommands() (all []string) {
	for _, g := range Grants {
		for _, c := range g.Commands {
			if !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
	}
	return all
}

// AllowedBy reads the commands of ACL GETUSER, such as "-@all +info +config|get": what it says of each command asked for. A category
// other than @all leaves what it may hold unknown until a later rule names the command.
func AllowedBy(rules string, commands []string) map[string]bool {
	out := map[string]bool{}
	for _, command := range commands {
		base, _, _ := strings.Cut(command, "|")
		allowed, known := false, true
		for rule := range strings.FieldsSeq(rules) {
			if len(rule) < 2 {
				continue
			}
			sign, of := rule[0] == '+', strings.ToLower(rule[1:])
			switch {
			case of == "@all", of == base, of == command:
				allowed, known = sign, true
			case strings.HasPrefix(of, "@") && (!known || allowed != sign):
				known = false
			}
		}
		if known {
			out[command] = allowed
		}
	}
	return out
}
