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

/** As what a snapshot holds it. */
export function usedAs({ rankings, demonstrations, prompts, judge_rankings, held_out }: Lineage['snapshots'][number]): string {
  const trained = [
    rankings > 0 && plural(rankings, 'ranking'),
    demonstrations > 0 && plural(demonstrations, 'ideal answer'),
    prompts > 0 && `${plural(prompts, 'prompt')} to practise on`,
  ].filter((part) => part !== false);
  const said = trained.length > 0 ? [`learned from: ${trained.join(', ')}`] : [];
  if (judge_rankings > 0) said.push(`the judge learned from: ${plural(judge_rankings, 'ranking')}`);
  if (held_out > 0) said.push(`held out, to judge by: ${plural(held_out, 'piece')}`);
  return said.join('; ');
}
