import { expect, test } from 'vitest';
import type { Preferences } from '../lib/api/types';
import { accuracy, drawn, ofLength, share, voices } from './preferences';

const none = { of: 0, pairs: 0 };
const effect = (name: string, mean: number, low: number, high: number) => ({ name, answers: 12, difference: { mean, low, high } });

test('a share is said with its pairs', () => {
  expect(share({ of: 30, pairs: 40 })).toBe('75 % of 40 pairs');
  expect(share({ of: 1, pairs: 1 })).toBe('100 % of 1 pair');
  expect(share(none)).toBeNull();
});

test('what was not measured is said so', () => {
  const half = { of: 5, pairs: 10 };
  const told = (held_out = none, held_out_new_labelers = none, agreement = none) => accuracy({ held_out, held_out_new_labelers, agreement, labelers: {}, rewarded: null });
  expect(told()).toBe('No ranking was held out to test it on. No two people ranked the same answers.');
  expect(told(half, half, half)).toBe(
    'It orders answers that it never saw as people did in 50 % of 10 pairs; in 50 % of 10 pairs where it had learned nothing from that person. People who ranked the same answers agree in 50 % of 10 pairs.',
  );
});

test('length is said to matter only where the interval says so', () => {
  expect(ofLength({ mean: -0.8, low: -0.9, high: -0.7 })).toBe('Longer answers get less reward: correlation −0.8 (95 % interval −0.9 to −0.7).');
  expect(ofLength({ mean: 0.1, low: -0.1, high: 0.3 })).toContain('No sure difference');
});

test('those whose rankings it learned from, the most first', () => {
  const labeler = (rankings: number, role: string | null = null) => ({ role, rankings, held_out_rankings: 2, held_out: none, agreement: none });
  const preferences: Preferences = { agreement: none, held_out: none, held_out_new_labelers: none, labelers: { b: labeler(10), a: labeler(30, 'labeler'), c: labeler(0, 'admin') }, rewarded: null };
  expect(voices(preferences).map(({ name, role, part }) => [name, role, part])).toEqual([
    ['a', 'labeler', 0.75],
    ['b', 'no account any more', 0.25],
  ]);
});

test('what reaches farthest from zero reaches the edge', () => {
  const all = drawn({ flags: [effect('rude', -1, -2, 0)], words: [effect('sea', 0.5, 0.25, 1)] });
  expect(all.map(({ what, name, low, mean, high }) => [what, name, low, mean, high])).toEqual([
    ['flag', 'rude', -1, -0.5, 0],
    ['word', 'sea', 0.125, 0.25, 0.5],
  ]);
  expect(drawn({ flags: [], words: [] })).toEqual([]);
});
