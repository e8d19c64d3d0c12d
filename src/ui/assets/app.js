// Routes of the page: the part of the address after # determines what is shown.

import { el } from './dom.js';
import { Overview } from './overview.js';
import { ObjectView } from './object.js';

const main = document.getElementById('main');
const crumbs = document.getElementById('crumbs');
const status = document.getElementById('status');

let view = null;
let timer = 0;
let asking = null;

/** Requests JSON from the server; errors carry a message for people. */
async function ask(path, parameters) {
  asking?.abort();
  asking = new AbortController();
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined));
  const response = await fetch(`${path}?${query}`, { signal: asking.signal });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? `the server answered ${response.status}`);
  return answer;
}

async function refresh() {
  const shown = view;
  clearTimeout(timer);
  if (!document.hidden) {
    try {
      await shown.load(ask);
      status.textContent = '';
      status.className = '';
    } catch (error) {
      if (error.name === 'AbortError') return;
      // Earlier data stays on the page: outdated numbers with a warning are better than none.
      status.textContent = error instanceof TypeError ? 'hpalite cannot be reached' : error.message;
      status.className = 'bad';
    }
  }
  if (shown === view && shown.every) timer = setTimeout(refresh, shown.every);
}

/** Parses `#/`, `#/objects/NAMESPACE/NAME?range=6h`, `…?from=MS&to=MS`, `…&group=keda.k8s.io`. */
function parse(hash) {
  const [path, query] = hash.replace(/^#\/?/, '').split('?');
  const parts = path.split('/').filter((part) => part !== '').map(decodeURIComponent);
  return { parts, query: new URLSearchParams(query ?? '') };
}

function route() {
  const { parts, query } = parse(location.hash);
  const isObject = parts.length === 3 && parts[0] === 'objects';
  const identity = isObject ? JSON.stringify([...parts, query.get('group')]) : '';
  if (view?.identity === identity && view.move) {
    view.move(query);
    refresh();
    return;
  }
  asking?.abort();
  view = isObject ? new ObjectView(parts[1], parts[2], query, refresh) : new Overview(query, refresh);
  view.identity = identity;
  document.title = isObject ? `${parts[1]}/${parts[2]} – hpalite` : 'hpalite';
  crumbs.replaceChildren(...(isObject ? [el('span', null, parts[1]), el('b', null, parts[2])] : []));
  main.replaceChildren(view.root);
  status.textContent = '';
  refresh();
}

addEventListener('hashchange', route);
document.addEventListener('visibilitychange', () => document.hidden || refresh());
route();
