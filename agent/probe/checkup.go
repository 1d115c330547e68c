package probe

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// checkupPings is how many round trips are timed.
const checkupPings = 5

// Checkup reads what ProbeDeep does, and what the user may do: the questions of doctor. Each step has the timeout of a probe. It changes
// nothing; a right that is missing for a question leaves an entry in the server's ACL LOG.
func (p *Prober) Checkup(ctx context.Context) policies.Checkup {
	c := policies.Checkup{Snapshot: p.ProbeDeep(ctx)}
	if !c.Reach.Answers() {
		return c
	}
	s := p.open(false)
	defer s.close()
	q := &questions{s: s, timeout: p.opt.Timeout, renamed: p.opt.Renamed}
	q.pings(ctx, &c)
	q.settings(ctx, &c)
	q.known(ctx, &c)
	user := p.opt.Username
	if user == "" {
		user = "default"
	}
	q.permission(ctx, &c, user)
	return c
}

// questions are asked one after the other; after the first that the connection did not survive the rest stays unknown.
type questions struct {
	s       *session
	timeout time.Duration
	renamed policies.Renames
}

func (q *questions) ask(ctx context.Context, args ...any) *redis.Cmd {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	cmd := redis.NewCmd(ctx, args...)
	_ = q.s.client.Process(ctx, cmd) // the error is the command's
	return cmd
}

// pings: what answers at all, an error too, has made the trip.
func (q *questions) pings(ctx context.Context, c *policies.Checkup) {
	q.ask(ctx, "ping") // connects
	for range checkupPings {
		start := time.Now()
		if err := q.ask(ctx, "ping").Err(); err != nil && !isReply(err) {
			return
		}
		c.Pings = append(c.Pings, time.Since(start))
	}
}

func (q *questions) settings(ctx context.Context, c *policies.Checkup) {
	for name, to := range map[string]*policies.Opt[int64]{"repl-timeout": &c.ReplTimeout, "min-replicas-to-write": &c.MinReplicas} {
		if reply, err := q.ask(ctx, "config", "get", name).StringSlice(); err == nil && len(reply) == 2 {
			*to = number(reply[1])
		}
	}
}

// known asks for every command that is ever sent, under the name that the server should have for it.
func (q *questions) known(ctx context.Context, c *policies.Checkup) {
	var own []string
	args := []any{"command", "info"}
	for _, command := range policies.AllCommands() {
		name, _, _ := strings.Cut(command, "|")
		own = append(own, name)
		args = append(args, q.renamed.Sent(name))
	}
	reply, err := q.ask(ctx, args...).Slice()
	if err != nil || len(reply) != len(own) {
		return
	}
	c.Commands = true
	for i, entry := range reply {
		if !isCommand(entry, own[i]) {
			c.Unknown = append(c.Unknown, own[i])
		}
	}
}

// permission asks by ACL DRYRUN, or else by what ACL GETUSER shows; one that may ask neither is told nothing.
func (q *questions) permission(ctx context.Context, c *policies.Checkup, user string) {
	if name, err := q.ask(ctx, "acl", "whoami").Text(); err == nil {
		c.User, user = name, name
	}
	allowed := map[string]bool{}
	for _, command := range policies.AllCommands() {
		answer, told := q.dryRun(ctx, user, policies.RightQuestion(command))
		if !told {
			break
		}
		allowed[command] = answer
	}
	if len(allowed) == len(policies.AllCommands()) {
		c.Permission = policies.Permission{By: "ACL DRYRUN", Allowed: allowed}
		return
	}
	if rules, told := q.commandsOf(ctx, user); told {
		c.Permission = policies.Permission{By: "ACL GETUSER", Allowed: policies.AllowedBy(rules, policies.AllCommands())}
	}
}

// dryRun reports whether the user may send the command; a key or channel of the example that it may not use says nothing of that.
func (q *questions) dryRun(ctx context.Context, user string, example []string) (allowed, told bool) {
	args := []any{"acl", "dryrun", user, q.renamed.Sent(example[0])}
	for _, a := range example[1:] {
		args = append(args, a)
	}
	text, err := q.ask(ctx, args...).Text()
	switch {
	case err != nil:
		// One that the server does not know is no question of rights.
		return true, isReply(err) && strings.Contains(strings.ToLower(err.Error()), "not found") && strings.HasPrefix(err.Error(), "ERR Command")
	case text == "OK":
		return true, true
	}
	return !strings.Contains(text, "permissions to run"), true
}

// commandsOf is the line of rules about commands that ACL GETUSER shows. The hashes beside it are dropped unread.
func (q *questions) commandsOf(ctx context.Context, user string) (rules string, told bool) {
	reply, err := q.ask(ctx, "acl", "getuser", user).Slice()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", false
	}
	for i := 0; i+1 < len(reply); i += 2 {
		if name, _ := reply[i].(string); name == "commands" {
			rules, told = reply[i+1].(string)
		}
	}
	return rules, told
}
