// Finds what keeps people from using a page who do not see it well, do not see it at all, or have no mouse; one text a fault, "rule: what".
// It looks at what is rendered now, with WCAG 2.2 level AA as its measure. It moves the focus, and puts it back.
(() => {
  const faults = [];
  const say = (rule, el, more = '') => faults.push(rule + ': ' + (el?.outerHTML ? el.outerHTML.replace(/\s+/g, ' ').slice(0, 120) : el ?? '') + more);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const text = el => (el?.textContent ?? '').trim();
  const shown = el => el.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && el.getClientRects().length > 0;
  const hidden = el => el.closest('[aria-hidden=true]') !== null;
  const onScreen = el => { const r = el.getBoundingClientRect(); return r.right > 0 && r.width > 1 && r.height > 1; };

  // the document
  if (!document.documentElement.lang) say('language', document.documentElement);
  if (!document.title.trim()) say('title', 'the document has none');
  if (/user-scalable\s*=\s*(no|0)|maximum-scale\s*=\s*1(\D|$)/.test(document.querySelector('meta[name=viewport]')?.content ?? '')) say('zoom', document.querySelector('meta[name=viewport]'));
  const mains = all('main:not([role]), [role=main]').filter(shown), ones = all('h1').filter(shown);
  if (mains.length !== 1) say('main', mains.length + ' of them');
  if (ones.length !== 1) say('h1', ones.length + ' of them: ' + ones.map(text).join(', '));
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth) say('width', 'the page scrolls sideways');
  let level = 0;
  for (const el of all('h1, h2, h3, h4, h5, h6').filter(shown)) {
    if (+el.tagName[1] > level + 1) say('heading order', el, ' after h' + level);
    if (!text(el)) say('empty heading', el);
    level = +el.tagName[1];
  }
  const ids = new Set();
  for (const el of all('[id]')) {
    if (ids.has(el.id)) say('double id', el);
    ids.add(el.id);
  }

  // names: what a screen reader says of a thing
  const refs = (el, attr) => (el.getAttribute(attr) ?? '').split(/\s+/).filter(Boolean);
  const inside = el => [...el.childNodes].map(n => (n.nodeType === Node.TEXT_NODE ? n.nodeValue : n.nodeType !== Node.ELEMENT_NODE || hidden(n) ? '' : n.alt ?? n.getAttribute('aria-label') ?? inside(n))).join(' ');
  const name = el => [refs(el, 'aria-labelledby').map(id => text(document.getElementById(id))).join(' '), el.getAttribute('aria-label'), el.alt, ...[...el.labels ?? []].map(l => inside(l)),
    /^(INPUT|SELECT|TEXTAREA)$/.test(el.tagName) ? '' : inside(el), el.title].find(t => t?.trim());
  const fields = all('input:not([type=hidden]), select, textarea').filter(shown);
  const focusable = all('a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]').filter(el => el.tabIndex >= 0 && !el.disabled && shown(el));
  for (const el of fields) if (!name(el)) say('label', el);
  for (const el of focusable) if (!fields.includes(el) && !name(el)) say('name', el);
  for (const el of all('img')) if (!el.hasAttribute('alt')) say('alt', el);
  for (const el of all('[role=img], dialog, [role=dialog], [role=region], [role=group], nav').filter(shown)) if (!el.getAttribute('aria-label')?.trim() && !el.getAttribute('aria-labelledby')) say('name', el);
  for (const el of all('canvas, svg').filter(shown)) if (!hidden(el) && !el.closest('[role=img]')) say('alt', el);

  // structure
  for (const el of all('li')) if (!/^(UL|OL|MENU)$/.test(el.parentElement.tagName)) say('list', el);
  for (const el of all('dt, dd')) if (!el.closest('dl')) say('list', el);
  for (const el of all('table')) {
    if (!text(el.caption) && !el.getAttribute('aria-label')) say('table', el, ' has no caption');
    for (const th of all('th', el)) if (!th.scope) say('table', th, ' has no scope');
  }

  // ARIA
  const aria = new Set(('activedescendant atomic autocomplete busy checked colcount colindex colspan controls current describedby description details disabled errormessage expanded flowto haspopup hidden invalid ' +
    'keyshortcuts label labelledby level live modal multiline multiselectable orientation owns placeholder posinset pressed readonly relevant required roledescription rowcount rowindex rowspan selected setsize sort ' +
    'valuemax valuemin valuenow valuetext').split(' '));
  const roles = new Set('alert alertdialog article banner button cell checkbox complementary contentinfo dialog document feed figure form group heading img link list listitem log main menu menuitem navigation none note option presentation progressbar radio region row search slider status switch tab table tablist tabpanel textbox timer tooltip'.split(' '));
  const words = { hidden: ['true', 'false'], busy: ['true', 'false'], pressed: ['true', 'false', 'mixed'], expanded: ['true', 'false'], live: ['off', 'polite', 'assertive'], current: ['page', 'step', 'location', 'date', 'time', 'true', 'false'] };
  for (const el of all('*')) {
    for (const { name: attr, value } of el.attributes) {
      if (attr === 'role' && !roles.has(value)) say('role', el);
      if (!attr.startsWith('aria-')) continue;
      const short = attr.slice(5);
      if (!aria.has(short)) say('aria attribute', el);
      if (words[short] && !words[short].includes(value)) say('aria value', el);
      if (/^(labelledby|describedby|controls|owns|details|errormessage|activedescendant)$/.test(short)) for (const id of refs(el, attr)) if (!document.getElementById(id)) say('aria reference', el);
    }
    if (el.getAttribute('aria-hidden') === 'true' && focusable.some(f => el.contains(f))) say('hidden focus', el);
    if (el.getAttribute('tabindex') > 0) say('tab order', el);
  }

  // colours
  const parse = c => { const m = c.match(/[\d.]+/g).map(Number); return c.startsWith('color(') ? [m[0] * 255, m[1] * 255, m[2] * 255, m[3] ?? 1] : [m[0], m[1], m[2], m[3] ?? 1]; };
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const ground = el => {
    const layers = [];
    for (let e = el; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), parse(matchMedia('(prefers-color-scheme: dark)').matches && getComputedStyle(document.documentElement).colorScheme.includes('dark') ? 'rgb(18, 18, 18)' : 'rgb(255, 255, 255)'));
  };
  const light = c => { const [r, g, b] = c.map(v => (v / 255 <= .04045 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4)); return .2126 * r + .7152 * g + .0722 * b; };
  const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
  const enough = (rule, el, colour, under, least) => { const got = contrast(over(parse(colour), under), under); if (got < least) say(rule, el, ' has ' + got.toFixed(2) + ', wants ' + least); };
  const seen = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const el = texts.currentNode.parentElement;
    if (!texts.currentNode.nodeValue.trim() || seen.has(el) || /^(SCRIPT|STYLE|NOSCRIPT|OPTION)$/.test(el.tagName) || !shown(el) || !onScreen(el)) continue;
    seen.add(el);
    const s = getComputedStyle(el), size = parseFloat(s.fontSize);
    enough('contrast', el, s.color, ground(el), size >= 24 || (size >= 18.66 && s.fontWeight >= 700) ? 3 : 4.5);
  }
  for (const el of fields) {
    const s = getComputedStyle(el);
    enough('contrast', el, s.color, ground(el), 4.5);
    if (el.type !== 'checkbox' && el.type !== 'radio') enough('boundary', el, s.borderTopColor, ground(el.parentElement), parseFloat(s.borderTopWidth) > 0 ? 3 : 0);
  }

  // keyboard and finger
  const had = document.activeElement, x = scrollX, y = scrollY;
  for (const el of focusable) {
    const r = el.getBoundingClientRect(), inline = getComputedStyle(el).display === 'inline' && !el.closest('nav');
    if (!inline && onScreen(el) && (r.width < 24 || r.height < 24)) say('target size', el, ' is ' + Math.round(r.width) + ' by ' + Math.round(r.height));
    el.focus({ preventScroll: true, focusVisible: true });
    if (document.activeElement !== el) continue; // another dialog is in front
    const s = getComputedStyle(el);
    if (s.outlineStyle === 'none' || parseFloat(s.outlineWidth) < 2) say('focus', el);
    else if (s.outlineStyle !== 'auto') enough('focus', el, s.outlineColor, ground(el.parentElement), 3);
  }
  if (had && had !== document.body) had.focus({ preventScroll: true });
  else document.activeElement.blur();
  scrollTo(x, y);
  return faults;
})()
