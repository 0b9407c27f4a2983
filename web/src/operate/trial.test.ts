import { expect, it } from 'vitest';
import type { Trial } from '../lib/api/types';
import { defaults, problem, progress, putUp } from './trial';

it('says what is wrong with bounds, and nothing of good ones', () => {
  expect(problem(defaults)).toBeNull();
  expect(problem({ ...defaults, comparisons_min: 500 })).toContain('after 400 votes');
  expect(problem({ ...defaults, comparisons_min: 1.5 })).toContain('how many votes');
  expect(problem({ ...defaults, comparisons_max: Number.NaN })).toContain('how many votes');
  expect(problem({ ...defaults, hours_max: 0 })).toContain('how many days');
});

it('tells how far a trial is', () => {
  const trial = { since: '2026-01-01T00:00:00Z', score: { wins: 3, losses: 1, ties: 1 }, bounds: { ...defaults, hours_max: 48 } } as Trial;
  expect(progress(trial, new Date('2026-01-01T12:00:00Z'))).toBe('5 of at most 400 votes, 1 d 12 h left');
  expect(progress(trial, new Date('2026-01-04T00:00:00Z'))).toContain('its time is up');
});

it('says who put a challenger up', () => {
  expect(putUp(null)).toBe('');
  expect(putUp('olga')).toBe('olga put it up.');
  expect(putUp('canary')).toContain('passed the gate');
  expect(putUp('drift')).toContain('served before the champion');
});
