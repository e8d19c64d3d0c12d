// Formats numbers and times for people.

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const UNITS = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']];

/** At most four significant digits and a unit. */
export function number(value) {
  if (value === null || value === undefined) return '–';
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e15)) return value.toExponential(1);
  const [least, unit] = UNITS.find(([from]) => size >= from) ?? [1, ''];
  return String(Number((value / least).toPrecision(4))) + unit;
}

/** All digits, where there is room for them. */
export function exact(value) {
  return Math.abs(value) >= 1e15 ? value.toExponential() : value.toLocaleString('en', { maximumFractionDigits: 6 });
}

const two = (n) => String(n).padStart(2, '0');

/** Local wall clock time; `span` determines the precision. */
export function clock(at, span = 0) {
  const date = new Date(at);
  const minutes = `${two(date.getHours())}:${two(date.getMinutes())}`;
  return span > 20 * MINUTE ? minutes : `${minutes}:${two(date.getSeconds())}`;
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

export function day(at) {
  const date = new Date(at);
  return `${date.getDate()} ${MONTHS[date.getMonth()]}`;
}

/** Date and time to the second. */
export function moment(at) {
  return `${day(at)} ${clock(at)}`;
}

export function iso(at) {
  return new Date(at).toISOString();
}

/** A duration in its two largest units. */
export function duration(ms) {
  const units = [[DAY, 'd'], [HOUR, 'h'], [MINUTE, 'm'], [1000, 's']];
  const first = units.findIndex(([length]) => ms >= length);
  if (first < 0) return `${Math.max(0, Math.round(ms))} ms`;
  const whole = Math.floor(ms / units[first][0]);
  const rest = units[first + 1] ? Math.floor((ms % units[first][0]) / units[first + 1][0]) : 0;
  return `${whole}${units[first][1]}` + (rest ? ` ${rest}${units[first + 1][1]}` : '');
}

export function ago(at, now) {
  return now - at < 1000 ? 'now' : `${duration(now - at)} ago`;
}

const TICKS = [1000, 2000, 5000, 10_000, 15_000, 30_000, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE,
  30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY];

/** At most `count` round times between two others, with their labels. */
export function timeTicks(from, to, count) {
  const step = TICKS.find((tick) => (to - from) / tick <= count) ?? 365 * DAY;
  // Midnight depends on the time zone.
  const offset = new Date(from).getTimezoneOffset() * MINUTE;
  const ticks = [];
  for (let at = Math.ceil((from - offset) / step) * step + offset; at <= to; at += step) {
    const date = new Date(at);
    const midnight = date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0;
    ticks.push({ at, label: step >= DAY || midnight ? day(at) : clock(at, step >= MINUTE ? DAY : 0), strong: midnight });
  }
  return ticks;
}

/** About `count` round numbers between two others. */
export function valueTicks(low, high, count) {
  const raw = (high / count) - (low / count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw * 0.999) ?? raw;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9) && ticks.length < 20; i += 1) ticks.push(i * step);
  return ticks;
}
