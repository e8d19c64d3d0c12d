// All objects: state, values against thresholds, replicas, the last hour.

import { el, svg } from './dom.js';
import { ago, exact, iso, number } from './format.js';

const SPARK_WIDTH = 150;
const SPARK_HEIGHT = 28;
const TRIGGERS_MAX = 3;

export class Overview {
  every = 5000;

  constructor(query, refresh) {
    let typing = 0;
    this.filter = el('input', {
      type: 'search', placeholder: 'Filter by namespace/name', 'aria-label': 'Filter by namespace/name', value: query.get('q') ?? '',
      oninput: () => {
        clearTimeout(typing);
        typing = setTimeout(refresh, 200);
      },
    });
    this.removed = el('input', { type: 'checkbox', onchange: refresh });
    this.count = el('span', { class: 'muted' });
    this.body = el('tbody');
    const heads = ['Object', 'State', 'Trigger', 'Value', 'Threshold', 'Replicas', 'Last hour'];
    this.root = el('section', { class: 'overview' },
      el('div', { class: 'bar' }, this.filter, el('label', null, this.removed, ' removed ones too'), this.count),
      el('table', { class: 'objects' },
        el('thead', null, el('tr', null, heads.map((head) => el('th', { scope: 'col' }, head)))), this.body));
  }

  async load(ask) {
    const parameters = { q: this.filter.value, removed: this.removed.checked };
    const answer = await ask('api/objects', parameters);
    const { objects, total, now } = answer;
    this.count.textContent = objects.length < total ? `${objects.length} of ${total} shown: filter to see the others`
      : `${total} object${total === 1 ? '' : 's'}`;
    const rows = objects.map((object) => row(object, now));
    if (rows.length === 0) rows.push([el('tr', null, el('td', { colspan: 7, class: 'empty' },
      parameters.q ? 'No object of this name.' : 'No ScaledObject or HPA has been seen yet.'))]);
    this.body.replaceChildren(...rows.flat());
  }
}

export function address(object, query = '') {
  const group = object.group === 'keda.sh' ? '' : `group=${object.group}`;
  const all = [group, query].filter((part) => part !== '').join('&');
  return `#/objects/${encodeURIComponent(object.namespace)}/${encodeURIComponent(object.name)}${all ? `?${all}` : ''}`;
}

export function badge(object, now) {
  const title = [object.message, object.since ? `since ${iso(object.since)}` : ''].filter((part) => part).join('\n');
  return el('span', { class: `badge ${object.state}`, title: title || undefined }, object.state,
    object.since && now ? el('small', null, ` ${ago(object.since, now).replace(' ago', '')}`) : null);
}

/** Renders a row for each trigger; the cells of the object span all of them. */
function row(object, now) {
  const triggers = object.triggers.slice(0, TRIGGERS_MAX);
  const more = object.triggers.length - triggers.length;
  const span = { rowspan: Math.max(1, triggers.length) };
  const cells = triggers.length ? triggers.map((trigger) => triggerCells(trigger, now)) : [[el('td', { colspan: 3, class: 'muted' }, '–')]];
  if (more > 0) cells[cells.length - 1][0].append(el('small', { class: 'muted' }, ` and ${more} more`));
  return cells.map((own, i) => {
    if (i > 0) return el('tr', { class: 'more' }, own);
    const link = el('a', { href: address(object) }, el('span', { class: 'muted' }, `${object.namespace}/`), object.name);
    return el('tr', { class: object.state },
      el('td', span, link, object.group === 'keda.sh' ? null : el('span', { class: 'group', title: 'API group' }, object.group)),
      el('td', span, badge(object, now), object.state === 'error' || object.state === 'invalid'
        ? el('div', { class: 'why', title: cause(object) }, cause(object)) : null),
      own,
      el('td', { ...span, class: 'number replicas' }, object.replicas === null ? '–' : String(object.replicas)),
      el('td', span, object.spark ? spark(object.spark, object.triggers[0].threshold) : null));
  });
}

/** What is wrong, by trigger if possible, since the condition only says that something is. */
function cause(object) {
  const failing = object.triggers.filter((trigger) => trigger.fails);
  return failing.length && object.state === 'error'
    ? failing.map((trigger) => `${trigger.name ?? trigger.metric}: ${trigger.says}`).join('\n') : object.message;
}

function triggerCells(trigger, now) {
  const silent = trigger.outcome !== null && trigger.outcome !== 'ok';
  const value = trigger.outcome === null ? el('span', { class: 'muted' }, 'no sample')
    : silent ? el('span', { class: `says ${trigger.fails ? 'bad' : 'muted'}`, title: `${trigger.outcome}: ${trigger.says}` }, trigger.says)
      : el('span', { title: `${exact(trigger.value)} at ${iso(trigger.at)}, ${ago(trigger.at, now)}` }, number(trigger.value));
  return [
    el('td', { class: 'trigger', title: trigger.metric }, trigger.name ?? trigger.metric),
    el('td', { class: 'number' }, value),
    el('td', { class: 'number', title: trigger.activation ? `activation above ${exact(trigger.activation)}` : undefined },
      number(trigger.threshold)),
  ];
}

/** The last hour of the first trigger and its threshold; blank where nothing is known. */
function spark({ values }, threshold) {
  const known = values.filter((value) => value !== null);
  const high = Math.max(...known, known.some((value) => value * 20 > threshold) ? threshold : 0) || 1;
  const low = Math.min(0, ...known);
  const x = (i) => (i / Math.max(1, values.length - 1)) * SPARK_WIDTH;
  const y = (value) => SPARK_HEIGHT - 2 - ((value - low) / (high - low)) * (SPARK_HEIGHT - 4);
  let path = '';
  let last = -9;
  values.forEach((value, i) => {
    if (value === null) return;
    // Slow polls may be two cells apart, which is not a gap.
    path += `${i - last > 2 ? 'M' : 'L'}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
    if (i - last > 2) path += 'h.01';
    last = i;
  });
  return svg('svg', { class: 'spark', viewBox: `0 0 ${SPARK_WIDTH} ${SPARK_HEIGHT}`, width: SPARK_WIDTH, height: SPARK_HEIGHT, 'aria-hidden': 'true' },
    threshold <= high ? svg('path', { class: 'threshold', d: `M0 ${y(threshold).toFixed(1)}H${SPARK_WIDTH}` }) : null,
    svg('path', { class: 'value', d: path }));
}
