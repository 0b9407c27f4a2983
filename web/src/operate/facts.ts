// What each station of the loop holds, in a few words.
import { count, metric, percent, shortId, signed } from '../lib/format';
import type { Job, JobView, Outlook, Policy } from '../lib/api/types';
import type { Station } from './phases';

/** A figure and what it is. */
export interface Fact {
  big: string;
  small: string;
}

function newest(view: JobView | null, kind: 'sft' | 'reward' | 'ppo', names: string[]): number | null {
  const phase = view?.phases.findLast((p) => p.kind === kind);
  for (const name of names) {
    const value = phase?.curves[name]?.at(-1)?.[1];
    if (value !== undefined) return value;
  }
  return null;
}

/** The loop's figures: from what there is to learn from, the shown job's curves, and the newest policy that was judged. */
export function facts(outlook: Outlook | null, view: JobView | null, policies: readonly Policy[], champion: Policy | null): Record<Station, Fact> {
  const accuracy = newest(view, 'reward', ['evaluate/accuracy', 'accuracy']);
  const kl = newest(view, 'ppo', ['objective/kl']);
  const loss = newest(view, 'sft', ['evaluate/loss', 'loss']);
  const judged = [...policies].sort((a, b) => b.created_at.localeCompare(a.created_at)).find((p) => p.gate_report);
  const gate = judged?.gate_report;
  return {
    feedback: { big: outlook ? count(outlook.rankings) : '–', small: outlook?.rankings === 1 ? 'ranking' : 'rankings' },
    sft: {
      big: outlook ? count(outlook.demonstrations) : '–',
      small: `${outlook?.demonstrations === 1 ? 'ideal answer' : 'ideal answers'}${loss === null ? '' : `, loss ${metric(loss)}`}`,
    },
    reward: accuracy === null ? { big: '–', small: 'no reward model yet' } : { big: percent(accuracy), small: 'agrees with people' },
    ppo: kl === null ? { big: '–', small: 'not run yet' } : { big: metric(kl), small: 'nats of KL' },
    gate: gate ? { big: gate.passed ? 'Passed' : 'Rejected', small: `reward ${signed(gate.inputs.reward_gain)}` } : { big: '–', small: 'nothing judged yet' },
    served: served(champion),
  };
}

function served(champion: Policy | null): Fact {
  if (!champion) return { big: '–', small: '' };
  return champion.parent_id ? { big: shortId(champion.id), small: 'learned here' } : { big: 'Base model', small: champion.base_name };
}

/** The job that made a policy, if it is among these. */
export function jobOf(jobs: readonly Job[], policy: string): Job | null {
  return jobs.find((j) => j.work['policy'] === policy) ?? null;
}

/** The page about why a policy was promoted or rejected; null for one that neither the gate nor people have judged. */
export function decisionOf({ id, gate_report, trial }: Pick<Policy, 'id' | 'gate_report' | 'trial'>): string | null {
  return gate_report || trial ? `/v1/policies/${encodeURIComponent(id)}/report` : null;
}
