import { expect, it } from 'vitest';
import { byDay } from './data';

it('has a bar for every day, sums what came by several ways, and reaches back two weeks at least', () => {
  const today = new Date('2026-03-20T12:00:00Z');
  const bars = byDay([{ day: '2026-03-18', rankings: 3 }, { day: '2026-03-18', rankings: 2 }, { day: '2026-03-20', rankings: 1 }], today);
  expect(bars).toHaveLength(14);
  expect(bars.slice(-3)).toEqual([{ label: '18 Mar', value: 5 }, { label: '19 Mar', value: 0 }, { label: '20 Mar', value: 1 }]);
  expect(byDay([{ day: '2026-02-01', rankings: 1 }], today)[0]).toEqual({ label: '1 Feb', value: 1 });
  expect(byDay([], today)).toHaveLength(14);
});
