package bus

import (
	"log/slog"
	"slices"
	"time"

	"dcshealer/policies"
)

const (
	gapGrace   = 10 * time.Second // for alarms that come out of order, by the stream for instance
	gapSources = 1000             // anyone on the bus can be a source
	gapName    = 200              // bytes of a source's name; a longer one is no source
	gapRuns    = 100              // of one source that are open
)

// gaps finds the numbers that are missing in what each source publishes. Its owner guards it.
type gaps struct {
	log     *slog.Logger
	sources map[string]*numbered
	checked time.Time
}

// numbered is one source.
type numbered struct {
	top     int64     // the highest number since the source's start
	at      time.Time // when it was made
	open    []gapRun  // below it, rising
	missing int64     // of those that were said
}

type gapRun struct {
	from, to int64 // both missing
	found    time.Time
	said     bool
}

func (r gapRun) size() int64 { return r.to - r.from + 1 }

// note takes an alarm that is new. Those without a number or a source are of others and show nothing.
func (g *gaps) note(a policies.Alarm, now time.Time) {
	if g == nil || a.Seq <= 0 || a.Source == "" || len(a.Source) > gapName {
		return
	}
	s := g.sources[a.Source]
	switch {
	case s == nil && len(g.sources) >= gapSources:
		return
	case s == nil:
		g.sources[a.Source] = &numbered{top: a.Seq, at: a.At} // what came before is not ours to miss
	case a.Seq > s.top:
		s.miss(s.top+1, a.Seq-1, now)
		s.top, s.at = a.Seq, a.At
	case !s.fill(a.Seq) && a.At.After(s.at): // the source began anew
		for _, r := range s.open {
			g.say(a.Source, s, &r)
		}
		s.open = nil
		s.miss(1, a.Seq-1, now)
		s.top, s.at = a.Seq, a.At
	}
	g.check(now)
}

func (s *numbered) miss(from, to int64, now time.Time) {
	if from > to {
		return
	}
	if n := len(s.open); n >= gapRuns { // one run more than we keep: the newest grows over it
		s.open[n-1].to = to
		return
	}
	s.open = append(s.open, gapRun{from: from, to: to, found: now})
}

// fill takes a number out of the open runs; false where it is in none.
func (s *numbered) fill(seq int64) bool {
	i := slices.IndexFunc(s.open, func(r gapRun) bool { return r.from <= seq && seq <= r.to })
	if i < 0 {
		return false
	}
	r := s.open[i]
	if r.said {
		s.missing--
	}
	var rest []gapRun
	if r.from < seq {
		rest = append(rest, gapRun{r.from, seq - 1, r.found, r.said})
	}
	if seq < r.to {
		rest = append(rest, gapRun{seq + 1, r.to, r.found, r.said})
	}
	s.open = slices.Replace(s.open, i, i+1, rest...)
	return true
}

// check says the runs that nothing filled in time, once each.
func (g *gaps) check(now time.Time) {
	if g == nil || now.Sub(g.checked) < time.Second {
		return
	}
	g.checked = now
	for name, s := range g.sources {
		for i := range s.open {
			if r := &s.open[i]; !r.said && now.Sub(r.found) >= gapGrace {
				g.say(name, s, r)
			}
		}
	}
}

func (g *gaps) say(source string, s *numbered, r *gapRun) {
	if r.said {
		return
	}
	r.said = true
	s.missing += r.size()
	g.log.Error("alarms of a source are missing: they were published and have not come", "source", policies.Printable(source, 100),
		"from", r.from, "to", r.to, "count", r.size())
}

// CountGaps has the decoder find alarms that are missing, by the numbers that each source gives them. It is for a reader of
// every channel: a source numbers its alarms across them. It returns d.
func (d *Decoder) CountGaps() *Decoder {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gaps = &gaps{log: d.log, sources: map[string]*numbered{}}
	return d
}

// Missing is how many alarms have not come, by source. Sources that miss none are left out.
func (d *Decoder) Missing() map[string]int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	missing := map[string]int64{}
	if d.gaps == nil {
		return missing
	}
	d.gaps.check(time.Now())
	for name, s := range d.gaps.sources {
		if s.missing > 0 {
			missing[name] = s.missing
		}
	}
	return missing
}
