// The geometry of a line chart, without a browser: scales, ticks and paths.

/** A point of a curve: (step, value). */
export type Point = readonly [number, number];

/** The smallest and largest of each axis, with room above and below the values. */
export interface Extent {
  x0: number;
  x1: number;
  y0: number;
  y1: number;
}

/** What all the curves together cover; null when there is no finite point. */
export function extent(curves: readonly (readonly Point[])[]): Extent | null {
  const points = curves.flat().filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
  if (points.length === 0) return null;
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const [x0, x1, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  return { x0, x1: x1 === x0 ? x0 + 1 : x1, y0: low - room, y1: high + room };
}

/** About `wanted` round numbers within [low, high]: multiples of 1, 2 or 5 times a power of ten. */
export function ticks(low: number, high: number, wanted: number): number[] {
  const raw = (high - low) / Math.max(1, wanted);
  if (!(raw > 0) || !Number.isFinite(raw)) return [];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 5, 10].find((m) => m * power >= raw) ?? 10) * power;
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** An SVG path through the points; a value that isn't finite leaves a gap. */
export function path(points: readonly Point[], x: (v: number) => number, y: (v: number) => number): string {
  let pen = 'M';
  let out = '';
  for (const [px, py] of points) {
    if (!Number.isFinite(py)) {
      pen = 'M';
      continue;
    }
    out += `${pen}${x(px).toFixed(1)} ${y(py).toFixed(1)}`;
    pen = 'L';
  }
  return out;
}

/** The point whose step is nearest; null when there is none. */
export function nearest(points: readonly Point[], step: number): Point | null {
  let found: Point | null = null;
  for (const p of points) if (!found || Math.abs(p[0] - step) < Math.abs(found[0] - step)) found = p;
  return found;
}

/** Adds a point to a curve; a step that is there already is replaced (a resumed run repeats its last steps). */
export function add(curve: readonly Point[], point: Point): Point[] {
  const kept = curve.filter(([step]) => step < point[0]);
  return [...kept, point];
}
