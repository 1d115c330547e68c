package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"dcshealer/policies"
)

// Bounds on the shape of the file: the parser calls itself for each level, and a stack overflow cannot be recovered from.
const (
	maxFlowDepth = 32   // brackets within brackets
	maxColumn    = 1000 // of a key or a dash outside of brackets
	maxMarks     = 1000 // anchors, tags and question marks, none of which the file may have
)

// parse is the file's one document, or nil and a fault of the whole file.
func (d *configDecoder) parse(data []byte) (root ast.Node) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if line, got := forbiddenText(data); got != "" {
		d.broken(line, got, "plain text in UTF-8")
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			root = nil
			d.broken(0, fmt.Sprintf("text on which the YAML parser gives up (%v)", r), "YAML as `dcshealer config init` writes it")
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if t := tooDeep(tokens); t != nil {
		d.broken(t.Position.Line, "a value nested too deep", "the keys of a config file: `dcshealer config init` writes a sample")
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntax(err)
		return nil
	}
	return d.onlyDocument(file)
}

// broken notes a fault that leaves nothing of the file to read.
func (d *configDecoder) broken(line int, got, want string) {
	d.unread[""] = true
	d.faults = append(d.faults, policies.FieldError{Line: line, Got: got, Want: want, Bare: true})
}

// syntax notes what the parser said. Its error text quotes lines of the file, which may hold a password: only the message is shown.
func (d *configDecoder) syntax(err error) {
	line, message := 0, "not YAML"
	var e yaml.Error
	if errors.As(err, &e) {
		message = e.GetMessage()
		if t := e.GetToken(); t != nil && t.Position != nil {
			line = t.Position.Line
		}
	}
	if strings.Contains(message, `'	'`) {
		d.broken(line, "a tab", "spaces: YAML takes no tab for indentation")
		return
	}
	d.broken(line, "a syntax error ("+withoutPassword(message)+")", "valid YAML")
}

// onlyDocument is the body of the one document in the file.
func (d *configDecoder) onlyDocument(file *ast.File) ast.Node {
	bodies := slices.DeleteFunc(slices.Clone(file.Docs), func(doc *ast.DocumentNode) bool {
		_, directive := doc.Body.(*ast.DirectiveNode)
		return doc.Body == nil || directive
	})
	switch len(bodies) {
	case 0:
		d.broken(0, "an empty file", "at least an instances section; `dcshealer config init` writes a sample")
		return nil
	case 1:
		return bodies[0].Body
	}
	d.broken(lineOf(bodies[1].Body), "a second document", "one document: no line --- after the first setting")
	return nil
}

// tooDeep is the first token that nests deeper than any config does, or nil.
func tooDeep(tokens token.Tokens) *token.Token {
	depth, marks := 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			depth++
		case token.MappingEndType, token.SequenceEndType:
			depth--
		case token.AnchorType, token.TagType, token.MappingKeyType:
			marks++
		case token.MappingValueType, token.SequenceEntryType:
			if depth <= 0 && t.Position.Column > maxColumn {
				return t
			}
		}
		if depth > maxFlowDepth || marks > maxMarks {
			return t
		}
	}
	return nil
}

// forbiddenText finds what is no text: bytes that are not UTF-8 and control characters. An empty got: none.
func forbiddenText(data []byte) (line int, got string) {
	line = 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && size == 1:
			return line, fmt.Sprintf("the byte %#02x, which is not UTF-8", data[0])
		case r == '\n':
			line++
		case r < ' ' && r != '\t' && r != '\r', r == 0x7f:
			return line, fmt.Sprintf("the control character %U", r)
		}
		data = data[size:]
	}
	return 0, ""
}

// lineOf is where a node stands, 1-based; 0 where the parser does not say.
func lineOf(n ast.Node) int {
	if n == nil {
		return 0
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 && !n.IsFlowStyle {
			return lineOf(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return lineOf(n.Key)
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}
