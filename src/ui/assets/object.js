// One ScaledObject: its plot, and its events as text.

import { el } from './dom.js';
import { TimePlot } from './plot.js';
import { explanation } from './why.js';
import { DAY, HOUR, MINUTE, duration, exact, iso, moment, number } from './format.js';

const RANGES = { '15m': 15 * MINUTE, '1h': HOUR, '6h': 6 * HOUR, '24h': DAY, '7d': 7 * DAY, '30d': 30 * DAY };
const RANGE = '1h';
/** Time shown on either side of a linked moment. */
const AROUND = 5 * MINUTE;

export class ObjectView {
  constructor(namespace, name, query, refresh) {
    this.namespace = namespace;
    this.name = name;
    this.onlyMoves = false;
    this.summary = el('div', { class: 'summary' });
    this.buttons = el('div', { class: 'ranges', role: 'group', 'aria-label': 'Range of time' });
    this.zoomed = el('span', { class: 'zoomed' });
    this.plotHost = el('div', { class: 'plot' });
    this.cut = el('p', { class: 'cut muted' });
    this.moves = el('input', {
      type: 'checkbox',
      onchange: (event) => {
        this.onlyMoves = event.target.checked;
        this.tables();
      },
    });
    this.whyHost = el('div', { class: 'why-host' });
    this.set = el('input', {
      type: 'text', size: 60, placeholder: 'spec.triggers[0].metadata.threshold=50', 'aria-label': 'Other settings',
      onkeydown: (event) => event.key === 'Enter' && this.replay(),
    });
    this.figures = el('div', { class: 'figures', 'aria-live': 'polite' });
    this.replayHost = el('details', { class: 'what-if' }, el('summary', null, 'What if? Replay this time with other settings'),
      el('div', { class: 'bar' }, this.set, el('button', { type: 'button', onclick: () => this.replay() }, 'replay')), this.figures);
    this.tableHost = el('div', { class: 'tables' });
    this.root = el('section', { class: 'object' },
      el('div', { class: 'bar' }, this.buttons, this.zoomed, this.summary), this.plotHost, this.cut, this.replayHost, this.whyHost, this.tableHost);
    this.plot = new TimePlot(this.plotHost, {
      zoom: (from, to) => this.go({ from: Math.round(from), to: Math.round(to) }),
      reset: () => this.go({ range: this.range }),
    });
    this.refresh = refresh;
    this.move(query);
  }

  /** Applies the parameters of the address. */
  move(query) {
    this.group = query.get('group') ?? undefined;
    const [from, to] = [Number(query.get('from')), Number(query.get('to'))];
    this.fixed = from > 0 && to > from ? { from, to } : null;
    this.mark = Number(query.get('at')) || null;
    // A replay is of the time that was shown.
    this.plot.replayed = null;
    this.figures.replaceChildren();
    if (query.get('range') in RANGES) {
      this.range = query.get('range');
      this.isFitted = true;
    }
    this.range ??= RANGE;
    this.every = this.fixed ? 0 : RANGES[this.range] <= HOUR ? 5000 : 30_000;
    this.showRange();
  }

  showRange() {
    const [from, to] = this.fixed ? [this.fixed.from, this.fixed.to] : [0, 0];
    this.buttons.replaceChildren(...Object.keys(RANGES).map((range) => el('button', {
      type: 'button', 'aria-pressed': String(!this.fixed && range === this.range), onclick: () => this.go({ range }),
    }, range)));
    this.zoomed.replaceChildren(...(this.fixed ? [
      `${moment(from)} – ${moment(to)} (${duration(to - from)}) `,
      el('button', { type: 'button', onclick: () => this.go({ range: this.range }) }, 'reset'),
    ] : []));
  }

  /** Shortens the range for a young object, unless the user chose one. */
  fit() {
    if (this.isFitted) return false;
    this.isFitted = true;
    const born = Math.min(...this.history.lives.map(([since]) => since));
    if (this.fixed || this.history.now - born > RANGES['15m']) return false;
    this.range = '15m';
    this.showRange();
    return true;
  }

  go(where) {
    location.hash = this.address(where);
  }

  address(where) {
    const query = new URLSearchParams({ ...(this.group ? { group: this.group } : {}), range: this.range, ...where });
    return `#/objects/${encodeURIComponent(this.namespace)}/${encodeURIComponent(this.name)}?${query}`;
  }

