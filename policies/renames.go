package policies

import (
	"maps"
	"slices"
	"strings"
)

// Renames are the commands that the nodes of an instance know under another name (rename-command in their config file): Redis's name, as
// the operator wrote it, to theirs. Rules, records of rights and the server's own counters (commandstats, ACL) all go by Redis's name.
type Renames map[string]string

// RenamableCommands lists what is ever sent to a node.
var RenamableCommands = [...]string{"acl", "auth", "client", "command", "config", "dbsize", "eval", "hello", "info", "latency", "memory", "ping",
	"pttl", "replicaof", "role", "scan", "select", "slowlog", "unlink"}

// Sent is the name under which a command goes out: the server's, or the very name given.
func (r Renames) Sent(command string) string {
	for own, theirs := range r {
		if strings.EqualFold(own, command) {
			return theirs
		}
	}
	return command
}

// Own is Redis's name of a command that goes out as sent.
func (r Renames) Own(sent string) string {
	for own, theirs := range r {
		if strings.EqualFold(theirs, sent) {
			return own
		}
	}
	return sent
}

// All is a list of commands as they go out.
func (r Renames) All(commands [][]string) [][]string {
	out := make([][]string, len(commands))
	for i, c := range commands {
		out[i] = slices.Clone(c)
		if len(c) > 0 {
			out[i][0] = r.Sent(c[0])
		}
	}
	return out
}

// Shown is a command for a text, with Redis's name beside the server's where the two differ.
func (r Renames) Shown(command string) string {
	own := strings.ToUpper(command)
	if sent := r.Sent(command); sent != command {
		return sent + " (" + own + " by renamed_commands)"
	}
	return own
}

func (r *rules) renames(path string, names Renames) {
	own, theirs := holders{}, holders{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		path, to := JoinPath(path, name), names[name]
		known := slices.Contains(RenamableCommands[:], strings.ToLower(name))
		r.check(known, path, name, "a command that this program sends: "+strings.ToUpper(strings.Join(RenamableCommands[:], ", ")))
		if !known {
			continue
		}
		r.single(own, strings.ToLower(name), path, to, "each command once")
		switch {
		case !validCommand(to):
			r.check(false, path, to, `the name that the server has for it, of printable characters without white space and without " ' \ |`)
		case isCommandOfRedis(to):
			r.check(false, path, to, "a name that no command of Redis has: else another command would be sent")
		default:
			r.single(theirs, strings.ToLower(to), path, to, "a name that no other command has")
		}
	}
}

// validCommand: the name also stands in a script, and | is what divides a subcommand off.
func validCommand(name string) bool {
	return name != "" && len(name) <= 128 && !strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`"'\|`, c) })
}

func isCommandOfRedis(name string) bool {
	return slices.Contains(strings.Fields(commandsOfRedis), strings.ToLower(name))
}

// commandsOfRedis are the names that Redis 7.0 and 8.0 and Valkey 9 give to their commands.
const commandsOfRedis = `
acl append asking auth bgrewriteaof bgsave bitcount bitfield bitfield_ro bitop bitpos blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax
bzpopmin client cluster clusterscan command commandlog config copy dbsize debug decr decrby del delifeq discard dump echo eval eval_ro
evalsha evalsha_ro exec exists expire expireat expiretime failover fcall fcall_ro flushall flushdb function geoadd geodist geohash geopos
georadius georadius_ro georadiusbymember georadiusbymember_ro geosearch geosearchstore get getbit getdel getex getrange getset hdel hello
hexists hexpire hexpireat hexpiretime hget hgetall hgetdel hgetex hincrby hincrbyfloat hkeys hlen hmget hmset hpersist hpexpire hpexpireat
hpexpiretime hpttl hrandfield hscan hset hsetex hsetnx hstrlen httl hvals incr incrby incrbyfloat info keys lastsave latency lcs lindex
linsert llen lmove lmpop lolwut lpop lpos lpush lpushx lrange lrem lset ltrim memory mget migrate module monitor move mset msetex msetnx
multi object persist pexpire pexpireat pexpiretime pfadd pfcount pfdebug pfmerge pfselftest ping psetex psubscribe psync pttl publish
pubsub punsubscribe quit randomkey readonly readwrite rename renamenx replconf replicaof reset restore restore-asking role rpop rpoplpush
rpush rpushx sadd save scan scard script sdiff sdiffstore select set setbit setex setnx setrange shutdown sinter sintercard sinterstore
sismember slaveof slowlog smembers smismember smove sort sort_ro spop spublish srandmember srem sscan ssubscribe strlen subscribe substr
sunion sunionstore sunsubscribe swapdb sync time touch ttl type unlink unsubscribe unwatch vadd vcard vdim vemb vgetattr vinfo vismember
vlinks vrandmember vrem vsetattr vsim wait waitaof watch xack xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange xread
xreadgroup xrevrange xsetid xtrim zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard zinterstore zlexcount zmpop zmscore zpopmax
zpopmin zrandmember zrange zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank zremrangebyscore zrevrange
zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion zunionstore
`
