package bus

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dcshealer/policies"
)

const (
	spoolBytes    = 64 << 20 // about 200,000 alarms
	spoolSegments = 16       // files that this is divided into: the oldest makes room whole
	spoolPrefix   = "spool-"
	spoolSuffix   = ".log"
	spoolPlace    = "place" // holds how far the bus has it
	spoolLock     = "lock"
)

// item is one alarm that waits, with its place in line.
type item struct {
	n     uint64
	alarm policies.Alarm
}

// spool keeps waiting alarms in files of a folder, a line each, so that they outlive this process however it ends; it does not
// wait for the disk, so the last ones may not outlive the machine. It is bounded: the oldest make room. Its owner guards it.
type spool struct {
	dir   string
	max   int64
	log   *slog.Logger
	lock  *os.File
	place *os.File

	segments []*segment // by rising numbers
	size     int64
	failing  bool // that was logged

	published, added uint64 // as the place says
}

// segment is one file.
type segment struct {
	path  string
	size  int64
	lines []spoolLine
}

type spoolLine struct {
	n      uint64
	offset int64
}

// openSpool opens a folder, which it makes (0700), and reads what an earlier process left there. A second process on one folder
// is refused.
func openSpool(dir string, max int64, log *slog.Logger) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &spool{dir: dir, max: max, log: log}
	var err error
	if s.lock, err = s.open(spoolLock); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another process uses it: %w", err), s.lock.Close())
	}
	if s.place, err = s.open(spoolPlace); err == nil {
		err = s.load()
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *spool) open(name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(s.dir, name), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
}

func (s *spool) close() error {
	err := s.lock.Close()
	if s.place != nil {
		err = errors.Join(err, s.place.Close())
	}
	return err
}

func (s *spool) load() error {
	buf := make([]byte, 64)
	n, _ := s.place.ReadAt(buf, 0) // EOF
	if _, err := fmt.Sscanf(string(buf[:n]), "%d %d", &s.published, &s.added); err != nil {
		s.published, s.added = 0, 0 // new, or damaged: all is sent again, and known by its ids
	}
	names, err := filepath.Glob(filepath.Join(s.dir, spoolPrefix+"*"+spoolSuffix))
	if err != nil {
		return err
	}
	slices.Sort(names) // numbers of one width
	bad := 0
	for _, name := range names {
		g, damaged, err := loadSegment(name)
		if err != nil {
			return err
		}
		bad += damaged
		s.segments = append(s.segments, g)
		s.size += g.size
	}
	if bad > 0 {
		s.log.Error("lines of the spool are damaged and their alarms lost", "count", bad)
	}
	return s.release(s.added)
}

// loadSegment reads a file's lines, cuts off a last one that is not whole, and counts those that are no alarms.
func loadSegment(path string) (g *segment, bad int, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, err
	}
	whole := bytes.LastIndexByte(data, '\n') + 1
	if whole < len(data) {
		if err := os.Truncate(path, int64(whole)); err != nil {
			return nil, 0, err
		}
	}
	g = &segment{path: path, size: int64(whole)}
	offset := 0
	for line := range bytes.Lines(data[:whole]) {
		if it, err := parseSpoolLine(line); err == nil && (len(g.lines) == 0 || it.n > g.last()) {
			g.lines = append(g.lines, spoolLine{it.n, int64(offset)})
		} else {
			bad++
		}
		offset += len(line)
	}
	return g, bad, nil
}

func (g *segment) last() uint64 { return g.lines[len(g.lines)-1].n }

// spoolText is a line: the number, the severity and the payload, which holds no line break.
func spoolText(it item) ([]byte, error) {
	payload, err := policies.EncodeAlarm(it.alarm)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%d %s %s\n", it.n, it.alarm.Severity, payload), nil
}

func parseSpoolLine(line []byte) (it item, err error) {
	number, rest, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
	severity, payload, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return it, err
	}
	a, err := policies.DecodeAlarm([]byte(payload))
	if err != nil {
		return it, err
	}
	a.Severity, err = policies.ParseSeverity(severity)
	if a.Metric == policies.MetricCanary {
		err = nil // it goes to a channel of its own
	}
	return item{n, a}, err
}

// count is how many lines have a number above n.
func (s *spool) count(n uint64) (count int) {
	for _, g := range s.segments {
		count += len(g.lines) - g.index(n)
	}
	return count
}

// index is that of the first line with a number above n.
func (g *segment) index(n uint64) int {
	i, _ := slices.BinarySearchFunc(g.lines, n+1, func(l spoolLine, n uint64) int { return cmp.Compare(l.n, n) })
	return i
}

