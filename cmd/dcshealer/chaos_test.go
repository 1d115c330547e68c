package main

import (
	"slices"
	"sync"
	"testing"

	"dcshealer/policies"
)

// A chaosScenario breaks a real fleet in containers and says what has to come of it. It runs twice, each time on a fleet of
// its own: live, where the fault is repaired or refused, and as its dry-run twin, where nothing may change.
type chaosScenario struct {
	name   string
	alone  bool                                 // a master without replicas
	bus    bool                                 // its dry-run twin has a bus of its own, too: else that is the one in the operator
	args   map[string][]string                  // more arguments of the servers, by node
	files  func(t *testing.T) map[string]string // what every server's container holds before it starts, by path
	disk   map[string]string                    // by node: the size of its /data, like 8m
	peers  map[string]string                    // by node: its peer_address in the operator's config
	config string                               // more lines of the instance in the operator's config
	policy string                               // another policy, as it stands under policies; config names it
	least  bool                                 // the operator has users with the least rights, and may no more than observe where dry says so
	dry    policies.Profile                     // its profile in the dry-run twin; empty: heal
	ladder string                               // what the instance opts into, and lives by where it is live
	run    func(t *testing.T, f *chaosFleet)
}

// The slow ones come first, so that none is left running alone at the end.
var chaosScenarios = []chaosScenario{
	{name: "sweep killed half way", alone: true, run: chaosSweepKilled},
	{name: "operator killed while verifying", run: chaosVerifyKilled},
	{name: "bus killed", bus: true, run: chaosBusKilled},
	{name: "replica paused", run: chaosReplicaPaused},
	{name: "replica cut off from its master", run: chaosReplicaCutOff},
	{name: "master back empty", run: chaosMasterEmpty},
	{name: "replica unplugged", run: chaosReplicaUnplugged},
	{name: "master killed", run: chaosMasterKilled},
	{name: "replica killed", run: chaosReplicaKilled},
	{name: "replica on a foreign master", run: chaosForeignMaster},
	{name: "replica on a dead port", run: chaosDeadPort},
	{name: "replica promoted", run: chaosPromoted},
	{name: "replica promoted with writes", run: chaosPromotedWithWrites},
}

// chaosWidth is how many scenarios run side by side. They wait for much, so that a small machine bears more of them than
// it has CPUs, which is what t.Parallel would allow; yet more of them end no sooner, they only starve each other.
const chaosWidth = 4

func TestChaos(t *testing.T) {
	lab := newChaosLab(t)
	type turn struct {
		chaosScenario
		live bool
	}
	turns := make(chan turn)
	var wg sync.WaitGroup
	for range chaosWidth {
		wg.Go(func() {
			for s := range turns {
				mode := "dry-run"
				if s.live {
					mode = "live"
				}
				t.Run(s.name+"/"+mode, func(t *testing.T) {
					f := lab.newFleet(t, s.chaosScenario, s.live)
					s.run(t, f)
					f.checkTraces(t)
				})
			}
		})
	}
	for _, s := range slices.Concat(chaosScenarios, chaosMemoryScenarios, chaosLinkScenarios, chaosTopologyScenarios, chaosRightsScenarios) {
		turns <- turn{s, true}
		turns <- turn{s, false}
	}
	close(turns)
	wg.Wait()
}