  async load(ask) {
    const points = Math.min(2000, Math.max(200, Math.round(this.plotHost.clientWidth)));
    let time = this.fixed ?? { last: RANGES[this.range] };
    const path = `api/objects/${encodeURIComponent(this.namespace)}/${encodeURIComponent(this.name)}`;
    this.history = await ask(path, { group: this.group, points, ...time });
    if (this.fit()) {
      time = { last: RANGES[this.range] };
      this.history = await ask(path, { group: this.group, points, ...time });
    }
    if (this.mark) this.plot.at = this.mark;
    this.plot.show(this.history);
    if (this.mark) this.plotHost.scrollIntoView({ block: 'nearest' });
    this.mark = null;
    this.head();
    this.tables();
    const why = explanation(await this.why(ask, `${path}/why`, time), this.history, (at) => this.place(at));
    // Keeps the scroll position of the list.
    const scrolled = this.whyHost.querySelector('ol')?.scrollTop ?? 0;
    this.whyHost.replaceChildren(why);
    why.querySelector('ol')?.scrollTo(0, scrolled);
  }

  /** Renders a moment as a link to its place in the plot. */
  place(at) {
    const around = { from: at - AROUND, to: Math.min(at + AROUND, Math.max(this.history.now, at + 10_000)), at };
    return el('time', { datetime: iso(at), title: iso(at) }, el('a', { href: this.address(around) }, moment(at)));
  }

  /** Fetches the explanation, or else the reason why there is none: the plot is shown without it. */
  async why(ask, path, time) {
    try {
      return await ask(path, { group: this.group, ...time });
    } catch (error) {
      if (error.name === 'AbortError' || error instanceof TypeError) throw error;
      return { error: error.message };
    }
  }

  /** Replays what is shown with today's settings and with others, and draws the lines of both. */
  async replay() {
    const { from, to } = this.history;
    const query = new URLSearchParams({ ...(this.group ? { group: this.group } : {}), from, to: Math.min(to, this.history.now), set: this.set.value.trim() });
    const path = `api/objects/${encodeURIComponent(this.namespace)}/${encodeURIComponent(this.name)}/replay`;
    this.figures.replaceChildren('replaying …');
    try {
      const response = await fetch(`${path}?${query}`, { headers: { 'Hpalite-Replay': '1' } });
      const report = await response.json();
      if (!response.ok) throw new Error(report.error ?? `the server answered ${response.status}`);
      this.plot.replayed = { today: report.today.replicas, candidate: report.candidates[0]?.replicas ?? [], to: report.to };
      this.plot.show(this.history);
      this.figures.replaceChildren(...figures(report));
    } catch (error) {
      this.figures.replaceChildren(el('span', { class: 'bad' }, error.message));
    }
  }

  head() {
    const { history } = this;
    const replicas = history.replicas.at(-1);
    const facts = history.triggers.map((trigger) => {
      const last = trigger.stretches.at(-1)?.at(-1);
      const threshold = trigger.thresholds.at(-1);
      return el('span', { class: 'fact' }, el('span', { class: 'muted' }, `${trigger.name ?? trigger.metric} `),
        el('b', { class: 'value' }, last ? number(last.at(-1)) : '–'),
        threshold ? el('span', { class: 'muted' }, ` / ${number(threshold.threshold)}${trigger.target === 'Value' ? '' : ' per replica'}`) : null);
    });
    facts.push(el('span', { class: 'fact' }, el('span', { class: 'muted' }, 'replicas '),
      el('b', { class: 'replicas' }, replicas?.at(-1) ?? '–')));
    if (this.group) facts.unshift(el('span', { class: 'group' }, this.group));
    const now = history.periods.filter((period) => period.until === null).map((period) => el('span', {
      class: `badge ${period.kind === 'notready' ? 'error' : period.kind}`, title: `${period.message}\nsince ${iso(period.from)}`,
    }, period.kind === 'notready' ? 'not ready' : period.kind));
    this.summary.replaceChildren(...now, ...facts);
    this.cut.textContent = history.cut.length ? `There is more than is shown here; only the newest of: ${history.cut.join(', ').replace('_', ' ')}. A shorter range shows the others.` : '';
  }

