import { expect, it } from 'vitest';
import type { Gold } from '../lib/api/types';
import { order, results, verdict } from './gold';

type Result = Gold['results'][number];
const result = (agreed: number, pairs: number, ranking: string[][] | null = [['a'], ['b']]): Result => ({ user: 'u', name: 'lea', at: '', agreement: { pairs, agreed }, ranking });

it('counts who ranked a gold question as expected', () => {
  expect(results({ results: [] })).toBe('nobody has had it yet');
  expect(results({ results: [result(3, 3), result(2, 3), result(0, 0, null)] })).toBe('1 of 3 labelers ranked it as expected');
});

it('says how each did, and what they said instead', () => {
  expect(verdict(result(3, 3))).toBe('as expected');
  expect(verdict(result(2, 3))).toBe('2 of 3 pairs as expected');
  expect(verdict(result(0, 0, null))).toContain('can’t be ranked');
  expect(order([['z'], ['x', 'y']], [['x'], ['y'], ['z']])).toBe('C > A = B');
});
