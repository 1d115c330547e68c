package policies

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "dcshealer/"

// testServers is for tests alone: any of them may import it, and no other code.
const testServers = "agent/probe/redistest"

// houseRules says what of the module each folder may import, itself and what is below it left out where not named.
// A folder that is not listed is an error, so that a new one has to be given its place here.
var houseRules = map[string][]string{
	"policies":               {},
	"agent":                  {"policies", "agent/probe"},
	"agent/probe":            {"policies"},
	testServers:              {"policies"},
	"agent/bus":              {"policies", "agent/probe"}, // for TLS
	"agent/observer":         {"policies", "agent/archive"},
	"agent/observer/metrics": {"policies"},
	"agent/observer/notify":  {"policies"},
	"agent/observer/web":     {"policies"},
	"agent/archive":          {"policies"},
	"remediation":            {"policies", "agent/probe", "remediation/journal", "remediation/reclaim", "remediation/reattach", "remediation/evict"},
	"remediation/reclaim":    {"policies", "agent/probe"},
	"remediation/evict":      {"policies", "agent/probe"},
	"remediation/reattach":   {"policies", "agent/probe"},
	"remediation/journal":    {"policies"},
	"cmd/dcshealer": {"policies", "agent", "agent/probe", "agent/bus", "agent/observer", "agent/observer/metrics", "agent/observer/notify", "agent/observer/web", "agent/archive",
		"remediation", "remediation/journal", "remediation/reclaim", "remediation/reattach"},
}

// outside says where a foreign library may be used: in these folders or files, by path below the module's root.
var outside = []struct {
	prefix string
	in     []string
}{
	{"github.com/spf13/", []string{"cmd/dcshealer"}},
	{"github.com/goccy/go-yaml", []string{"cmd/dcshealer"}},
	{"gopkg.in/yaml", []string{"cmd/dcshealer"}},
	{"go.yaml.in/yaml", []string{"cmd/dcshealer"}},
	{"sigs.k8s.io/yaml", []string{"cmd/dcshealer"}},
	{"github.com/robfig/cron", []string{"cmd/dcshealer"}},
	// cmd only reads URLs and builds the demo with it; reads go through agent/probe, writes through remediation/redis.go.
	{"github.com/redis/go-redis", []string{"agent/probe", testServers, "agent/bus", "remediation/redis.go", "cmd/dcshealer"}},
	{"github.com/prometheus/", []string{"agent/observer/metrics"}},
	{"github.com/nicholas-fedor/shoutrrr", []string{"agent/observer/notify"}},
	{"github.com/chromedp/", []string{"cmd/dcshealer"}},
	{"github.com/looplab/fsm", []string{"remediation"}},
	{"github.com/sony/gobreaker", []string{"remediation", "remediation/journal"}},
}

// A source is one Go file of the module, tests included.
type source struct {
	path string // below the module's root, with slashes
	file *ast.File
}

func (s source) dir() string  { return path.Dir(s.path) }
func (s source) test() bool   { return strings.HasSuffix(s.path, "_test.go") }
func (s source) within() bool { return slices.Contains(topFolders, strings.Split(s.path, "/")[0]) }

var topFolders = []string{"cmd", "agent", "policies", "remediation"}

func (s source) imports() (paths []string) {
	for _, i := range s.file.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		paths = append(paths, p)
	}
	return paths
}

func sources(t *testing.T, mode parser.Mode) (all []source) {
	t.Helper()
	root := filepath.Join("..")
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), p, nil, mode)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		all = append(all, source{filepath.ToSlash(rel), file})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("%d Go files found below %s: the walk looks at the wrong place", len(all), root)
	}
	return all
}

func TestAllCodeLiesInTheFourFolders(t *testing.T) {
	for _, s := range sources(t, parser.ImportsOnly) {
		if !s.within() {
			t.Errorf("%s: Go code lies in %v", s.path, topFolders)
		}
	}
}

func TestFoldersImportOnlyWhatTheHouseAllows(t *testing.T) {
	for _, s := range sources(t, parser.ImportsOnly) {
		if s.test() || !s.within() {
			continue
		}
		for _, fault := range strayImports(s.dir(), s.imports()) {
			t.Errorf("%s: %s", s.path, fault)
		}
	}
}

