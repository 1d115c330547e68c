package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"dcshealer/policies"
)

// configDecoder walks the parsed file and collects every fault, with its line, instead of stopping at the first.
type configDecoder struct {
	configLoader
	lines  map[string]int      // where each setting of the file stands
	texts  map[string]string   // and its text, of those that have one
	unread map[string]bool     // settings that could not be read: the rules say nothing of them
	known  map[string][]string // the keys that each mapping may have
	faults []policies.FieldError
}

// fileValue is one value of the file and the path that leads to it. A nil node: not in the file.
type fileValue struct {
	node ast.Node
	path string
}

// wrong notes that the value cannot be read for what it should be.
func (d *configDecoder) wrong(v fileValue, want string) {
	got, bare := describeNode(v.node)
	d.refuse(v, got, bare, want)
}

// refuse notes a fault with a got of its own.
func (d *configDecoder) refuse(v fileValue, got string, bare bool, want string) {
	d.unread[v.path] = true
	d.faults = append(d.faults, policies.FieldError{Line: d.line(v), Path: v.path, Got: got, Want: want, Bare: bare})
}

func (d *configDecoder) line(v fileValue) int {
	if line, ok := d.lines[v.path]; ok {
		return line
	}
	return max(lineOf(v.node), 1)
}

// fileMapping is a value's keys. Each is asked for once; end complains of those that nobody asked for.
type fileMapping struct {
	d       *configDecoder
	path    string
	entries map[string]fileEntry
}

type fileEntry struct {
	fileValue
	keyLine int
}

// mapping reads a value's keys. An absent value, or a key with nothing after it, has none.
func (d *configDecoder) mapping(v fileValue, want string) *fileMapping {
	m := &fileMapping{d: d, path: v.path, entries: map[string]fileEntry{}}
	for _, pair := range d.pairs(v, want) {
		m.add(pair)
	}
	return m
}

func (d *configDecoder) pairs(v fileValue, want string) []*ast.MappingValueNode {
	switch n := v.node.(type) {
	case nil, *ast.NullNode:
		return nil
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	d.wrong(v, want)
	return nil
}

const plainYAML = "the value itself: anchors, aliases, merge keys and tags are not supported, and a text that starts with * & or ! goes in quotes"

// add takes in one pair; the second holder of a key is a fault.
func (m *fileMapping) add(pair *ast.MappingValueNode) {
	key, line := keyText(pair.Key), lineOf(pair.Key)
	v := fileValue{node: pair.Value, path: policies.JoinPath(m.path, key)}
	if _, merge := pair.Key.(*ast.MergeKeyNode); merge {
		m.d.faults = append(m.d.faults, policies.FieldError{Line: line, Path: m.path, Got: "a merge key", Bare: true, Want: plainYAML})
		return
	}
	if first, doubled := m.entries[key]; doubled {
		m.d.faults = append(m.d.faults, policies.FieldError{Line: line, Path: v.path, Got: "the key a second time", Bare: true,
			Want: "it once: it stands in line " + strconv.Itoa(first.keyLine) + " already"})
		return
	}
	m.d.note(v, line)
	m.entries[key] = fileEntry{fileValue: m.d.resolve(v), keyLine: line}
}

// note keeps where a value stands and what is written there.
func (d *configDecoder) note(v fileValue, line int) {
	d.lines[v.path] = line
	if got, bare := describeNode(v.node); !bare || plainScalar(v.node) {
		d.texts[v.path] = got
	}
}

// resolve refuses the parts of YAML that the config file does without. An anchored value is still read, so that
// the faults in it come too.
func (d *configDecoder) resolve(v fileValue) fileValue {
	switch n := v.node.(type) {
	case *ast.AnchorNode:
		d.refuse(v, "an anchor", true, plainYAML)
		return d.resolve(fileValue{node: n.Value, path: v.path})
	case *ast.AliasNode:
		d.refuse(v, "an alias", true, plainYAML)
	case *ast.TagNode:
		d.refuse(v, "a tag", true, plainYAML)
	}
	return v
}

// readable reports whether the value is of a kind that the configDecoder reads: what resolve refused is not looked at again.
func readable(v fileValue) bool {
	switch v.node.(type) {
	case *ast.AliasNode, *ast.TagNode:
		return false
	}
	return v.node != nil
}

// take is the value of a key and whether it is there to be read.
func (m *fileMapping) take(key string) (fileValue, bool) {
	if !slices.Contains(m.d.known[m.path], key) {
		m.d.known[m.path] = append(m.d.known[m.path], key)
	}
	e, ok := m.entries[key]
	return e.fileValue, ok && readable(e.fileValue)
}

// has reports whether the key is in the file, whatever its value.
func (m *fileMapping) has(key string) bool {
	_, ok := m.entries[key]
	return ok
}

// section is the mapping under a key; an absent one is empty.
func (m *fileMapping) section(key string) *fileMapping {
	v, ok := m.take(key)
	if !ok {
		return &fileMapping{d: m.d, path: policies.JoinPath(m.path, key)}
	}
	return m.d.mapping(v, "the keys of the "+key+" section, indented below it")
}

// list hands over each element of the list under a key; an absent one has none.
func (m *fileMapping) list(key, want string, each func(fileValue)) {
	v, ok := m.take(key)
	if !ok {
		return
	}
	list, ok := v.node.(*ast.SequenceNode)
	if !ok {
		m.d.wrong(v, want)
		return
	}
	for i, n := range list.Values {
		e := fileValue{node: n, path: v.path + "[" + strconv.Itoa(i) + "]"}
		m.d.note(e, max(lineOf(n), 1))
		each(m.d.resolve(e))
	}
}

// end notes every key that nobody asked for.
func (m *fileMapping) end() {
	for _, key := range slices.Sorted(maps.Keys(m.entries)) {
		if !slices.Contains(m.d.known[m.path], key) {
			m.unknown(key)
		}
	}
}

func (m *fileMapping) unknown(key string) {
	keys := m.d.known[m.path]
	want := "one of " + strings.Join(keys, ", ")
	if near := nearestWord(key, keys); near != "" {
		want += "; did you mean " + near + "?"
	}
	m.d.faults = append(m.d.faults, policies.FieldError{Line: m.entries[key].keyLine, Path: policies.JoinPath(m.path, key),
		Got: "an unknown key", Bare: true, Want: want})
}
