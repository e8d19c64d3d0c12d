// A plot over time as SVG: a panel for each trigger, one for replicas, a lane of events, one time axis.
// Drag to zoom, double click to go back, arrow keys to read values. Depends only on the history's JSON, not on the page.

import { el, svg } from './dom.js';
import { clock, day, duration, exact, iso, number, timeTicks, valueTicks } from './format.js';

const LEFT = 58;
const RIGHT = 16;
const TITLE = 24;
const VALUE_HEIGHT = 132;
const REPLICA_HEIGHT = 70;
const GAP = 8;
const LANE = 26;
const AXIS = 22;
/** A drag shorter than this is a click. */
const DRAG_PIXELS = 5;
/** The shortest range to zoom to. */
const SPAN_MIN_MS = 10_000;

/** Answers without a number, in plain words. */
const WORDS = { empty: 'no series', nan: 'NaN', infinite: 'infinite', partial: 'a partial answer' };
const STATES = { paused: 'paused', fallback: 'fallback' };
const MARKS = { up: 'M0-5L5 4H-5Z', down: 'M0 5L5-4H-5Z', hold: 'M0-2.5A2.5 2.5 0 1 1-.01-2.5Z', failed: 'M-4-4L4 4M4-4L-4 4', definition: 'M0-5L5 0L0 5L-5 0Z', run: 'M-1.5-6H1.5V6H-1.5Z' };

export class TimePlot {
  constructor(host, { zoom, reset }) {
    this.host = host;
    this.zoom = zoom;
    this.reset = reset;
    this.at = null;
    this.hover = el('div', { class: 'hover', hidden: true });
    this.spoken = el('div', { class: 'keys', 'aria-live': 'polite' }, 'drag: zoom · double click: back · arrow keys: read');
    this.svg = svg('svg', {
      tabindex: 0, role: 'img', 'aria-label': 'Plot over time. Left and right read values, plus and minus zoom, shift with an arrow pans, 0 goes back.',
      onpointermove: (event) => this.pointer(event), onpointerdown: (event) => this.press(event), onpointerup: (event) => this.release(event),
      onpointerleave: () => this.drag === undefined && this.point(null), onpointercancel: () => this.abort(),
      ondblclick: () => this.reset(), onkeydown: (event) => this.key(event),
    });
    host.append(this.svg, this.hover, this.spoken);
    new ResizeObserver(() => this.history && this.draw()).observe(host);
  }

  show(history) {
    this.history = history;
    this.draw();
  }

  x(at) {
    const { from, to } = this.history;
    return LEFT + ((at - from) / (to - from)) * (this.width - LEFT - RIGHT);
  }

  time(x) {
    const { from, to } = this.history;
    const part = Math.min(1, Math.max(0, (x - LEFT) / (this.width - LEFT - RIGHT)));
    return from + part * (to - from);
  }

  /** The visible part of a period: left edge and width. */
  span(from, until, widthMin = 1) {
    const left = this.x(Math.max(from, this.history.from));
    const right = this.x(Math.min(until ?? this.history.to, this.history.to));
    return { x: left.toFixed(1), width: Math.max(widthMin, right - left).toFixed(1) };
  }

  visible(from, until) {
    return (until ?? Infinity) >= this.history.from && from <= this.history.to;
  }

  draw() {
    const { history } = this;
    this.width = Math.max(320, this.host.clientWidth);
    const panels = svg('g');
    const states = svg('g');
    const grid = svg('g');
    this.levels = [];
    let top = 0;
    for (const trigger of history.triggers) {
      panels.append(this.triggerPanel(trigger, top + TITLE));
      top += TITLE + VALUE_HEIGHT + GAP;
    }
    panels.append(this.replicaPanel(top + TITLE));
    this.bottom = top + TITLE + REPLICA_HEIGHT;
    this.lane = this.bottom + LANE / 2 + 2;
    const height = this.bottom + LANE + AXIS;
    this.drawAxis(grid, height);
    this.drawStates(states);
    this.cross = svg('g', { class: 'crossing' });
    this.svg.setAttribute('viewBox', `0 0 ${this.width} ${height}`);
    this.svg.setAttribute('height', height);
    this.svg.replaceChildren(grid, states, panels, this.drawEvents(), this.cross);
    // After a zoom the pointer is at another time.
    this.point(this.at !== null && this.visible(this.at, this.at) ? this.at : null);
  }

