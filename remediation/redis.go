package remediation

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"dcshealer/agent/probe"
	"dcshealer/policies"
	"dcshealer/remediation/evict"
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
	pass   policies.Secret
	client *redis.Client
	conn   *redis.Conn
	hook   *recordHook
}

// open connects to the node with what pass says now. permit lists the lower-case names of the commands that may pass.
func open(i policies.Instance, n policies.Node, pass *probe.Password, permit []string, rec *recorder) (*conn, error) {
	tlsConfig, err := probe.TLSConfig(i.TLS)
	if err != nil {
		return nil, fmt.Errorf("connect to %s/%s: %w", i.Name, n.Name, err)
	}
	secret := pass.Next()
	client := redis.NewClient(&redis.Options{
		Addr: n.Address.String(), Username: i.Username, Password: secret.Reveal(), Dialer: dialer(n, tlsConfig),
		OnConnect: func(context.Context, *redis.Conn) error { pass.Took(secret); return nil },
		// A write is sent once: by default a timed-out REPLICAOF would be sent four times.
		MaxRetries: -1, DialerRetries: 1, PoolSize: 1, ContextTimeoutEnabled: true, DisableIdentity: true,
		DialTimeout: callTimeout, ReadTimeout: callTimeout, WriteTimeout: callTimeout, Protocol: 2,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	hook := &recordHook{node: n.Name, permit: permit, rec: rec, names: i.Renamed}
	client.AddHook(hook)
	client.AddHook(probe.Renaming{Names: i.Renamed})
	return &conn{node: n.Name, pass: secret, client: client, conn: client.Conn(), hook: hook}, nil
}

// dialer opens the connection, with TLS where cfg is not nil.
func dialer(n policies.Node, cfg *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil || cfg == nil {
			return conn, err
		}
		return probe.Encrypt(ctx, conn, cfg, n.Address.Host, "tls")
	}
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
	_, _ = pipe.Exec(ctx) // each command has its own error, and one that INFO met says nothing of REPLICAOF
	return cmd.Val(), probe.FromInfo(info.Val()), cmd.Err()
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
// names are dropped unread. A ROLE goes out after it in the same packet: on a node that is a replica now it is reclaim.ErrNotMaster, so
// that no other SCAN follows.
func (c *conn) Scan(ctx context.Context, cursor uint64, count int64) (next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmd, role := redis.NewCmd(ctx, "SCAN", strconv.FormatUint(cursor, 10), "COUNT", count), redis.NewCmd(ctx, "ROLE")
	pipe := c.conn.Pipeline()
	_ = pipe.Process(ctx, cmd)
	_ = pipe.Process(ctx, role)
	_, err = pipe.Exec(ctx)
	if is, _ := role.Slice(); len(is) > 0 && is[0] == "slave" {
		return 0, reclaim.ErrNotMaster // whatever it said to the SCAN
	}
	if err = cmp.Or(cmd.Err(), err); err != nil {
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

// ClientList sends CLIENT LIST, for the named clients alone where there are any, which 6.0 does not know.
func (c *conn) ClientList(ctx context.Context, ids ...int64) ([]policies.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	args := []any{"CLIENT", "LIST"}
	if len(ids) > 0 {
		args = append(args, "ID")
	}
	for _, id := range ids {
		args = append(args, id)
	}
	cmd := redis.NewStringCmd(ctx, args...)
	if err := c.conn.Process(ctx, cmd); err != nil {
		return nil, err
	}
	return policies.ParseClients(cmd.Val()), nil
}

// ClientID is the id of this connection.
func (c *conn) ClientID(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmd := redis.NewIntCmd(ctx, "CLIENT", "ID")
	err := c.conn.Process(ctx, cmd)
	return cmd.Val(), err
}

// KillClient sends CLIENT KILL ID, which never closes the connection that it comes on, and returns how many were closed: 0 or 1. An id is
// given once in the life of a server, and a connection that breaks is never replaced by another, so that the id means the client that
// CLIENT LIST on this connection showed.
func (c *conn) KillClient(ctx context.Context, id int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmd := redis.NewIntCmd(ctx, "CLIENT", "KILL", "ID", id)
	err := c.conn.Process(ctx, cmd)
	return cmd.Val(), err
}

// Purge sends MEMORY PURGE. It answers OK also where it does nothing.
func (c *conn) Purge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.conn.Process(ctx, redis.NewStatusCmd(ctx, "MEMORY", "PURGE"))
}

// readOnly makes the connection refuse from now on what a probe's would: for a plan, which changes nothing. Not beside a command under way.
func (c *conn) readOnly() { c.hook.readOnly = true }

// noSlot reports that the server closed the connection as soon as it was there, as it does at its maxclients; the error that it sends
// before it does not always arrive.
func noSlot(err error) bool {
	var reply redis.Error
	if errors.As(err, &reply) {
		return strings.HasPrefix(reply.Error(), "ERR max number of clients")
	}
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
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

// recordHook passes the permitted commands and records each, under the name that the server has for it. What it permits goes by Redis's.
type recordHook struct {
	node     string
	permit   []string
	readOnly bool
	rec      *recorder
	names    policies.Renames
}

func (h *recordHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// check refuses what may not pass. The connection's own greeting may hold a password: it passes, and is never recorded.
func (h *recordHook) check(cmd redis.Cmder) error {
	switch name := cmd.Name(); {
	case slices.Contains(greeting, name):
	case !slices.Contains(h.permit, name):
		return fmt.Errorf("%s to %s: %w", name, h.node, errForbidden)
	case h.readOnly && !probe.ReadOnly(cmd.Args(), false):
		return fmt.Errorf("%s to %s: %w", name, h.node, probe.ErrNotReadOnly)
	}
	return nil
}

func (h *recordHook) record(cmd redis.Cmder, err error, at time.Time, took time.Duration) {
	if !slices.Contains(greeting, cmd.Name()) {
		h.rec.add(h.node, h.names, cmd, err, at, took)
	}
}

func (h *recordHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := h.check(cmd); err != nil {
			cmd.SetErr(err)
			return err
		}
		start := time.Now()
		err := next(ctx, cmd)
		h.record(cmd, err, start, time.Since(start))
		return err
	}
}

func (h *recordHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if err := h.check(cmd); err != nil {
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
			h.record(cmd, cmp.Or(cmd.Err(), err), start, took)
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

	kills int // CLIENT KILL ID so far

	held bool
	late []policies.CommandRecord // to be told of on release
}

// hold keeps commands back from each until release: while it counts in milliseconds what comes next, nothing waits for a disk.
func (r *recorder) hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = true
}

func (r *recorder) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.late {
		r.each(c)
	}
	r.held, r.late = false, nil
}

func (r *recorder) add(node string, names policies.Renames, cmd redis.Cmder, err error, at time.Time, took time.Duration) {
	args := make([]string, 0, len(cmd.Args()))
	for _, a := range cmd.Args() {
		args = append(args, fmt.Sprint(a))
	}
	name := strings.ToUpper(args[0])
	args[0] = names.Sent(name)
	rec := policies.CommandRecord{Args: args, Node: node, At: at.UTC(), Took: took, TookS: took.Seconds(), Reply: reply(cmd, err)}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch name {
	case "ROLE", "INFO":
		return // reads only
	case "CONFIG":
		if len(args) > 1 && strings.EqualFold(args[1], "GET") {
			return
		}
	case "CLIENT":
		if len(args) > 1 && (strings.EqualFold(args[1], "LIST") || strings.EqualFold(args[1], "ID")) {
			return
		}
		if len(args) > 2 && args[2] == "ID" && r.sumKill(rec, err) {
			return
		}
	case "SELECT":
		r.db = true
	case "SCAN":
		r.sum(rec, err)
		return
	}
	if r.held {
		r.late = append(r.late, rec)
		return
	}
	r.each(rec)
}

// sum adds a SCAN to the record of its DB. The caller holds r.mu.
func (r *recorder) sum(rec policies.CommandRecord, err error) {
	if r.db || len(r.sums) == 0 {
		r.db = false
		rec.Args = []string{rec.Args[0], "cursor", "COUNT", "n"}
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

// killsEach is how many CLIENT KILL ID have a record of their own.
const killsEach = 20

// sumKill adds those beyond killsEach to one record, and reports that it did. The caller holds r.mu.
func (r *recorder) sumKill(rec policies.CommandRecord, err error) bool {
	if r.kills++; r.kills <= killsEach {
		return false
	}
	r.db = r.kills == killsEach+1
	if err == nil {
		rec.Reply = "OK" // the record's effect tells how many were closed
	}
	r.sum(rec, err)
	r.sums[len(r.sums)-1].Args = []string{rec.Args[0], "KILL", "ID", "id"}
	return true
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

// ScanNames sends one plain SCAN and hands over the names that it returned.
func (c *conn) ScanNames(ctx context.Context, cursor uint64, count int64) (names []probe.KeyName, next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmd := redis.NewScanCmd(ctx, nil, "SCAN", strconv.FormatUint(cursor, 10), "COUNT", count)
	if err := c.conn.Process(ctx, cmd); err != nil {
		return nil, 0, err
	}
	found, next := cmd.Val()
	for _, name := range found {
		names = append(names, probe.KeyName(name))
	}
	return names, next, nil
}

// TTLs sends PTTL for each name.
func (c *conn) TTLs(ctx context.Context, names []probe.KeyName) ([]int64, error) {
	return c.ofEach(ctx, names, "PTTL")
}

// Sizes sends MEMORY USAGE for each name; 0: there is no such key.
func (c *conn) Sizes(ctx context.Context, names []probe.KeyName) ([]int64, error) {
	return c.ofEach(ctx, names, "MEMORY", "USAGE")
}

// ofEach sends a command for each name, all in one write.
func (c *conn) ofEach(ctx context.Context, names []probe.KeyName, command ...any) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := c.conn.Pipeline()
	cmds := make([]*redis.Cmd, len(names))
	for i, name := range names {
		cmds[i] = redis.NewCmd(ctx, append(slices.Clone(command), string(name))...)
		_ = pipe.Process(ctx, cmds[i]) // queues; the error comes with Exec
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, keyless(err)
	}
	out := make([]int64, len(names))
	for i, cmd := range cmds {
		n, err := cmd.Int64()
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, keyless(err)
		}
		out[i] = n
	}
	return out, nil
}

// UnlinkNear sends the script that deletes those of the names whose TTL is at most that of most, in milliseconds.
func (c *conn) UnlinkNear(ctx context.Context, names []probe.KeyName, most []int64) ([]evict.Fate, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	args := []any{"EVAL", evict.Script(c.hook.names), len(names)}
	for _, name := range names {
		args = append(args, string(name))
	}
	for _, ms := range most {
		args = append(args, ms)
	}
	cmd := redis.NewIntSliceCmd(ctx, args...)
	if err := c.conn.Process(ctx, cmd); err != nil {
		return nil, keyless(err)
	}
	fates := make([]evict.Fate, len(cmd.Val()))
	for i, f := range cmd.Val() {
		fates[i] = evict.Fate(f)
	}
	return fates, nil
}

// Served reads off INFO commandstats what the server has spent in the commands of an eviction.
func (c *conn) Served(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmd := redis.NewStringCmd(ctx, "INFO", "commandstats")
	if err := c.conn.Process(ctx, cmd); err != nil {
		return 0, err
	}
	return evict.ServedOf(cmd.Val()), nil
}

// A keylessError is an answer of the server without the arguments of the command, which it repeats when it does not know the command.
type keylessError string

func (e keylessError) Error() string { return string(e) }

// RedisError makes it an answer of the server, as those of the library are.
func (keylessError) RedisError() {}

var _ redis.Error = keylessError("")

// keyless takes key names out of an error. What a user may not do inside a script is said in other words by each version.
func keyless(err error) error {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return err
	}
	text, _, _ := strings.Cut(reply.Error(), ", with args beginning with")
	switch {
	case strings.Contains(text, "user executing the script can't"), strings.Contains(text, "ACL failure in script"):
		text = "NOPERM " + text
	case strings.Contains(text, "Unknown Redis command called from"):
		text = "ERR unknown command: " + text
	}
	return keylessError(clip(text))
}
