import { expect, it } from 'vitest';
import { usedAs } from './learned';

it('says what was learned from, and what was only judged by', () => {
  const none = { sha256: 's', created_at: '', rankings: 0, demonstrations: 0, prompts: 0, judge_rankings: 0, held_out: 0 };
  expect(usedAs({ ...none, rankings: 1, prompts: 2 })).toBe('learned from: 1 ranking, 2 prompts to practise on');
  expect(usedAs({ ...none, judge_rankings: 1 })).toBe('the judge learned from: 1 ranking');
  expect(usedAs({ ...none, held_out: 1 })).toBe('held out, to judge by: 1 piece');
  expect(usedAs({ ...none, demonstrations: 3, held_out: 2 })).toBe('learned from: 3 ideal answers; held out, to judge by: 2 pieces');
});