  drawAxis(grid, height) {
    const { from, to } = this.history;
    for (const { at, label, strong } of timeTicks(from, to, (this.width - LEFT - RIGHT) / 80)) {
      const x = this.x(at).toFixed(1);
      grid.append(svg('path', { class: 'grid', d: `M${x} ${TITLE}V${this.bottom + LANE}` }),
        svg('text', { x, y: height - 7, 'text-anchor': 'middle', class: strong ? 'strong' : null }, label));
    }
    grid.append(svg('path', { class: 'axis', d: `M${LEFT} ${this.bottom + LANE}H${this.width - RIGHT}` }));
  }

  /** Draws paused, fallback and hpalite's downtime behind all panels. */
  drawStates(states) {
    const bands = this.history.periods.filter((period) => period.kind in STATES)
      .map((period) => ({ name: STATES[period.kind], from: period.from, until: period.until }));
    for (const { from, until } of this.absences()) bands.push({ name: 'down', from, until });
    for (const { name, from, until } of bands.filter((band) => this.visible(band.from, band.until))) {
      const place = this.span(from, until, 2);
      states.append(svg('rect', { class: name, ...place, y: TITLE, height: this.bottom - TITLE + LANE }));
      if (place.width > 60) {
        states.append(svg('text', { class: `tag ${name}`, x: Number(place.x) + 5, y: this.bottom + LANE - 4 }, name === 'down' ? 'hpalite was down' : name));
      }
    }
  }

  /** hpalite's downtime between an orderly stop and the next start; after a crash only the start is known. */
  absences() {
    const runs = this.history.runs;
    return runs.slice(1).map((run, i) => ({ from: run.until, until: runs[i].from })).filter((absence) => absence.from !== null);
  }

  panel(top, height, title, low, high) {
    const half = high / 2 - low / 2;
    // Halved before subtracting, since the difference of the largest numbers is infinite.
    const y = (value) => top + height - ((value / 2 - low / 2) / half) * height;
    const group = svg('g', null, title);
    for (const tick of valueTicks(low, high, Math.max(2, Math.round(height / 40)))) {
      group.append(svg('path', { class: 'grid', d: `M${LEFT} ${y(tick).toFixed(1)}H${this.width - RIGHT}` }),
        svg('text', { x: LEFT - 8, y: (y(tick) + 4).toFixed(1), 'text-anchor': 'end' }, number(tick)));
    }
    return { group, y };
  }

  triggerPanel(trigger, top) {
    const { history } = this;
    const points = trigger.stretches.flat();
    const least = Math.min(0, ...points.map((point) => point[1]));
    const most = Math.max(-Infinity, ...points.map((point) => (point.length > 2 ? point[2] : point[1])));
    const thresholds = trigger.thresholds.map((threshold) => threshold.threshold);
    const highest = Math.max(0, ...thresholds);
    // A threshold far above all values would flatten them.
    const near = !(most > 0) || highest <= most * 10;
    const perReplica = trigger.target !== 'Value';
    const capacity = perReplica ? this.capacity(trigger) : [];
    const capacityMost = Math.max(0, ...capacity.map(([, , value]) => value));
    const showCapacity = capacityMost > 0 && capacityMost <= Math.max(most, highest) * 3;
    let high = Math.max(most, near ? highest : 0, showCapacity ? capacityMost : 0) * 1.06;
    if (!(high > least)) high = least + 1;
    if (!Number.isFinite(high)) high = most;

    const threshold = trigger.thresholds.at(-1);
    const title = svg('text', { x: LEFT, y: top - 8 }, svg('tspan', { class: 'name' }, trigger.name ?? trigger.metric));
    const notes = [trigger.name ? trigger.metric : null, trigger.kind, threshold ? `threshold ${number(threshold.threshold)}${perReplica ? ' per replica' : ''}${near ? '' : ', above the plot'}` : null,
      threshold?.activation ? `active above ${number(threshold.activation)}` : null, showCapacity ? 'thin line: threshold × replicas' : null];
    // At most 6.5 pixels per character; the hint about keys shares the row of the first title.
    let room = (this.width - LEFT - RIGHT - (this.width > 1000 && top === TITLE ? 320 : 0)) / 6.5 - title.textContent.length * 1.2;
    for (const note of notes.filter((text) => text !== null)) {
      room -= note.length + 2;
      if (room > 0) title.append(svg('tspan', { dx: 10 }, note));
    }
    const { group, y } = this.panel(top, VALUE_HEIGHT, title, least, high);
    const bottom = top + VALUE_HEIGHT;

    for (const silence of trigger.silences.filter((s) => this.visible(s.from, s.until))) {
      group.append(svg('rect', { class: 'silence', ...this.span(silence.from, silence.until + 1, 2), y: bottom - 3, height: 3 }));
    }
    for (const error of trigger.errors.filter((e) => this.visible(e.from, e.until))) {
      const place = this.span(error.from, error.until ?? Math.max(error.last_at, history.to), 2);
      group.append(svg('rect', { class: 'error', ...place, y: top, height: VALUE_HEIGHT }),
        svg('rect', { class: 'error-edge', ...place, y: bottom - 3, height: 3 }));
    }
    if (showCapacity) {
      let d = '';
      let end = null;
      for (const [from, until, value] of capacity) {
        const level = y(value).toFixed(1);
        d += `${end === from ? 'V' + level : `M${this.x(from).toFixed(1)} ${level}`}H${this.x(until).toFixed(1)}`;
        end = until;
      }
      group.append(svg('path', { class: 'capacity', d }));
    }
    for (const stretch of trigger.stretches) group.append(...this.stretch(stretch, y));
    if (near) {
      for (const { from, until, threshold: value } of trigger.thresholds.filter((t) => this.visible(t.from, t.until))) {
        const { x, width } = this.span(from, until);
        group.append(svg('path', { class: 'threshold', d: `M${x} ${y(value).toFixed(1)}h${width}` }));
      }
    }
    this.levels.push({ trigger, points, y });
    return group;
  }

