import { describe, expect, it } from 'vitest';
import type { Outlook } from '../lib/api/types';
import { news, reasons } from './next';

const now = new Date('2026-03-14T12:00:00Z');
const outlook = (more: Partial<Outlook>): Outlook => ({ running: null, queued: 0, new_rankings: 0, new_demonstrations: 0, ...more });

describe('what is next', () => {
  it('says what is new, and since when', () => {
    expect(news(outlook({ new_rankings: 1 }), now)).toBe('1 new ranking and 0 new ideal answers; no cycle has begun yet.');
    expect(news(outlook({ new_rankings: 12, new_demonstrations: 1, last_cycle_at: '2026-03-14T10:00:00Z' }), now)).toBe(
      '12 new rankings and 1 new ideal answer since the last cycle began, 2 h ago.',
    );
  });
  it('says nothing starts when nothing is set', () => expect(reasons(outlook({ new_rankings: 9 }), now)).toEqual([]));
  it('counts what is missing, and knows when it is there', () => {
    expect(reasons(outlook({ new_rankings: 3, min_new_rankings: 4 }), now)).toEqual(['A cycle starts by itself after 1 more ranking.']);
    expect(reasons(outlook({ new_rankings: 5, min_new_rankings: 4 }), now)[0]).toContain('in a moment');
    expect(reasons(outlook({ new_rankings: 5, min_new_rankings: 4, queued: 1 }), now)[0]).toContain('as soon as the work at hand is done');
  });
  it('tells the time, and how long until then', () => {
    const [first, second] = reasons(outlook({ min_new_rankings: 4, schedule: '0 3 * * *', next_at: '2026-03-15T03:00:00Z' }), now);
    expect(first).toContain('4 more rankings');
    expect(second).toMatch(/^By the clock, one starts .*15 Mar.*, in 15 h\.$/);
    expect(reasons(outlook({ schedule: '0 3 * * *', next_at: '2026-03-14T11:00:00Z' }), now)[0]).toContain('as soon as nothing else');
  });
});
