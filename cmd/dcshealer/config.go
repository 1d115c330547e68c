package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dcshealer/policies"
)

// maxConfigSize and maxSecretSize bound what is read from disk, in bytes.
const (
	maxConfigSize = 10 << 20
	maxSecretSize = 1 << 20
)

// loadConfig reads the config file, lays it over the defaults and checks it, the secret and TLS files that it names
// included. The error joins every fault of the file, each a policies.FieldError, in the order of their lines.
func loadConfig(file string) (policies.Config, error) {
	data, err := readBounded(file, maxConfigSize)
	if err != nil {
		return policies.Config{}, policies.FieldError{File: file, Got: "no readable file (" + plainCause(err) + ")", Bare: true,
			Want: "a config file; `dcshealer config init` writes a sample"}
	}
	folder, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return policies.Config{}, fmt.Errorf("config %s: find its folder: %w", file, err)
	}
	l := configLoader{file: file, folder: folder, readFile: readSecretFile, lookupEnv: os.LookupEnv, stat: statThrough}
	return l.load(data)
}

// configLoader is what a config file is read with: the tests give it a disk and an environment of their own.
type configLoader struct {
	file      string // as the operator named it
	folder    string // absolute: relative paths in the file start here
	readFile  func(name string) ([]byte, error)
	stat      func(name string) (fs.FileInfo, error)
	lookupEnv func(name string) (string, bool)
}

// load turns the file's text into a config, or into all its faults.
func (l configLoader) load(data []byte) (policies.Config, error) {
	d := l.decoder()
	cfg := policies.DefaultConfig()
	if root := d.parse(data); root != nil {
		d.config(fileValue{node: root}, &cfg)
	}
	cfg.File = l.file
	for _, f := range cfg.Check() {
		d.rule(f)
	}
	if len(d.faults) > 0 {
		return policies.Config{}, d.joined()
	}
	return cfg, nil
}

func (l configLoader) decoder() *configDecoder {
	return &configDecoder{configLoader: l, lines: map[string]int{}, texts: map[string]string{}, unread: map[string]bool{}, known: map[string][]string{}}
}

// rule adds a fault that the rules found, with its lines, unless one of the settings it is about could not be read:
// that has been said, and what stands in its place is only the default.
func (d *configDecoder) rule(f policies.FieldError) {
	if d.doubtful(f.Path) || slices.ContainsFunc(f.With, func(p policies.Place) bool { return d.doubtful(p.Path) }) {
		return
	}
	for i, p := range f.With {
		f.With[i].Line = d.lines[p.Path]
		f.Line = cmp.Or(f.Line, d.lines[p.Path])
	}
	if own, ok := d.lines[f.Path]; ok {
		f.Line, f.Got = own, cmp.Or(d.texts[f.Path], f.Got) // as written: 300us, not 300µs
	} else {
		f.Default = f.Got != ""
		f.Line = cmp.Or(f.Line, d.nearestLine(f.Path))
	}
	d.faults = append(d.faults, f)
}

// doubtful reports whether the value at path, something above it or something in it could not be read.
func (d *configDecoder) doubtful(path string) bool {
	for bad := range d.unread {
		if bad == path || pathWithin(bad, path) || pathWithin(path, bad) {
			return true
		}
	}
	return false
}

// pathWithin reports whether path lies below parent; everything lies below "".
func pathWithin(path, parent string) bool {
	rest, ok := strings.CutPrefix(path, parent)
	return ok && (parent == "" || strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, "["))
}

// nearestLine is the line of the closest setting above path that is in the file.
func (d *configDecoder) nearestLine(path string) int {
	best := ""
	for p := range maps.Keys(d.lines) {
		if pathWithin(path, p) && len(p) > len(best) {
			best = p
		}
	}
	return max(d.lines[best], 1)
}

// joined is all faults as one error, in the order of their lines.
func (d *configDecoder) joined() error {
	slices.SortStableFunc(d.faults, func(a, b policies.FieldError) int { return cmp.Compare(a.Line, b.Line) })
	errs := make([]error, len(d.faults))
	for i, f := range d.faults {
		f.File, f.Path, f.Got = d.file, withoutPassword(f.Path), withoutPassword(f.Got)
		errs[i] = f
	}
	return errors.Join(errs...)
}

// fieldErrors takes apart what loadConfig returned. An error of another kind becomes a fault of the whole file.
func fieldErrors(file string, err error) []policies.FieldError {
	var one policies.FieldError
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		faults := []policies.FieldError{}
		for _, e := range joined.Unwrap() {
			faults = append(faults, fieldErrors(file, e)...)
		}
		return faults
	}
	if !errors.As(err, &one) {
		one = policies.FieldError{File: file, Got: err.Error(), Bare: true, Want: "a config file that can be loaded"}
	}
	return []policies.FieldError{one}
}

// readSecretFile reads a password, a certificate or a key.
func readSecretFile(name string) ([]byte, error) { return readBounded(name, maxSecretSize) }

// readBounded reads a file of at most limit bytes.
func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, deadLink(name, err)
	}
	defer f.Close() // only read: a close error loses nothing
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(f, limit+1)); err != nil {
		return nil, err
	}
	if int64(b.Len()) > limit {
		return nil, fmt.Errorf("it has more than the %d bytes allowed", limit)
	}
	return b.Bytes(), nil
}

// statThrough is os.Stat, but for a link that leads nowhere: what is not there can be made, though not through one.
func statThrough(name string) (fs.FileInfo, error) {
	info, err := os.Stat(name)
	return info, deadLink(name, err)
}

// deadLink says of something that is not there that a link on the way to it leads nowhere; any other error stays.
func deadLink(name string, err error) error {
	for at := name; errors.Is(err, fs.ErrNotExist); at = filepath.Dir(at) {
		target, none := os.Readlink(at)
		if _, there := os.Stat(at); none == nil && errors.Is(there, fs.ErrNotExist) {
			return fmt.Errorf("the link %s leads to %s, which is not there", at, target)
		}
		if at == filepath.Dir(at) {
			return err
		}
	}
	return err
}

// plainCause is err without the operation and the path that the error around it names already.
func plainCause(err error) string {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err.Error()
	}
	var linkError *os.LinkError
	if errors.As(err, &linkError) {
		return linkError.Err.Error()
	}
	return err.Error()
}