  /** A line through the last values over a band of minima and maxima; a single point is a dot. */
  stretch(points, y) {
    const place = (point, value) => `${this.x(point[0]).toFixed(1)} ${y(value).toFixed(1)}`;
    if (points.length === 1 && points[0].length === 2) {
      return [svg('path', { class: 'value dot', d: `M${place(points[0], points[0][1])}h.01` })];
    }
    const parts = [];
    if (points.some((point) => point.length > 2)) {
      const upper = points.map((point) => place(point, point.length > 2 ? point[2] : point[1]));
      const lower = points.map((point) => place(point, point[1])).reverse();
      parts.push(svg('path', { class: 'band', d: `M${upper.concat(lower).join('L')}Z` }));
    }
    parts.push(svg('path', { class: 'value', d: `M${points.map((point) => place(point, point.at(-1))).join('L')}h.01` }));
    return parts;
  }

  /** Spans of known replicas as [from, until, count], clipped to the visible range. */
  replicaSpans() {
    const { replicas, from, to } = this.history;
    return replicas.map((step, i) => [Math.max(step[0], from), Math.min(replicas[i + 1]?.[0] ?? to, to), step.at(-1), step])
      .filter(([start, end, count]) => count !== null && end >= start);
  }

  /** The value that the current replicas stand for: the HPA acts when the metric crosses this line. */
  capacity(trigger) {
    const spans = [];
    for (const [from, until, count] of this.replicaSpans()) {
      for (const threshold of trigger.thresholds) {
        const start = Math.max(from, threshold.from);
        const end = Math.min(until, threshold.until ?? Infinity);
        if (end > start) spans.push([start, end, count * threshold.threshold]);
      }
    }
    return spans;
  }

  replicaPanel(top) {
    const spans = this.replicaSpans();
    const replayed = this.replayed ? [...this.replayed.today, ...this.replayed.candidate] : [];
    const most = Math.max(1, ...spans.map(([, , count, step]) => (step.length > 2 ? step[2] : count)), ...replayed.map(([, count]) => count));
    const title = svg('text', { x: LEFT, y: top - 8 }, svg('tspan', { class: 'name' }, 'replicas'));
    if (this.replayed) {
      title.append(svg('tspan', { dx: 10 }, 'replayed:'), svg('tspan', { dx: 6, class: 'replayed-today' }, "today's settings"));
      if (this.replayed.candidate.length) title.append(svg('tspan', { dx: 8, class: 'replayed-candidate' }, 'the candidate'));
    }
    const { group, y } = this.panel(top, REPLICA_HEIGHT, title, 0, most * 1.12);
    const base = y(0).toFixed(1);
    let line = '';
    let area = '';
    let end = null;
    for (const [from, until, count, step] of spans) {
      const [x0, x1, level] = [this.x(from).toFixed(1), this.x(until).toFixed(1), y(count).toFixed(1)];
      line += `${end === from ? 'V' + level : `M${x0} ${level}`}H${x1}`;
      area += `M${x0} ${base}V${level}H${x1}V${base}Z`;
      if (step.length > 2 && step[0] >= this.history.from) line += `M${x0} ${y(step[1]).toFixed(1)}V${y(step[2]).toFixed(1)}M${x1} ${level}`;
      end = until;
    }
    group.append(svg('path', { class: 'steps', d: area }), svg('path', { class: 'steps-line', d: line }));
    for (const name of this.replayed ? ['today', 'candidate'] : []) {
      group.append(svg('path', { class: `replayed replayed-${name}`, d: this.course(this.replayed[name], y) }));
    }
    this.replicaY = y;
    return group;
  }