  tables() {
    const { history } = this;
    const decisions = history.decisions.filter((decision) => !this.onlyMoves || decision.from !== decision.to);
    const errors = history.triggers.flatMap((trigger) => trigger.errors.map((error) => ({ trigger, ...error })))
      .sort((a, b) => b.from - a.from);
    const tables = [
      table('Decisions', decisions, ['When', 'Replicas', 'Reason', 'In words', 'Outcome'], (decision) => [
        this.place(decision.at), steps(decision), decision.reason,
        [decision.detail, contributions(decision.triggers)],
        el('span', { class: decision.outcome.startsWith('failed') ? 'bad' : 'muted' }, decision.outcome),
      ], 'Nothing was decided in this time.', el('label', null, this.moves, ' only changes')),
      table('Replicas', history.replica_changes, ['When', 'Replicas', 'By'], (change) => [
        this.place(change.at), steps(change),
        [change.by, el('small', { class: 'muted' }, change.manager && change.by !== change.manager ? ` ${change.manager}` : '')],
      ], 'No replicas changed in this time.'),
      table('Errors', errors, ['Since', 'Lasted', 'Trigger', 'What', 'Polls'], (error) => [
        this.place(error.from),
        error.until === null ? el('span', { class: 'bad' }, 'lasting') : duration(error.until - error.from),
        error.trigger.name ?? error.trigger.metric,
        [el('span', { class: 'bad' }, error.outcome), error.message ? ` ${error.message}` : ''], String(error.polls),
      ], 'No errors in this time.'),
      table('Definitions', history.definitions, ['In force from', 'Generation', 'Changes'], (definition) => [
        this.place(definition.at), String(definition.generation),
        [definition.invalid ? el('div', { class: 'bad' }, definition.invalid) : null,
          definition.first ? el('span', { class: 'muted' }, 'first seen')
            : definition.changes.length ? definition.changes.map((change) => el('div', null, el('code', null, change)))
              : el('span', { class: 'muted' }, 'no field of the spec')],
      ], 'No definition in this time.'),
      table('States', history.periods, ['Since', 'Lasted', 'What', 'In words'], (period) => [
        this.place(period.from), period.until === null ? 'lasting' : duration(period.until - period.from),
        period.kind === 'notready' ? 'not ready' : period.kind, period.message || period.reason,
      ], 'Neither paused nor on fallback nor not ready in this time.'),
    ];
    this.tableHost.replaceChildren(...tables);
  }
}

const FIGURES = [
  ['pod-hours', (m) => m.pod_hours.toFixed(1)],
  ['changes of replicas', (m) => m.changes],
  ['turns within 10 min', (m) => m.turns],
  ['most replicas', (m) => m.peak],
  ["share of time above today's target", (m) => `${(m.share_above_target * 100).toFixed(2)} %`],
  ['starts from zero', (m) => m.starts_from_zero],
];

/** The figures of today's settings beside those of the others, and how far the model is off. */
function figures(report) {
  const variants = [report.today, ...report.candidates];
  const error = report.model_error;
  return [
    el('table', null, el('thead', null, el('tr', null, el('th'), variants.map((one) => el('th', { scope: 'col', title: one.changes.join('\n') }, one.title)))),
      el('tbody', null, FIGURES.map(([name, cell]) => el('tr', null, el('th', { scope: 'row' }, name), variants.map((one) => el('td', null, String(cell(one.measures)))))))),
    el('p', { class: 'muted' }, error
      ? `Replaying today's settings gives ${error.matched_changes} of ${error.recorded_changes} recorded changes within one sync period.`
      : 'No replicas were recorded under these settings, so the model is not checked.'),
  ];
}

function steps({ from, to }) {
  const direction = from === null || from === to ? 'hold' : to > from ? 'up' : 'down';
  return el('span', { class: `step ${direction}` }, from === null ? `first ${to}` : from === to ? `${to}` : `${from} → ${to}`);
}

function contributions(triggers) {
  if (!Array.isArray(triggers) || triggers.length === 0) return null;
  return el('div', { class: 'muted contributions' }, triggers.map((trigger) => trigger.more ? el('span', null, `and ${trigger.more} more`) : el('span', null, `${trigger.metric} `,
    trigger.error ? el('span', { class: 'bad' }, trigger.error) : trigger.value === null ? '–' : exact(trigger.value),
    trigger.active ? ' active' : '', trigger.absence ? `: ${trigger.absence}, since ${moment(trigger.absent_since_unix_ms)}` : '')));
}

const ROWS_MAX = 100;

function table(title, rows, heads, cells, none, extra) {
  const head = el('div', { class: 'title' }, el('h2', null, title), el('span', { class: 'muted' }, String(rows.length)), extra);
  if (rows.length === 0) return el('section', { class: 'none' }, head, el('p', { class: 'muted' }, none));
  const more = rows.length - ROWS_MAX;
  return el('section', { class: title.toLowerCase() }, head, el('div', { class: 'rows', tabindex: rows.length > 12 ? 0 : null }, el('table', null,
    el('thead', null, el('tr', null, heads.map((text) => el('th', { scope: 'col' }, text)))),
    el('tbody', null, rows.slice(0, ROWS_MAX).map((row) => el('tr', null, cells(row).map((cell) => el('td', null, cell))))))),
  more > 0 ? el('p', { class: 'muted' }, `and ${more} older ones: zoom in to see them`) : null);
}
