// Brings what is shown to what should be shown with the fewest changes, so that focus, scroll, selection and opened details stay.

// key names an element among its siblings; without one it is known by its place.
const key = n => n.dataset?.key;
const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && key(a) === key(b);

// own stands in a new tree for an element that lives on from draw to draw and cares for itself, as a chart does.
export function own(name, el) {
  const stub = document.createElement('i');
  stub.dataset.key = el.dataset.key = name;
  stub.own = el;
  return stub;
}

// settle is a new node with the elements that stubs stand for.
function settle(n) {
  if (n.own) return n.own;
  for (const stub of n.querySelectorAll?.('i[data-key]') ?? []) if (stub.own) stub.replaceWith(stub.own);
  return n;
}

// patch gives an element other children. What has no key is kept where the next of its kind is wanted.
export function patch(el, next) {
  const wants = [...next.childNodes], wanted = new Map(wants.filter(key).map(n => [key(n), n]));
  const stays = n => { const w = wanted.get(key(n)); return w && (w.own ? w.own === n : alike(n, w)); };
  for (const n of [...el.childNodes]) if (key(n) && !stays(n)) n.remove();
  const keyed = new Map([...el.childNodes].filter(key).map(n => [key(n), n]));
  let at = el.firstChild;
  const drop = () => { const gone = at; at = at.nextSibling; gone.remove(); };
  wants.forEach((want, i) => {
    while (at && !key(at) && !alike(at, want) && !wants.slice(i + 1).some(w => alike(at, w))) drop();
    const have = key(want) ? keyed.get(key(want)) : at && alike(at, want) ? at : null;
    if (!have) return el.insertBefore(settle(want), at);
    if (have === at) at = at.nextSibling;
    else move(el, have, at);
    if (want.own) return;
    if (have.nodeType === Node.ELEMENT_NODE) become(have, want);
    else if (have.nodeValue !== want.nodeValue) have.nodeValue = want.nodeValue;
  });
  while (at) drop();
}

// move keeps the focus where the browser can.
const move = (el, n, before) => (el.moveBefore ? el.moveBefore(n, before) : el.insertBefore(n, before));

// become makes an element like another of its kind. What a person has opened stays open.
function become(have, want) {
  const kept = name => name === 'style' || (name === 'open' && have.nodeName === 'DETAILS');
  for (const { name } of [...have.attributes]) if (!want.hasAttribute(name) && !kept(name)) have.removeAttribute(name);
  for (const { name, value } of want.attributes) if (have.getAttribute(name) !== value && !kept(name)) have.setAttribute(name, value);
  if (have.style.cssText !== want.style.cssText) have.style.cssText = want.style.cssText;
  for (const on of Object.keys(have.does ?? {})) if (!want.does?.[on]) have[on] = null;
  Object.assign(have, want.does);
  have.does = want.does;
  patch(have, want);
}
