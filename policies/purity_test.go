package policies

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"slices"
	"testing"
)

// pureImports is all that the rules may use: none of them does I/O, reads a clock without being asked, or starts a goroutine.
var pureImports = []string{"bytes", "cmp", "encoding/json", "errors", "fmt", "maps", "math", "slices", "strconv", "strings", "time", "unicode", "unicode/utf8"}

// impureCalls reach a clock, a timer or the terminal through packages that are pure otherwise.
var impureCalls = map[string][]string{
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "LoadLocation"},
	"fmt":  {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
}

func TestPoliciesImportsOnlyPurePackages(t *testing.T) {
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, imp := range pkg.Imports {
		if !slices.Contains(pureImports, imp) {
			t.Errorf("policies imports %s; allowed are %v", imp, pureImports)
		}
	}
}

func TestPoliciesHasNoClockGoroutineOrOutput(t *testing.T) {
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	for _, name := range pkg.GoFiles {
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range impurities(file) {
			t.Errorf("%s: %s", fset.Position(fault.at), fault.what)
		}
	}
}

// A test that finds nothing proves little until it is seen to find each kind.
func TestImpuritiesAreFound(t *testing.T) {
	for what, body := range map[string]string{
		"goroutine":           `go f()`,
		"channel type":        `var c chan int; _ = c`,
		"send":                `c <- 1`,
		"receive":             `<-c`,
		"select":              `select {}`,
		"call of time.Now":    `_ = time.Now()`,
		"value of time.Now":   `now := time.Now; _ = now`,
		"clock by a new name": `_ = clock.Since(t)`,
		"output":              `fmt.Println("x")`,
		"the builtin println": `println("x")`,
		"an init function":    `} ; func init() {`,
	} {
		src := "package p\nimport (\"fmt\"; \"time\"; clock \"time\")\nfunc g() {\n" + body + "\n}\n"
		file, err := parser.ParseFile(token.NewFileSet(), "p.go", src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if len(impurities(file)) != 1 {
			t.Errorf("%s: found %d impurities in %q, want 1", what, len(impurities(file)), body)
		}
	}
}

type impurity struct {
	at   token.Pos
	what string
}

func impurities(file *ast.File) (found []impurity) {
	add := func(n ast.Node, what string) { found = append(found, impurity{n.Pos(), what}) }
	names := importNames(file)
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			add(n, "a go statement")
		case *ast.ChanType:
			add(n, "a channel")
		case *ast.SendStmt:
			add(n, "a send on a channel")
		case *ast.SelectStmt:
			add(n, "a select")
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				add(n, "a receive from a channel")
			}
		case *ast.FuncDecl:
			if n.Recv == nil && n.Name.Name == "init" {
				add(n, "an init function")
			}
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "print" || id.Name == "println") {
				add(n, "a call of the builtin "+id.Name)
			}
		case *ast.SelectorExpr:
			if id, ok := n.X.(*ast.Ident); ok && slices.Contains(impureCalls[names[id.Name]], n.Sel.Name) {
				add(n, names[id.Name]+"."+n.Sel.Name)
			}
		}
		return true
	})
	return found
}
