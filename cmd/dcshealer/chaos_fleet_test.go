package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	mobynet "github.com/moby/moby/api/types/network"
	tc "github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

// The names in a fleet: of the containers on the network, and of the nodes in the operator's config.
const (
	chaosInstance = "dcs-chaos"
	chaosMaster   = "master"
	chaosReplica  = "replica-1"
	chaosOther    = "replica-2"
	chaosStranger = "stranger" // a server that is no node of the instance
	chaosBus      = "bus"
	chaosOperator = "operator"
)

// chaosHosts are the last bytes of the fixed addresses. They survive restarts and disconnects, and each container has all
// names in its hosts file, so that a name is never asked of a DNS server that is slow to miss it.
var chaosHosts = map[string]byte{chaosMaster: 10, chaosReplica: 11, chaosOther: 12, chaosStranger: 13, chaosBus: 14, chaosOperator: 20}

// chaosFleet is one fleet on a network of its own, with the operator that watches it.
type chaosFleet struct {
	lab      *chaosLab
	scenario chaosScenario
	live     bool
	nw       *tc.DockerNetwork
	subnet   netip.Prefix
	nodes    map[string]*chaosNode // the bus and a stranger included
	op       *chaosOperatorBox
	files    map[string]string   // of every server's container, by path
	wrote    map[string][]string // by node: what the operator has to have sent besides reads
	counts   map[string]bool     // the nodes that are replicas all along: looking at their keys is a read
}

// newFleet starts servers and operator and returns when all is well: replicas in step, the operator idle.
func (l *chaosLab) newFleet(t *testing.T, s chaosScenario, live bool) *chaosFleet {
	t.Helper()
	f := &chaosFleet{lab: l, scenario: s, live: live, nodes: map[string]*chaosNode{}, wrote: map[string][]string{}}
	f.makeNetwork(t)
	if s.files != nil {
		f.files = s.files(t)
	}
	servers := map[string][]string{chaosMaster: nil}
	if f.hasBus() {
		servers[chaosBus] = nil
	}
	if !s.alone {
		follow := []string{"--replicaof", chaosMaster, "6379"}
		servers[chaosReplica], servers[chaosOther] = follow, follow
	}
	f.startServers(t, servers)
	f.fill(t, s.alone)
	if s.least {
		f.makeUsers(t)
	}
	f.startOperator(t)
	return f
}

// hasBus tells whether the bus is a server; else the operator brings its own.
func (f *chaosFleet) hasBus() bool { return f.live || f.scenario.bus || f.scenario.least }

// makeNetwork takes the next subnet that nothing on this host uses.
func (f *chaosFleet) makeNetwork(t *testing.T) {
	t.Helper()
	for range 50 {
		third := byte(f.lab.subnets.Add(1))
		f.subnet = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 231, third, 0}), 24)
		nw, err := network.New(t.Context(), network.WithLabels(chaosLabels),
			network.WithIPAM(&mobynet.IPAM{Config: []mobynet.IPAMConfig{{Subnet: f.subnet}}}))
		if err != nil && strings.Contains(strings.ToLower(err.Error()), "overlap") {
			continue
		}
		tc.CleanupNetwork(t, nw)
		if err != nil {
			t.Fatalf("make the network %s: %v", f.subnet, err)
		}
		f.nw = nw
		return
	}
	t.Fatal("no free subnet in 10.231.0.0/16")
}

func (f *chaosFleet) ip(name string) netip.Addr {
	a := f.subnet.Addr().As4()
	a[3] = chaosHosts[name]
	return netip.AddrFrom4(a)
}

// endpoint is how a container is on the network, at its start and when it is plugged in again.
func (f *chaosFleet) endpoint(name string) *mobynet.EndpointSettings {
	return &mobynet.EndpointSettings{Aliases: []string{name}, IPAMConfig: &mobynet.EndpointIPAMConfig{IPv4Address: f.ip(name)}}
}