  /** The line of replicas that stand from each time on. */
  course(steps, y) {
    let d = '';
    for (const [i, [at, count]] of steps.entries()) {
      const until = Math.min(steps[i + 1]?.[0] ?? this.replayed.to, this.history.to);
      if (until < this.history.from) continue;
      const level = y(count).toFixed(1);
      d += `${d ? `V${level}` : `M${this.x(Math.max(at, this.history.from)).toFixed(1)} ${level}`}H${this.x(until).toFixed(1)}`;
    }
    return d;
  }

  /** All events as text, for the marks of the lane and the readout. */
  events() {
    const { history } = this;
    const events = [];
    for (const run of history.runs) events.push({ at: run.from, kind: 'run', text: `hpalite ${run.version} started` });
    for (const decision of history.decisions) {
      const failed = decision.outcome.startsWith('failed');
      const kind = failed ? 'failed' : decision.to > decision.from ? 'up' : decision.to < decision.from ? 'down' : 'hold';
      const move = decision.from === decision.to ? '' : `${decision.from} → ${decision.to}  `;
      events.push({ at: decision.at, kind, text: `${move}${decision.reason}: ${decision.detail}${failed ? ` (${decision.outcome})` : ''}` });
    }
    for (const change of history.replica_changes) {
      if (change.actor === 'hpalite' || change.from === null || change.from === change.to) continue;
      events.push({ at: change.at, kind: change.to > change.from ? 'up' : 'down', text: `${change.from} → ${change.to} by ${change.by}` });
    }
    for (const definition of history.definitions) {
      events.push({ at: definition.at, kind: 'definition', text: `generation ${definition.generation}${definition.invalid ? ` is invalid: ${definition.invalid}` : definition.changes.length ? `: ${definition.changes.join('; ')}` : ''}` });
    }
    return events.filter((event) => this.visible(event.at, event.at));
  }

  drawEvents() {
    const order = ['hold', 'run', 'down', 'up', 'definition', 'failed'];
    this.eventList = this.events().sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
    const group = svg('g', null, svg('text', { x: LEFT - 8, y: this.lane + 4, 'text-anchor': 'end' }, 'events'));
    for (const { at, kind } of this.eventList) {
      const x = this.x(at).toFixed(1);
      if (kind === 'definition') group.append(svg('path', { class: 'guide', d: `M${x} ${TITLE}V${this.bottom}` }));
      group.append(svg('path', { class: `mark ${kind}`, d: MARKS[kind], transform: `translate(${x} ${this.lane})` }));
    }
    return group;
  }

