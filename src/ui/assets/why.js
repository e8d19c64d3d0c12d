// Why an object's replicas changed and what holds them, as in `hpalite why`.

import { el } from './dom.js';
import { duration, exact, moment } from './format.js';

/** Renders the answer of `/why` as a panel beside the plotted history. */
export function explanation(why, history, place) {
  if (why.error) {
    return el('section', { class: 'explanation' }, el('div', { class: 'title' }, el('h2', null, 'Why')), el('p', { class: 'bad' }, why.error));
  }
  const isNow = why.now - why.to < 60_000;
  const count = why.replicas === null ? 'an unknown number of replicas' : `${why.replicas} ${why.replicas === 1 ? 'replica' : 'replicas'}`;
  const less = why.from - history.from > 60_000 ? `in the last ${duration(why.to - why.from)} of this range` : '';
  return el('section', { class: 'explanation' },
    el('div', { class: 'state' },
      el('div', { class: 'title' }, el('h2', null, isNow ? `Why ${count} now` : `Why ${count} at ${moment(why.to)}`)),
      el('ul', { class: 'held' }, why.held_by.length
        ? why.held_by.map((held) => el('li', { title: held.since ? `since ${held.since}` : null }, el('b', null, held.by), ` held by ${held.text}`))
        : el('li', { class: 'muted' }, why.rest)),
      el('ul', { class: 'asks' }, why.metrics.map((metric) => el('li', null, el('b', null, metric.metric), ` ${asks(metric)}`)))),
    el('div', { class: 'story' },
      el('div', { class: 'title' }, el('h2', null, 'What moved it'), el('span', { class: 'muted' }, `${why.entries.length + why.older} ${less}`)),
      why.entries.length === 0 ? el('p', { class: 'muted' }, 'Nothing in this time.')
        : el('ol', { class: 'rows', tabindex: why.entries.length > 8 ? 0 : null }, why.entries.toReversed().map((one) => entry(one, place))),
      why.cut ? el('p', { class: 'muted' }, `There is too much to explain all of it: what was until ${moment(Date.parse(why.cut))} may be missing.`) : null,
      why.older > 0 ? el('p', { class: 'muted' }, `and ${why.older} older ones: zoom in to see them`) : null));
}

function asks(metric) {
  if (metric.note !== null) return metric.note;
  if (metric.value === null) return metric.error ?? 'no value';
  if (metric.exact === null) return `${exact(metric.value)}, which the HPA does not see`;
  const unit = metric.metric_type === 'Utilization' ? ' %' : '';
  const how = { Value: ' in all', Utilization: '' }[metric.metric_type] ?? ' per replica';
  const target = `${exact(metric.value)}${unit} / ${exact(metric.target)}${unit}${how} → ${metric.exact}`;
  return metric.proposal === metric.exact ? target : `${target}, within tolerance of ${metric.proposal}`;
}

function entry({ at, kind, change, text }, place) {
  const direction = !change || change.from === null || change.from === change.to ? '' : change.to > change.from ? 'up' : 'down';
  return el('li', { class: kind }, place(Date.parse(at)),
    el('span', { class: direction ? `step ${direction}` : null }, direction ? (direction === 'up' ? '▲' : '▼') : ''), el('span', null, text));
}
