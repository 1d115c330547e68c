package remediation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"dcshealer/agent/probe"
	"dcshealer/policies"
	"dcshealer/remediation/reclaim"
)

// callTimeout bounds one write command. A timed-out command may have been carried out: its effect is read back.
const callTimeout = 5 * time.Second

// errForbidden is a command that the action may not send: a bug of ours, stopped before it reaches a server.
var errForbidden = errors.New("command is not part of the action")

// conn is the connection of one action to one node. It sends nothing but the commands named when it was opened, each
// once, and its hook hands each to the record before the answer is looked at.
type conn struct {
	node   string
	client *redis.Client
	conn   *redis.Conn
}

// open connects to the node. permit lists the lower-case names of the commands that may pass.
func open(i policies.Instance, n policies.Node, permit []string, rec *recorder) (*conn, error) {
	tlsConfig, err := probe.TLSConfig(i.TLS)
	if err != nil {
		return nil, fmt.Errorf("connect to %s/%s: %w", i.Name, n.Name, err)
	}
	client := redis.NewClient(&redis.Options{
		Addr: n.Address.String(), Username: i.Username, Password: i.Password.Reveal(), TLSConfig: tlsConfig,
		// A write is sent once: by default a timed-out REPLICAOF would be sent four times.
		MaxRetries: -1, DialerRetries: 1, PoolSize: 1, ContextTimeoutEnabled: true, DisableIdentity: true,
		DialTimeout: callTimeout, ReadTimeout: callTimeout, WriteTimeout: callTimeout, Protocol: 2,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	client.AddHook(&recordHook{node: n.Name, permit: permit, rec: rec})
	return &conn{node: n.Name, client: client, conn: client.Conn()}, nil
}

func (c *conn) Close() error { return errors.Join(c.conn.Close(), c.client.Close()) }

// ReplicaOf sends REPLICAOF and returns the server's reply. A nil error is not success: the reply tells. An INFO goes out before it in the
// same packet, which the server answers without doing anything else in between: at is what the node was at the very command.
func (c *conn) ReplicaOf(ctx context.Context, master policies.Address) (reply string, at policies.Snapshot, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info := redis.NewStringCmd(ctx, "INFO")
	cmd := redis.NewStatusCmd(ctx, "REPLICAOF", master.Host, strconv.Itoa(master.Port))
	pipe := c.conn.Pipeline()
	_ = pipe.Process(ctx, info)
	_ = pipe.Process(ctx, cmd)
	_, err = pipe.Exec(ctx)
	if cmd.Err() != nil {
		err = cmd.Err()
	}
	return cmd.Val(), probe.FromInfo(info.Val()), err
}

// Detach sends REPLICAOF NO ONE, which calls off a REPLICAOF of a moment ago.
func (c *conn) Detach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.conn.Process(ctx, redis.NewStatusCmd(ctx, "REPLICAOF", "NO", "ONE"))
}

// KillMasterLink sends CLIENT KILL TYPE master and returns how many links it closed.
func (c *conn) KillMasterLink(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmd := redis.NewIntCmd(ctx, "CLIENT", "KILL", "TYPE", "master")
	err := c.conn.Process(ctx, cmd)
	return cmd.Val(), err
}

// Rewrite sends CONFIG REWRITE.
func (c *conn) Rewrite(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.conn.Process(ctx, redis.NewStatusCmd(ctx, "CONFIG", "REWRITE"))
}

// Setting is one parameter by CONFIG GET.
func (c *conn) Setting(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmd := redis.NewSliceCmd(ctx, "CONFIG", "GET", name)
	if err := c.conn.Process(ctx, cmd); err != nil {
		return "", err
	}
	if reply := cmd.Val(); len(reply) == 2 {
		if value, ok := reply[1].(string); ok {
			return value, nil
		}
	}
	return "", fmt.Errorf("CONFIG GET %s on %s: the server does not know it", name, c.node)
}

// SetConfig sends CONFIG SET.
func (c *conn) SetConfig(ctx context.Context, name, value string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.conn.Process(ctx, redis.NewStatusCmd(ctx, "CONFIG", "SET", name, value))
}

// Select changes the DB of the connection.
func (c *conn) Select(ctx context.Context, db int) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.conn.Select(ctx, db).Err()
}

// Scan sends one plain SCAN, without MATCH and TYPE, which deletes the expired keys that it visits on a master. The
// names are dropped unread.
func (c *conn) Scan(ctx context.Context, cursor uint64, count int64) (next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmd := redis.NewCmd(ctx, "SCAN", strconv.FormatUint(cursor, 10), "COUNT", count)
	if err := c.conn.Process(ctx, cmd); err != nil {
		return 0, err
	}
	reply, err := cmd.Slice()
	if err != nil || len(reply) != 2 {
		return 0, fmt.Errorf("SCAN on %s: an answer that is not a cursor and keys", c.node)
	}
	text, _ := reply[0].(string)
	next, err = strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("SCAN on %s: the cursor is not a number", c.node)
	}
	return next, nil
}

// Ping sends ROLE, which reads only, to connect and to learn the round trip.
func (c *conn) Ping(ctx context.Context) error {
	_, err := c.Role(ctx)
	return err
}

// Info is what the server at the other end of this very connection says of itself: an address may lead elsewhere than it did for the
// probes, and this is the newest that can be known before a command.
func (c *conn) Info(ctx context.Context) (policies.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmd := redis.NewStringCmd(ctx, "INFO")
	if err := c.conn.Process(ctx, cmd); err != nil {
		return policies.Snapshot{}, err
	}
	s := probe.FromInfo(cmd.Val())
	if s.RunID == "" {
		return s, fmt.Errorf("INFO on %s: no run_id", c.node)
	}
	return s, nil
}

