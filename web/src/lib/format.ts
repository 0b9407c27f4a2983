// Numbers, times and names as people read them.

/** "1,234". */
export function count(n: number): string {
  return n.toLocaleString('en-US', { maximumFractionDigits: 0 });
}

/** "1 ranking", "2 rankings". */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** About three significant digits, never in scientific notation for everyday sizes: 0.0123, 1.23, 123, 1,235. */
export function metric(x: number): string {
  if (!Number.isFinite(x)) return '–';
  const size = Math.abs(x);
  if (size === 0) return '0';
  if (size < 1e-4 || size >= 1e9) return x.toExponential(1).replace('-', '−');
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 3 : 4;
  return x.toLocaleString('en-US', { maximumFractionDigits: digits }).replace('-', '−');
}

/** The same with its sign: "+0.42", "−0.1". */
export function signed(x: number): string {
  return x > 0 ? `+${metric(x)}` : metric(x);
}

/** A share as "72 %". */
export function percent(x: number): string {
  return Number.isFinite(x) ? `${Math.round(x * 100)} %` : '–';
}

/** "8 s", "2 min 5 s", "1 h 12 min", "3 d 4 h". */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return '–';
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  const [big, small, bigName, smallName] =
    s < 3600 ? [60, 1, 'min', 's'] : s < 86_400 ? [3600, 60, 'h', 'min'] : [86_400, 3600, 'd', 'h'];
  const rest = Math.floor((s % big) / small);
  return `${Math.floor(s / big)} ${bigName}${rest > 0 ? ` ${rest} ${smallName}` : ''}`;
}

/** "just now", "5 min ago", "yesterday", "12 Mar". */
export function ago(iso: string, now: Date = new Date()): string {
  const then = new Date(iso);
  const seconds = (now.getTime() - then.getTime()) / 1000;
  if (!Number.isFinite(seconds)) return '';
  if (seconds < 60) return 'just now';
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  if (seconds < 172_800) return 'yesterday';
  const year = then.getFullYear() === now.getFullYear() ? {} : { year: 'numeric' as const };
  return then.toLocaleDateString('en-GB', { day: 'numeric', month: 'short', ...year });
}

/** Seconds between two times, or until now while the second is missing. */
export function elapsedSeconds(from: string, to: string | null | undefined, now: Date = new Date()): number {
  return ((to ? new Date(to).getTime() : now.getTime()) - new Date(from).getTime()) / 1000;
}

/** An id short enough to read: ids are a prefix and a time-ordered UUID, whose end is what tells two apart. */
export function shortId(id: string): string {
  const parts = /^([a-z]+)_([0-9a-f]{32})$/.exec(id);
  if (parts) return `${parts[1]}-${(parts[2] ?? '').slice(-6)}`;
  return id.startsWith('base_') ? id.slice('base_'.length) : id;
}

/** A message as a sentence: a capital at its beginning and a stop at its end. */
export function sentence(text: string): string {
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?)`"”]$/.test(start) ? start : `${start}.`;
}

/** "A" for 0, "B" for 1... */
export function letter(index: number): string {
  return String.fromCharCode(65 + index);
}

/** "1st", "2nd", "3rd", "4th". */
export function ordinal(n: number): string {
  const ends = n % 100 > 10 && n % 100 < 14 ? 'th' : (['th', 'st', 'nd', 'rd'][n % 10] ?? 'th');
  return `${n}${ends}`;
}