// options are those of every container of the fleet.
func (f *chaosFleet) options(name string, more ...tc.ContainerCustomizer) []tc.ContainerCustomizer {
	return append([]tc.ContainerCustomizer{
		tc.WithLabels(chaosLabels),
		network.WithNetwork([]string{name}, f.nw),
		tc.WithEndpointSettingsModifier(func(s map[string]*mobynet.EndpointSettings) { s[f.nw.Name] = f.endpoint(name) }),
		tc.WithHostConfigModifier(func(hc *container.HostConfig) {
			for host := range maps.Keys(chaosHosts) {
				hc.ExtraHosts = append(hc.ExtraHosts, host+":"+f.ip(host).String())
			}
		}),
	}, more...)
}

// startServers starts them side by side.
func (f *chaosFleet) startServers(t *testing.T, servers map[string][]string) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed []string
	for name, args := range servers {
		wg.Go(func() {
			n, err := f.startServer(t, name, args)
			mu.Lock()
			defer mu.Unlock()
			f.nodes[name] = n
			if err != nil {
				failed = append(failed, fmt.Sprintf("%s: %v", name, err))
			}
		})
	}
	wg.Wait()
	if len(failed) > 0 {
		slices.Sort(failed)
		t.Fatalf("start the servers: %s", strings.Join(failed, "; "))
	}
}

// chaosServer are a server's options: nothing is ever saved, faults show within seconds, and the slow log keeps each command
// with the address that it came from, which no other record of a server does for all commands.
var chaosServer = []string{"redis-server", "--save", "", "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0",
	"--repl-timeout", "5", "--repl-ping-replica-period", "1", "--slowlog-log-slower-than", "0", "--slowlog-max-len", "100000"}

func (f *chaosFleet) startServer(t *testing.T, name string, args []string) (*chaosNode, error) {
	cmd := slices.Concat(chaosServer, f.lab.debug, args, f.scenario.args[name])
	c, err := tc.Run(t.Context(), f.lab.image, f.options(name, tc.WithCmd(cmd...), tc.WithExposedPorts(chaosPort), f.storage(name),
		tc.WithHostConfigModifier(func(hc *container.HostConfig) {
			// Without an address the port would be published on every interface.
			hc.PortBindings = mobynet.PortMap{mobynet.MustParsePort(chaosPort): {{HostIP: netip.MustParseAddr("127.0.0.1")}}}
		}),
		tc.WithWaitStrategyAndDeadline(30*time.Second, wait.ForLog("Ready to accept connections")))...)
	tc.CleanupContainer(t, c, tc.StopTimeout(0))
	if err != nil {
		return nil, err
	}
	return newChaosNode(t, name, c), nil
}

// storage puts a server's files where it wants them, and bounds its disk where the scenario does.
func (f *chaosFleet) storage(name string) tc.CustomizeRequestOption {
	return func(req *tc.GenericContainerRequest) error {
		for path, content := range f.files {
			req.Files = append(req.Files, tc.ContainerFile{Reader: strings.NewReader(content), ContainerFilePath: path, FileMode: 0o644})
		}
		if size := f.scenario.disk[name]; size != "" {
			req.Tmpfs = map[string]string{"/data": "rw,mode=1777,size=" + size}
		}
		return nil
	}
}

// fill gives the instance its data and waits until the replicas have it.
func (f *chaosFleet) fill(t *testing.T, alone bool) {
	t.Helper()
	args := []any{"MSET"}
	for i := range 250 {
		args = append(args, fmt.Sprintf("key:%d", i), fmt.Sprintf("value %d", i))
	}
	f.nodes[chaosMaster].do(t, args...)
	if !alone {
		f.awaitInStep(t)
	}
}

// awaitInStep waits until both replicas follow the master and hold what it holds.
func (f *chaosFleet) awaitInStep(t *testing.T) {
	t.Helper()
	f.awaitSame(t, chaosReplica)
	f.awaitSame(t, chaosOther)
}

// awaitSame waits until a replica does.
func (f *chaosFleet) awaitSame(t *testing.T, name string) {
	t.Helper()
	chaosAwait(t, name+" in step with the master", func(ctx context.Context) error {
		want, err := f.nodes[chaosMaster].look(ctx)
		if err != nil {
			return err
		}
		got, err := f.nodes[name].look(ctx)
		if err == nil && (got.role != "slave" || got.link != "up" || got.replid != want.replid || got.digest != want.digest) {
			err = fmt.Errorf("it is %+v, the master %+v", got, want)
		}
		return err
	})
}
