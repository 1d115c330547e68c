package policies

import (
	"go/ast"
	"go/parser"
	"slices"
	"strconv"
	"testing"
)

// The lists hold every constant of their type: what counts by them would miss one.
func TestTheListsOfWordsAreWhole(t *testing.T) {
	found := map[string][]string{}
	for _, s := range sources(t, parser.SkipObjectResolution) {
		if s.dir() != "policies" || s.test() {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 {
				return true
			}
			name, typed := v.Type.(*ast.Ident)
			text, literal := v.Values[0].(*ast.BasicLit)
			if typed && literal {
				word, _ := strconv.Unquote(text.Value)
				found[name.Name] = append(found[name.Name], word)
			}
			return true
		})
	}
	for name, listed := range map[string][]string{"State": texts(States[:]), "Outcome": texts(Outcomes[:]), "Guard": texts(Guards[:])} {
		slices.Sort(found[name])
		slices.Sort(listed)
		if len(listed) < 5 || !slices.Equal(found[name], listed) {
			t.Errorf("%ss: the constants are\n%q, listed\n%q", name, found[name], listed)
		}
	}
}