// ScanTime reads INFO commandstats.
func (c *conn) ScanTime(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmd := redis.NewStringCmd(ctx, "INFO", "commandstats")
	if err := c.conn.Process(ctx, cmd); err != nil {
		return 0, err
	}
	return reclaim.ScanTimeOf(cmd.Val()), nil
}

// Role is what ROLE says of the node now: a master's "master OFFSET", a replica's "slave HOST PORT".
func (c *conn) Role(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmd := redis.NewCmd(ctx, "ROLE")
	if err := c.conn.Process(ctx, cmd); err != nil {
		return "", err
	}
	reply, err := cmd.Slice()
	switch {
	case err == nil && len(reply) >= 3 && reply[0] == "slave":
		return fmt.Sprint("slave ", reply[1], " ", reply[2]), nil
	case err == nil && len(reply) >= 2 && reply[0] == "master":
		return fmt.Sprint("master ", reply[1]), nil
	}
	return "", fmt.Errorf("ROLE on %s: an answer of another form", c.node)
}

// refused reports whether the server answered with an error: then the command was not carried out.
func refused(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// unsupported reports whether the server refused the command for good: renamed, forbidden, cluster mode. It never counts as a failure.
func unsupported(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	for _, prefix := range []string{"ERR unknown command", "NOPERM", "ERR REPLICAOF not allowed in cluster mode"} {
		if strings.HasPrefix(reply.Error(), prefix) {
			return true
		}
	}
	return false
}

// greeting is what go-redis itself sends on a new connection; it passes the same hooks.
var greeting = []string{"hello", "auth"}

// recordHook passes the permitted commands and records each.
type recordHook struct {
	node   string
	permit []string
	rec    *recorder
}

func (h *recordHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (h *recordHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if slices.Contains(greeting, cmd.Name()) {
			return next(ctx, cmd) // may hold a password: never recorded
		}
		if !slices.Contains(h.permit, cmd.Name()) {
			err := fmt.Errorf("%s to %s: %w", cmd.Name(), h.node, errForbidden)
			cmd.SetErr(err)
			return err
		}
		start := time.Now()
		err := next(ctx, cmd)
		h.rec.add(h.node, cmd, err, start, time.Since(start))
		return err
	}
}

// ProcessPipelineHook passes the connection's own greeting, and permitted commands, each of which is recorded.
func (h *recordHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if !slices.Contains(greeting, cmd.Name()) && !slices.Contains(h.permit, cmd.Name()) {
				err := fmt.Errorf("%s to %s: %w", cmd.Name(), h.node, errForbidden)
				for _, each := range cmds {
					each.SetErr(err)
				}
				return err
			}
		}
		start := time.Now()
		err := next(ctx, cmds)
		took := time.Since(start)
		for _, cmd := range cmds {
			if !slices.Contains(greeting, cmd.Name()) {
				h.rec.add(h.node, cmd, cmp.Or(cmd.Err(), err), start, took)
			}
		}
		return err
	}
}

// recorder takes each command of one action as it is sent. The calls of a sweep are summed, into one record a DB.
type recorder struct {
	each func(policies.CommandRecord) // told of each command that is not summed, in order

	mu   sync.Mutex
	sums []policies.CommandRecord
	db   bool // a DB was selected since the newest sum
}

func (r *recorder) add(node string, cmd redis.Cmder, err error, at time.Time, took time.Duration) {
	args := make([]string, 0, len(cmd.Args()))
	for _, a := range cmd.Args() {
		args = append(args, fmt.Sprint(a))
	}
	args[0] = strings.ToUpper(args[0])
	rec := policies.CommandRecord{Args: args, Node: node, At: at.UTC(), Took: took, TookS: took.Seconds(), Reply: reply(cmd, err)}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch args[0] {
	case "ROLE", "INFO":
		return // reads only
	case "CONFIG":
		if len(args) > 1 && strings.EqualFold(args[1], "GET") {
			return
		}
	case "SELECT":
		r.db = true
	case "SCAN":
		r.sum(rec, err)
		return
	}
	r.each(rec)
}

// sum adds a SCAN to the record of its DB. The caller holds r.mu.
func (r *recorder) sum(rec policies.CommandRecord, err error) {
	if r.db || len(r.sums) == 0 {
		r.db = false
		rec.Args = []string{"SCAN", "cursor", "COUNT", "n"}
		rec.Count, rec.Longest = 1, rec.TookS
		r.sums = append(r.sums, rec)
		return
	}
	s := &r.sums[len(r.sums)-1]
	s.Count++
	s.Took += rec.Took
	s.TookS += rec.TookS
	s.Longest = max(s.Longest, rec.TookS)
	if err != nil {
		s.Reply = rec.Reply
	}
}

// summed is the sums, which were not handed on yet.
func (r *recorder) summed() []policies.CommandRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.sums)
}

// reply is what the server said, without key names.
func reply(cmd redis.Cmder, err error) string {
	if err != nil {
		return clip(err.Error())
	}
	switch c := cmd.(type) {
	case *redis.StatusCmd:
		return clip(c.Val())
	case *redis.IntCmd:
		return strconv.FormatInt(c.Val(), 10)
	}
	return "OK"
}

func clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
