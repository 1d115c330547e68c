// Keeps one view up to date. A view has load, which fetches what it shows; draw, which gives its elements; and may have event(kind, data),
// which takes an event in and says whether to 'draw' or 'load' then; every, after how many ms it is loaded again; and end.
import { fill, h, when } from './dom.js';
import { own } from './patch.js';

const pace = 500; // not more often than that, however much happens

// run draws a view into body; denied is called when its reader has to log in first.
export function run(view, body, denied) {
  const trouble = h('div');
  let began = 0, over = false, loading = null, wanted = false, timer = 0, cost = 0, drawn = null, waiting = [];

  // draw leaves most of the time to the reader, however large the view is and however much happens.
  function draw() {
    timer ||= setTimeout(() => requestAnimationFrame(now), Math.min(500, 4 * cost));
  }
  function now() {
    clearTimeout(timer);
    timer = 0;
    if (over) return;
    const start = performance.now();
    fill(body, own('trouble', trouble), view.draw());
    cost = performance.now() - start;
  }
  function take(kind, data) {
    const what = view.event?.(kind, data);
    if (what === 'load') load();
    else if (what === 'draw') draw();
  }
  // load fetches anew, once more where that was asked for meanwhile. Events that come meanwhile are newer than what it brings.
  function load() {
    wanted = true;
    return loading ??= (async () => {
      try {
        while (wanted && !over) {
          const early = began + pace - Date.now();
          if (early > 0) await new Promise(done => setTimeout(done, early));
          began = Date.now();
          wanted = false;
          await view.load();
          drawn = new Date();
        }
        fill(trouble);
      } catch (err) {
        if (err.status === 401) return denied();
        if (!drawn) throw err;
        if (err.status !== 0) fill(trouble, h('p', { class: 'note critical', role: 'alert' }, 'This is what it was at ', when(drawn), '. To load it anew failed: ' + err.message)); // 0: the header tells
      } finally {
        loading = null;
      }
      if (over) return;
      now();
      for (const [kind, data] of waiting.splice(0)) take(kind, data);
    })();
  }
  const again = view.every && setInterval(() => drawn && !loading && !document.hidden && load(), view.every);
  return {
    load,
    event(kind, data) {
      if (loading || !drawn) waiting.push([kind, data]);
      else take(kind, data);
    },
    end() {
      over = true;
      clearInterval(again);
      view.end?.();
    },
  };
}