// newest is the highest number that was ever kept.
func (s *spool) newest() uint64 {
	n := max(s.published, s.added)
	for _, g := range s.segments {
		if len(g.lines) > 0 {
			n = max(n, g.last())
		}
	}
	return n
}

// append keeps items after those that are there, all or none, and returns the numbers of those that had to make room.
func (s *spool) append(items []item) (dropped []uint64, err error) {
	var text []byte
	var lines []spoolLine
	for _, it := range items {
		line, err := spoolText(it)
		if err != nil {
			continue // Publish has refused it
		}
		lines = append(lines, spoolLine{it.n, int64(len(text))})
		text = append(text, line...)
	}
	if len(lines) == 0 {
		return nil, nil
	}
	for len(s.segments) > 0 && s.size+int64(len(text)) > s.max {
		for _, l := range s.segments[0].lines {
			dropped = append(dropped, l.n)
		}
		if err := s.removeFirst(); err != nil {
			return dropped, s.failed(err)
		}
	}
	g := s.current(lines[0].n)
	if err := g.write(text); err != nil {
		return dropped, s.failed(err)
	}
	for _, l := range lines {
		g.lines = append(g.lines, spoolLine{l.n, g.size + l.offset})
	}
	g.size += int64(len(text))
	s.size += int64(len(text))
	if s.failing {
		s.failing = false
		s.log.Info("the spool takes alarms again")
	}
	return dropped, nil
}

// failed logs the first of a spell.
func (s *spool) failed(err error) error {
	if !s.failing {
		s.failing = true
		s.log.Error("alarms that wait for the bus cannot be kept on disk; they wait in memory", "err", err)
	}
	return err
}

// current is the file that is written to.
func (s *spool) current(first uint64) *segment {
	if n := len(s.segments); n > 0 && s.segments[n-1].size < s.max/spoolSegments {
		return s.segments[n-1]
	}
	g := &segment{path: filepath.Join(s.dir, fmt.Sprintf("%s%020d%s", spoolPrefix, first, spoolSuffix))}
	s.segments = append(s.segments, g)
	return g
}

// write is one call, so that a process that is killed leaves at most one line that is not whole.
func (g *segment) write(text []byte) error {
	f, err := os.OpenFile(g.path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(text, g.size); err != nil {
		return errors.Join(err, f.Truncate(g.size), f.Close()) // a full disk, as a rule
	}
	return f.Close()
}

// read returns up to max items with numbers above n, and the numbers of those that somebody else has taken from the disk.
func (s *spool) read(n uint64, max int) (items []item, lost []uint64, err error) {
	for i := 0; i < len(s.segments) && len(items) < max; i++ {
		g := s.segments[i]
		more, err := g.read(n, max-len(items))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.EOF) {
			s.log.Error("a file of the spool is gone or was cut, and its alarms with it", "err", fmt.Errorf("read %s: %w", g.path, err))
			for _, l := range g.lines {
				lost = append(lost, l.n)
			}
			s.segments = slices.Delete(s.segments, i, i+1)
			s.size -= g.size
			i--
			continue
		}
		if err != nil {
			return items, lost, err
		}
		items = append(items, more...)
	}
	return items, lost, nil
}

func (g *segment) read(n uint64, max int) (items []item, err error) {
	i := g.index(n)
	if i == len(g.lines) {
		return nil, nil
	}
	f, err := os.Open(g.path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	if _, err := f.Seek(g.lines[i].offset, io.SeekStart); err != nil {
		return nil, err
	}
	return readItems(bufio.NewReaderSize(f, 64<<10), min(max, len(g.lines)-i))
}

// readItems reads on for n good lines; damaged ones are not among those that were counted.
func readItems(r *bufio.Reader, n int) (items []item, err error) {
	for n > 0 {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return items, err
		}
		if it, err := parseSpoolLine(line); err == nil {
			items = append(items, it)
			n--
		}
	}
	return items, nil
}

// reached remembers how far the bus has it.
func (s *spool) reached(published, added uint64) error {
	if published == s.published && added == s.added {
		return nil
	}
	s.published, s.added = published, added
	if _, err := s.place.WriteAt(fmt.Appendf(nil, "%020d %020d\n", published, added), 0); err != nil {
		return err
	}
	return s.release(added)
}

// release removes the files that hold nothing above n.
func (s *spool) release(n uint64) error {
	for len(s.segments) > 0 && s.segments[0].index(n) == len(s.segments[0].lines) {
		if err := s.removeFirst(); err != nil {
			return err
		}
	}
	return nil
}

func (s *spool) removeFirst() error {
	g := s.segments[0]
	if err := os.Remove(g.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.segments = s.segments[1:]
	s.size -= g.size
	return nil
}
