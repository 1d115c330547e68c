package probe

import (
	"testing"
	"time"
)

func TestPaceFollowsTheTimeOfACall(t *testing.T) {
	p := newPace(1000)
	if p.count != firstBatch {
		t.Fatalf("it begins with %d", p.count)
	}
	// A server that takes 1 µs a key: twice as many each time, up to what half a millisecond is enough for.
	for i, want := range []int{200, 400, 500, 500} {
		owed := p.scanned(time.Duration(p.count) * time.Microsecond)
		if p.count != want {
			t.Errorf("call %d: next %d, want %d", i, p.count, want)
		}
		if i == 3 && owed != restFactor*500*time.Microsecond {
			t.Errorf("a call of 500 µs owes a rest of %s", owed)
		}
	}
	// One that waits is not believed; five are.
	p.scanned(50 * time.Millisecond)
	if p.count != 500 {
		t.Errorf("one slow call: next %d", p.count)
	}
	for range 5 {
		p.scanned(time.Duration(p.count) * 100 * time.Microsecond)
	}
	if p.count != leastBatch {
		t.Errorf("a server that takes 100 µs a key is asked for %d", p.count)
	}
}

func TestPaceKeepsTheMostThatIsAllowed(t *testing.T) {
	for _, most := range []int{1, 10, 1000} {
		p := newPace(most)
		for range 10 {
			p.scanned(0) // quicker than the round trip was
		}
		if p.count != most {
			t.Errorf("%d keys a call, want %d", p.count, most)
		}
	}
}

func TestMeter(t *testing.T) {
	var m meter
	if m.cost(100) != 0 {
		t.Error("a meter without a reading tells a cost")
	}
	m.add(0, time.Second) // no reading
	for _, us := range []int{300, 200, 500, 400, 600} {
		m.add(100, time.Duration(us)*time.Microsecond)
	}
	if got := m.cost(100); got != 200*time.Microsecond {
		t.Errorf("cost %s, want the least of the last five", got)
	}
	for range 4 {
		m.add(100, 700*time.Microsecond)
	}
	if got := m.cost(100); got != 600*time.Microsecond {
		t.Errorf("cost %s, want the least of the last five", got)
	}
}
