// Talks to the API of the server that the page came from.
export const root = '/api/v1';
const patience = 30000; // as long as the server takes at most

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function call(url, options) {
  let r;
  try {
    r = await fetch(root + url, { credentials: 'same-origin', signal: AbortSignal.timeout(patience), ...options });
  } catch {
    throw new Refused(0, 'dcshealer does not answer: is it running, and can this browser reach it?');
  }
  const body = await r.json().catch(() => ({}));
  if (!r.ok) throw new Refused(r.status, body.error ?? 'status ' + r.status);
  return body;
}

// get leaves out parameters that are empty.
export function get(url, params = {}) {
  const q = new URLSearchParams(Object.entries(params).filter(([, v]) => v !== '' && v !== null && v !== undefined));
  return call(url + (q.size ? '?' + q : ''));
}

export const post = (url, body = {}) =>
  call(url, { method: 'POST', headers: { 'Content-Type': 'application/json', 'X-Dcshealer': '1' }, body: JSON.stringify(body) });

// session is what the reader may do; refreshed by load.
export const session = { may_read: false, may_change: false, has_token: false };
export async function loadSession() {
  Object.assign(session, await get('/session'));
}