// strayImports lists the imports of the module's own packages that a folder may not have.
func strayImports(dir string, imports []string) (faults []string) {
	allowed, listed := houseRules[dir]
	if !listed {
		return []string{"folder " + dir + " has no rule: give it its place in houseRules"}
	}
	for _, imp := range imports {
		if own, ok := strings.CutPrefix(imp, module); ok && !slices.Contains(allowed, own) {
			faults = append(faults, dir+" imports "+own+"; allowed are "+strings.Join(allowed, ", "))
		}
	}
	return faults
}

// The rules themselves keep the one line that must never be crossed, whatever else is added to them.
func TestAgentAndRemediationMeetOnlyInCmd(t *testing.T) {
	for dir, allowed := range houseRules {
		for _, imp := range allowed {
			crosses := strings.HasPrefix(dir, "agent") && strings.HasPrefix(imp, "remediation") ||
				strings.HasPrefix(dir, "remediation") && strings.HasPrefix(imp, "agent") && imp != "agent/probe"
			if crosses || strings.HasPrefix(imp, "cmd") || imp == testServers {
				t.Errorf("the rule of %s allows %s", dir, imp)
			}
		}
	}
	for dir, imp := range map[string]string{"agent": "remediation/journal", "agent/observer": "agent/bus", "remediation": "agent",
		"remediation/journal": "agent/probe", "policies": "agent/probe", "agent/bus": "agent/archive", "remediation/reclaim": "cmd/dcshealer", "tools": "policies"} {
		if len(strayImports(dir, []string{"fmt", module + imp})) != 1 {
			t.Errorf("%s importing %s is not found", dir, imp)
		}
	}
}

func TestWhatServesTestsStaysInTests(t *testing.T) {
	users := 0
	for _, s := range sources(t, parser.ImportsOnly) {
		uses := slices.Contains(s.imports(), module+testServers)
		switch {
		case s.test() && uses:
			users++
		case uses:
			t.Errorf("%s imports %s, which is for tests only", s.path, testServers)
		case !s.test() && s.dir() != testServers && slices.Contains(s.imports(), "testing"):
			t.Errorf("%s imports testing, as no other code than tests and %s may", s.path, testServers)
		}
	}
	if users == 0 {
		t.Errorf("no test imports %s: the test is blind", testServers)
	}
}

func TestForeignLibrariesStayInTheirPlace(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range sources(t, parser.ImportsOnly) {
		if s.test() {
			continue
		}
		for _, o := range outside {
			if !slices.ContainsFunc(s.imports(), func(p string) bool { return strings.HasPrefix(p, o.prefix) }) {
				continue
			}
			seen[o.prefix] = true
			if !slices.Contains(o.in, s.dir()) && !slices.Contains(o.in, s.path) {
				t.Errorf("%s imports %s; allowed in %v", s.path, o.prefix, o.in)
			}
		}
	}
	if !seen["github.com/redis/go-redis"] || !seen["github.com/spf13/"] {
		t.Errorf("go-redis and cobra were not seen anywhere (%v): the test is blind", seen)
	}
}

func TestOneFileHoldsTheStateMachine(t *testing.T) {
	var users []string
	for _, s := range sources(t, parser.ImportsOnly) {
		if !s.test() && slices.Contains(s.imports(), "github.com/looplab/fsm") {
			users = append(users, s.path)
		}
	}
	if len(users) > 1 {
		t.Errorf("looplab/fsm is used in %v; one typed file wraps it", users)
	}
}

// exits are the calls that end the process; log.Fatal also skips every defer.
var exits = map[string][]string{"os": {"Exit"}, "log": {"Fatal", "Fatalf", "Fatalln"}, "syscall": {"Exit"}, "runtime": {"Goexit"}}

func TestOnlyMainExits(t *testing.T) {
	const main = "cmd/dcshealer/main.go"
	found := false
	for _, s := range sources(t, parser.SkipObjectResolution) {
		if s.test() {
			continue
		}
		names := importNames(s.file)
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if id, ok := sel.X.(*ast.Ident); ok && slices.Contains(exits[names[id.Name]], sel.Sel.Name) {
				found = found || s.path == main
				if s.path != main {
					t.Errorf("%s calls %s.%s; only %s ends the process", s.path, names[id.Name], sel.Sel.Name, main)
				}
			}
			return true
		})
	}
	if !found {
		t.Errorf("no exit found in %s: the test is blind", main)
	}
}

// importNames maps the name by which a file calls each package to the package's path.
func importNames(file *ast.File) map[string]string {
	names := map[string]string{}
	for _, i := range file.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		name := path.Base(p)
		if i.Name != nil {
			name = i.Name.Name
		}
		names[name] = p
	}
	return names
}
