package probe

import (
	"context"
	"net"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// Renaming is the last hook of a connection: it sends commands under the names that the server has for them. All that stands before it,
// the guard of the read-only list first of all, goes by Redis's names.
type Renaming struct{ Names policies.Renames }

var _ redis.Hook = Renaming{}

// DialHook leaves dialing as it is.
func (h Renaming) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook renames for the time of the call.
func (h Renaming) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		defer h.rename(cmd)()
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook renames each for the time of the call.
func (h Renaming) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			defer h.rename(cmd)()
		}
		return next(ctx, cmds)
	}
}

func (h Renaming) rename(cmd redis.Cmder) (back func()) {
	args := cmd.Args()
	name, ok := word(args, 0)
	sent := h.Names.Sent(name)
	if !ok || sent == name {
		return func() {}
	}
	own := args[0]
	args[0] = sent
	return func() { args[0] = own }
}
