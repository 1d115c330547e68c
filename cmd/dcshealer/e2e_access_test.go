package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// goodPage has one of each thing that the check of access looks at, and nothing that it finds fault with.
const goodPage = `<head><title>good</title><meta name="viewport" content="width=device-width"><style>
body { background: #fff; color: #222; font: 16px sans-serif; } a { color: #0645ad; } :focus-visible { outline: 3px solid #060; }
input, button { border: 1px solid #666; height: 30px; min-width: 30px; color: #222; background: #fff; } nav a { display: inline-block; min-height: 24px; min-width: 24px; }
.dark { background: #111; color: #bbb; } .glass { background: rgba(0, 0, 0, .5); color: #000; } .big { font-size: 24px; color: #888; }
</style></head><body><nav aria-label="views"><a href="#a">a</a></nav><main><h1>one</h1><h2>two</h2><p id="first">text with a <a href="#b">link</a></p>
<label>Name <input></label><button>Go</button><img alt="" src="data:,"><div role="img" aria-label="a chart"><canvas width="9" height="9"></canvas></div>
<ul><li>item</li></ul><dl><dt>a</dt><dd>b</dd></dl><table><caption>list</caption><tr><th scope="col">head</th></tr></table>
<p class="dark">light on dark</p><p class="glass">through glass</p><p class="big">large text may be paler</p><p aria-hidden="true">unsaid</p></main></body>`

// The check of access finds each kind of fault when it is there alone, and nothing in a page without one. It is short, and runs before the
// parallel tests: of several that start at once a Chromium has crashed.
func TestTheCheckOfAccessFindsEachFault(t *testing.T) {
	b := openBrowser(t, "")
	b.do("open a page", chromedp.Navigate("about:blank"))
	for _, c := range []struct{ rule, change string }{ // a change that is no code is added to the page
		{"", ""},
		{"language", `document.documentElement.lang = ''`},
		{"title", `document.title = ''`},
		{"zoom", `document.querySelector('meta').content = 'width=device-width, user-scalable=no'`},
		{"main", `document.querySelector('main').role = 'note'`},
		{"h1", `<h1>another</h1>`},
		{"width", `document.querySelector('main').style.width = '5000px'`},
		{"heading order", `<h4>four</h4>`},
		{"empty heading", `<h2></h2>`},
		{"double id", `<p id="first">again</p>`},
		{"label", `<input>`},
		{"label", `<input placeholder="no label is this">`},
		{"name", `<button></button>`},
		{"name", `<a href="#c"><img alt="" src="data:,"></a>`},
		{"name", `<div role="group">unnamed</div>`},
		{"name", `<button><span aria-hidden="true">x</span></button>`},
		{"alt", `<img src="data:,">`},
		{"alt", `<canvas width="9" height="9"></canvas>`},
		{"list", `<div><li>stray</li></div>`},
		{"list", `<div><dd>stray</dd></div>`},
		{"table", `<table><tr><th scope="col">no caption</th></tr></table>`},
		{"table", `<table><caption>no scope</caption><tr><th>head</th></tr></table>`},
		{"role", `<p role="buton">mistyped</p>`},
		{"aria attribute", `<p aria-lable="mistyped">text</p>`},
		{"aria value", `<p aria-hidden="yes">text</p>`},
		{"aria reference", `<p aria-describedby="nosuch">text</p>`},
		{"hidden focus", `<div aria-hidden="true"><button>unheard</button></div>`},
		{"tab order", `<button tabindex="3">first of all</button>`},
		{"contrast", `<p style="color: #888">pale</p>`},
		{"contrast", `<p style="color: rgba(0, 0, 0, .4)">pale by half</p>`},
		{"contrast", `<div class="dark"><p style="color: #666">pale on dark</p></div>`},
		{"contrast", `<p style="color: #aaa; font-size: 24px">pale though large</p>`},
		{"boundary", `<label>Where <input style="border-color: #ddd"></label>`},
		{"target size", `<button style="height: 20px">small</button>`},
		{"focus", `<button style="outline: none">unseen</button>`},
		{"focus", `<button style="outline-color: #eee">hardly seen</button>`},
	} {
		add := c.change
		if strings.HasPrefix(add, "<") {
			add = fmt.Sprintf("document.querySelector('main').insertAdjacentHTML('beforeend', %q)", add)
		}
		eval[bool](b, fmt.Sprintf("document.documentElement.lang = 'en'; document.documentElement.innerHTML = %q; %s; true", goodPage, add))
		faults := b.accessFaults()
		if c.rule == "" && len(faults) > 0 {
			t.Fatalf("faults where there are none: %q", faults)
		}
		if c.rule != "" && (len(faults) != 1 || !strings.HasPrefix(faults[0], c.rule+": ")) {
			t.Errorf("%s, %s: found %q", c.rule, c.change, faults)
		}
	}
}
