import { expect, it } from 'vitest';
import type { Lineage } from '../lib/api/types';
import { policyGroups, runPart, usedAs } from './learned';

it('tells what was trained on, what was the judge’s, and what was only tested on', () => {
  const none = { sha256: 's', created_at: '', rankings: 0, demonstrations: 0, prompts: 0, judge_rankings: 0, held_out_rankings: 0, held_out_demonstrations: 0, held_out_prompts: 0 };
  expect(usedAs({ ...none, rankings: 1, prompts: 2 })).toBe('trained on: 1 ranking, 2 prompts to practise on');
  expect(usedAs({ ...none, judge_rankings: 1 })).toBe('for the judge: 1 ranking');
  expect(usedAs({ ...none, held_out_rankings: 1, held_out_prompts: 1 })).toBe('held out for testing: 1 ranking, 1 prompt');
  expect(usedAs({ ...none, demonstrations: 3, judge_rankings: 2, held_out_demonstrations: 2 })).toBe(
    'trained on: 3 ideal answers; for the judge: 2 rankings; held out for testing: 2 ideal answers',
  );
});

it('says what a run had to do with it', () => {
  const run = { id: 'r', kind: 'reward', state: 'succeeded', created_at: '', part: 'trained', direct: true } as const;
  expect(runPart(run)).toBe('learned from it');
  expect(runPart({ ...run, direct: false })).toContain('through an earlier run');
  expect(runPart({ ...run, part: 'held_out' })).toBe('only tested on it');
  expect(runPart({ ...run, kind: 'judge', part: 'judge' })).toContain('the judge');
  expect(runPart({ ...run, kind: 'evaluate', direct: false })).toBe('judged what had learned from it');
});

it('lists policies apart by what they had to do with it', () => {
  const policy = (id: string, part: Lineage['policies'][number]['part']) => ({ id, part, state: 'champion' as const, direct: true, created_at: '' });
  const groups = policyGroups([policy('a', 'held_out'), policy('b', 'held_out'), policy('c', 'judge')]);
  expect(groups.map((g) => [g.part, g.policies.length])).toEqual([['trained', 0], ['judge', 1], ['held_out', 2]]);
  expect(policyGroups([]).map((g) => g.part)).toEqual(['trained']);
});
