// How something was used in training, in words. Pure, so that it can be tested without a page.
import type { Lineage, PolicyState } from '../lib/api/types';
import { plural } from '../lib/format';

/** What a policy is now. */
export const policyStates: Record<PolicyState, string> = {
  candidate: 'waiting to be promoted',
  champion: 'the one that is served now',
  retired: 'served earlier',
  rejected: 'never served, the gate rejected it',
};

type Used = Lineage['snapshots'][number];
type Part = Lineage['policies'][number]['part'];

/** As what a snapshot holds it. */
export function usedAs(used: Used): string {
  const listed = (rankings: number, demonstrations: number, prompts: string | false) =>
    [rankings > 0 && plural(rankings, 'ranking'), demonstrations > 0 && plural(demonstrations, 'ideal answer'), prompts]
      .filter((part) => part !== false)
      .join(', ');
  const trained = listed(used.rankings, used.demonstrations, used.prompts > 0 && `${plural(used.prompts, 'prompt')} to practise on`);
  const tested = listed(used.held_out_rankings, used.held_out_demonstrations, used.held_out_prompts > 0 && plural(used.held_out_prompts, 'prompt'));
  const said = [
    trained && `trained on: ${trained}`,
    used.judge_rankings > 0 && `for the judge: ${plural(used.judge_rankings, 'ranking')}`,
    tested && `held out for testing: ${tested}`,
  ];
  return said.filter(Boolean).join('; ');
}

/** What a run had to do with it. */
export function runPart({ kind, part, direct }: Lineage['runs'][number]): string {
  if (part === 'held_out') return 'only tested on it';
  if (part === 'judge') return 'the judge, learned from it';
  if (kind === 'evaluate') return 'judged what had learned from it';
  return direct ? 'learned from it' : 'learned from it through an earlier run';
}

/** Policies by what they had to do with it, those that learned from it first and always there. */
export function policyGroups(policies: Lineage['policies']): { title: string; part: Part; policies: Lineage['policies'] }[] {
  const titles: Record<Part, string> = {
    trained: 'Policies that learned from it',
    judge: 'Policies that a judge decided about that learned from it',
    held_out: 'Policies that were only tested on it',
  };
  const parts: readonly Part[] = ['trained', 'judge', 'held_out'];
  const groups = parts.map((part) => ({ title: titles[part], part, policies: policies.filter((p) => p.part === part) }));
  return groups.filter((group) => group.part === 'trained' || group.policies.length > 0);
}
