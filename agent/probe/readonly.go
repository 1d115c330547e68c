package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// ErrNotReadOnly refuses a command that could change something, or that is not on the list of those that cannot. It was not sent.
var ErrNotReadOnly = errors.New("not a read-only command: not sent")

// anySub marks a command that reads only, whatever its arguments.
const anySub = "*"

// readOnly lists the commands, and their subcommands, that change nothing on a master of Redis 6.0 to 8.0 and Valkey 8.1
// and 9.1. SCAN, TTL, TYPE, EXISTS, RANDOMKEY, OBJECT and GET are not here: on a master they delete expired keys.
// KEYS deletes nothing but blocks for the whole keyspace. ACL LOG with a number, which RESET would empty, is looked at in ReadOnly.
var readOnly = map[string][]string{
	"info":    {anySub},
	"role":    {anySub},
	"dbsize":  {anySub},
	"ping":    {anySub},
	"hello":   {anySub},
	"auth":    {anySub},
	"select":  {anySub},
	"config":  {"get"},
	"client":  {"list", "id", "setname", "info"},
	"slowlog": {"get", "len"},
	"latency": {"latest"},
	"command": {"info", "count"},
	"memory":  {"usage", "stats"},
	"acl":     {"whoami", "getuser", "dryrun"}, // DRYRUN says whether a command would be allowed, and sends none
}

// readOnlyOnReplica lists what also changes nothing on a replica, where no read deletes an expired key.
var readOnlyOnReplica = map[string]bool{"scan": true, "pttl": true}

// ReadOnly reports whether the command args may be sent by a probe. replica must only be true when the same connection
// just said so. Names compare without regard to case; what is not text is refused, as is an empty command.
func ReadOnly(args []any, replica bool) bool {
	name, ok := word(args, 0)
	if !ok {
		return false
	}
	if readOnlyOnReplica[name] {
		return replica
	}
	sub, hasSub := word(args, 1)
	for _, allowed := range readOnly[name] {
		if allowed == anySub || hasSub && sub == allowed {
			return true
		}
	}
	return name == "acl" && sub == "log" && len(args) == 3 && count(args[2])
}

// count reports whether the argument is the number of entries wanted: ACL LOG takes RESET in the same place.
func count(arg any) bool {
	switch v := arg.(type) {
	case int:
		return v >= 0
	case string:
		return v != "" && strings.Trim(v, "0123456789") == ""
	}
	return false
}

// word is args[i] in lower case. Only ASCII is folded, as the server does.
func word(args []any, i int) (string, bool) {
	if i >= len(args) {
		return "", false
	}
	var b []byte
	switch v := args[i].(type) {
	case string:
		b = []byte(v)
	case []byte:
		b = append(b, v...)
	default:
		return "", false
	}
	for j, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[j] = c + 'a' - 'A'
		}
	}
	return string(b), true
}

// A guard is the hook that stands before every command of a session. With scan, each ROLE that answers slave permits
// one more SCAN (or one pipeline of replica reads), so that none is sent without having asked right before.
type guard struct {
	scan   bool
	permit atomic.Bool
}

var _ redis.Hook = (*guard)(nil)

// DialHook leaves dialing as it is: a session dials once.
func (g *guard) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook refuses, or sends and looks at what ROLE and HELLO answer.
func (g *guard) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := g.check(g.scan && g.permit.Swap(false), cmd); err != nil {
			cmd.SetErr(err)
			return err
		}
		err := next(ctx, cmd)
		switch name, _ := word(cmd.Args(), 0); name {
		case "role":
			g.permit.Store(err == nil && saysReplica(cmd))
		case "hello":
			return refusedHello(err)
		}
		return err
	}
}

// ProcessPipelineHook refuses all when one is refused; a transaction arrives here with its MULTI, which is refused.
func (g *guard) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		permit := g.scan && g.permit.Swap(false)
		for _, cmd := range cmds {
			if err := g.check(permit, cmd); err != nil {
				return setAll(cmds, err)
			}
		}
		return next(ctx, cmds)
	}
}

func (g *guard) check(permit bool, cmd redis.Cmder) error {
	if ReadOnly(cmd.Args(), permit) {
		return nil
	}
	return fmt.Errorf("%.32q: %w", fmt.Sprint(first(cmd.Args())), ErrNotReadOnly)
}

func first(args []any) any {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func setAll(cmds []redis.Cmder, err error) error {
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
	return err
}

func saysReplica(cmd redis.Cmder) bool {
	c, ok := cmd.(*redis.Cmd)
	if !ok {
		return false
	}
	reply, err := c.Slice()
	return err == nil && len(reply) > 0 && reply[0] == "slave"
}
