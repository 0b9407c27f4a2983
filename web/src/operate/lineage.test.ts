import { expect, it } from 'vitest';
import { layout } from './lineage';

const made = (id: string, parent: string | null, minute: number) => ({ id, parent_id: parent, created_at: `2026-01-01T00:${String(minute).padStart(2, '0')}:00Z` });
const seen = (policies: ReturnType<typeof made>[], champion: string | null) =>
  Object.fromEntries(layout(policies, champion).spots.map((s) => [s.policy.id, [s.row, s.lane]]));

it('draws the champion’s line straight, and what was rejected beside it', () => {
  const policies = [made('base', null, 0), made('a', 'base', 1), made('rejected', 'a', 2), made('b', 'a', 3)];
  expect(seen(policies, 'b')).toEqual({ b: [0, 0], rejected: [1, 1], a: [2, 0], base: [3, 0] });
});

it('keeps the line straight after a roll back, too', () => {
  const policies = [made('base', null, 0), made('a', 'base', 1), made('b', 'a', 2)];
  expect(seen(policies, 'a')).toEqual({ b: [0, 0], a: [1, 0], base: [2, 0] });
  const branched = [...policies, made('c', 'base', 3)];
  expect(seen(branched, 'c')).toEqual({ c: [0, 0], b: [1, 1], a: [2, 1], base: [3, 0] });
});

it('uses a lane again when it is free, and never two at once', () => {
  const policies = [made('base', null, 0), made('x', 'base', 1), made('a', 'base', 2), made('y', 'a', 3), made('z', 'a', 4), made('b', 'a', 5)];
  const spots = layout(policies, 'b').spots;
  const places = new Set(spots.map((s) => `${s.row}:${s.lane}`));
  expect(places.size).toBe(policies.length);
  expect(seen(policies, 'b')['x']?.[1]).toBe(1);
  expect(seen(policies, 'b')['y']?.[1]).not.toBe(seen(policies, 'b')['z']?.[1]);
});

it('takes whatever parents it is given', () => {
  expect(seen([made('a', 'gone', 1)], null)).toEqual({ a: [0, 0] });
  expect(layout([], null)).toEqual({ spots: [], lanes: 1 });
  expect(layout([made('a', 'b', 1), made('b', 'a', 2)], 'a').spots).toHaveLength(2);
});