  /** Moves the crosshair to a time and shows the values there; null hides it. */
  point(wanted) {
    const { from, to } = this.history ?? {};
    const at = wanted === null ? null : Math.min(to, Math.max(from, wanted));
    this.at = at;
    this.hover.hidden = at === null;
    if (at === null) {
      this.cross?.replaceChildren();
      return;
    }
    const x = this.x(at);
    const reach = (this.history.to - this.history.from) * (8 / this.width);
    const facts = [];
    const dots = [];
    for (const { trigger, points, y } of this.levels) {
      const name = trigger.name ?? trigger.metric;
      const point = nearest(points, at);
      const error = trigger.errors.find((e) => at >= e.from && at <= (e.until ?? Infinity));
      const silence = trigger.silences.find((s) => at >= s.from - reach && at <= s.until + reach);
      const near = point && Math.abs(point[0] - at) <= Math.max(reach * 3, this.history.step * 1.5, rhythm(points, point) * 0.75);
      if (near && !(error && point[0] < error.from)) {
        const range = point.length > 2 ? ` (${number(point[1])} – ${number(point[2])})` : '';
        facts.push([name, `${exact(point.at(-1))}${range}`]);
        dots.push(svg('circle', { class: 'cross-dot', cx: x.toFixed(1), cy: y(point.at(-1)).toFixed(1), r: 3.5 }));
      } else facts.push([name, error ? error.outcome : silence ? (WORDS[silence.outcome] ?? silence.outcome) : 'no sample']);
      const threshold = trigger.thresholds.find((t) => at >= t.from && at <= (t.until ?? Infinity));
      if (threshold) facts.push(['threshold', exact(threshold.threshold)]);
    }
    const span = this.replicaSpans().findLast(([from, until]) => at >= from && at <= until);
    facts.push(['replicas', span ? String(span[2]) : '–']);
    if (span) dots.push(svg('circle', { class: 'cross-dot replicas', cx: x.toFixed(1), cy: this.replicaY(span[2]).toFixed(1), r: 3.5 }));
    const notes = this.eventList.filter((event) => Math.abs(event.at - at) <= reach).slice(-5).map((event) => el('p', { class: event.kind }, `${clock(event.at)} ${event.text}`));
    for (const { trigger } of this.levels) {
      const error = trigger.errors.find((e) => at >= e.from - reach && at <= (e.until ?? Infinity) + reach);
      if (error?.message) notes.push(el('p', { class: 'failed' }, error.message));
    }
    for (const period of this.history.periods.filter((p) => at >= p.from && at <= (p.until ?? Infinity))) {
      notes.push(el('p', null, `${period.kind === 'notready' ? 'not ready' : period.kind}: ${period.message || period.reason}`));
    }
    this.cross.replaceChildren(svg('path', { class: 'cross', d: `M${x.toFixed(1)} ${TITLE}V${this.bottom + LANE}` }), ...dots);
    if (this.drag !== undefined) this.cross.append(svg('rect', { class: 'selection', x: Math.min(x, this.drag), y: TITLE, width: Math.abs(x - this.drag), height: this.bottom - TITLE + LANE }));
    this.hover.replaceChildren(
      el('div', { class: 'at', title: iso(at) }, this.drag === undefined ? `${day(at)} ${clock(at)}` : duration(Math.abs(at - this.time(this.drag)))),
      el('dl', null, facts.map(([name, value]) => [el('dt', null, name), el('dd', null, value)])), ...notes);
    const room = this.width - x > 430;
    this.hover.style.transform = `translate(${room ? x + 14 : Math.max(4, x - 14 - this.hover.offsetWidth)}px, ${TITLE + 6}px)`;
  }

  offset(event) {
    const box = this.svg.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width) * this.width;
  }

  pointer(event) {
    if (this.history) this.point(this.time(this.offset(event)));
  }

  press(event) {
    if (event.button !== 0 || !this.history) return;
    this.drag = Math.max(LEFT, Math.min(this.width - RIGHT, this.offset(event)));
    this.svg.setPointerCapture(event.pointerId);
  }

  release(event) {
    if (this.drag === undefined) return;
    const [a, b] = [this.drag, this.offset(event)].sort((left, right) => left - right);
    this.drag = undefined;
    if (b - a >= DRAG_PIXELS) this.narrow(this.time(a), this.time(b));
    this.point(this.at);
  }

  abort() {
    this.drag = undefined;
    this.point(null);
  }

  narrow(from, to) {
    const middle = (from + to) / 2;
    const half = Math.max(SPAN_MIN_MS, to - from) / 2;
    this.zoom(middle - half, middle + half);
  }

  key(event) {
    const { history } = this;
    if (!history || event.ctrlKey || event.metaKey || event.altKey) return;
    const length = history.to - history.from;
    const at = this.at ?? history.to;
    const move = (by) => this.point(Math.min(history.to, Math.max(history.from, at + by)));
    const pan = (by) => this.zoom(history.from + by, history.to + by);
    const actions = {
      ArrowLeft: () => (event.shiftKey ? pan(-length / 4) : move(-length / 100)),
      ArrowRight: () => (event.shiftKey ? pan(length / 4) : move(length / 100)),
      Home: () => this.point(history.from),
      End: () => this.point(history.to),
      '+': () => this.narrow(at - length / 4, at + length / 4),
      '=': () => this.narrow(at - length / 4, at + length / 4),
      '-': () => this.zoom(at - length, at + length),
      0: () => this.reset(),
      Escape: () => this.abort(),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
    if (this.at !== null) this.spoken.textContent = [...this.hover.querySelectorAll('.at, dt, dd')].map((part) => part.textContent).join(' ');
  }
}

/** The point nearest to a time; points are in order. */
function nearest(points, at) {
  let [low, high] = [0, points.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < at) low = middle + 1;
    else high = middle;
  }
  const [before, after] = [points[low - 1], points[low]];
  return before && Math.abs(before[0] - at) <= Math.abs((after?.[0] ?? Infinity) - at) ? before : after;
}

/** The interval between the points around one. */
function rhythm(points, point) {
  const i = points.indexOf(point);
  const neighbours = [points[i - 1], points[i + 1]].filter((other) => other !== undefined);
  return Math.min(5 * 60_000, ...neighbours.map((other) => Math.abs(other[0] - point[0])), neighbours.length ? Infinity : 0);
}
