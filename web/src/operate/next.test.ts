import { describe, expect, it } from 'vitest';
import type { Outlook } from '../lib/api/types';
import { leftOut, news, reasons } from './next';

const now = new Date('2026-03-14T12:00:00Z');
const outlook = (more: Partial<Outlook>): Outlook => ({
  running: null,
  queued: 0,
  rankings: 0,
  rankings_left_out: 0,
  demonstrations: 0,
  new_rankings: 0,
  new_demonstrations: 0,
  drift: false,
  ...more,
});

describe('what is next', () => {
  it('says what there is, what of it is new, and since when', () => {
    expect(news(outlook({ rankings: 1, new_rankings: 1 }), now)).toBe('1 ranking and 0 ideal answers to learn from; no cycle has begun yet.');
    const later = outlook({ rankings: 52, demonstrations: 1, new_rankings: 12, new_demonstrations: 1, last_cycle_at: '2026-03-14T10:00:00Z' });
    expect(news(later, now)).toBe('52 rankings and 1 ideal answer to learn from; 12 and 1 of them are new since the last cycle began, 2 h ago.');
  });
  it('says why some are not counted', () => {
    expect(leftOut(outlook({}))).toBeNull();
    expect(leftOut(outlook({ rankings_left_out: 1 }))).toMatch(/^1 more ranking isn't learned from/);
    expect(leftOut(outlook({ rankings_left_out: 2 }))).toMatch(/^2 more rankings aren't/);
  });
  it('says nothing starts when nothing is set', () => expect(reasons(outlook({ new_rankings: 9 }), false, now)).toEqual([]));
  it('counts what is missing, and knows when it is there', () => {
    expect(reasons(outlook({ new_rankings: 3, min_new_rankings: 4 }), false, now)).toEqual(['A cycle starts by itself after 1 more ranking.']);
    expect(reasons(outlook({ new_rankings: 5, min_new_rankings: 4 }), false, now)[0]).toContain('in a moment');
    expect(reasons(outlook({ new_rankings: 5, min_new_rankings: 4, queued: 1 }), false, now)[0]).toContain('as soon as the work at hand is done');
  });
  it('waits for a trial', () => {
    expect(reasons(outlook({}), true, now)).toEqual([]);
    const [first, second] = reasons(outlook({ new_rankings: 5, min_new_rankings: 4 }), true, now);
    expect(first).toContain('when the trial is over');
    expect(second).toContain('None starts while');
  });
  it('knows of drift', () => expect(reasons(outlook({ drift: true }), false, now)[0]).toContain('people come to prefer'));
  it('tells the time, and how long until then', () => {
    const [first, second] = reasons(outlook({ min_new_rankings: 4, schedule: '0 3 * * *', next_at: '2026-03-15T03:00:00Z' }), false, now);
    expect(first).toContain('4 more rankings');
    expect(second).toMatch(/^By the clock, one starts .*15 Mar.*, in 15 h\.$/);
    expect(reasons(outlook({ schedule: '0 3 * * *', next_at: '2026-03-14T11:00:00Z' }), false, now)[0]).toContain('as soon as nothing else');
  });
});
