// Which curves are shown, out of all that a run writes: those that tell whether it goes well.
import type { JobView, Phase } from '../lib/api/types';
import type { Point } from './chart';

/** A chart with its curves. */
export interface Chart {
  title: string;
  about: string;
  curves: { name: string; points: readonly Point[] }[];
  /** Its phase is at work now. */
  live: boolean;
}

interface Plan {
  kind: Phase['kind'];
  title: string;
  about: string;
  /** Name shown -> the metric's names, the first that is there counts. */
  lines: Record<string, string[]>;
}

const plans: readonly Plan[] = [
  {
    kind: 'reward',
    title: 'Reward model: accuracy',
    about: 'How often the reward model prefers what people preferred. Held out is what counts.',
    lines: { 'held out': ['evaluate/accuracy'], training: ['accuracy'] },
  },
  {
    kind: 'reward',
    title: 'Reward model: loss',
    about: 'Falls while it learns; 0.69 is guessing.',
    lines: { 'held out': ['evaluate/loss'], training: ['loss'] },
  },
  {
    kind: 'ppo',
    title: 'PPO: reward',
    about: 'The reward model’s score of the policy’s answers. It should rise.',
    lines: { score: ['objective/scores'], 'after KL': ['objective/rlhf_reward'] },
  },
  {
    kind: 'ppo',
    title: 'PPO: KL from the reference',
    about: 'How far the policy has moved, in nats per answer. It should rise slowly and stay bounded.',
    lines: { KL: ['objective/kl'] },
  },
  {
    kind: 'ppo',
    title: 'PPO: answer length',
    about: 'In tokens. A reward that only grows because answers do is a warning.',
    lines: { mean: ['response_tokens'], 'longest 5 %': ['response_tokens_p95'] },
  },
  {
    kind: 'ppo',
    title: 'PPO: entropy',
    about: 'In nats per answer. Near 0, the policy says one thing only.',
    lines: { entropy: ['objective/entropy'] },
  },
  {
    kind: 'ppo',
    title: 'PPO: value loss',
    about: 'How wrong the guess of the coming reward is. It should fall.',
    lines: { value: ['loss/value_avg'] },
  },
  {
    kind: 'ppo',
    title: 'PPO: explained variance',
    about: 'How much of the rewards the value function foresees: 1 is all, 0 is none.',
    lines: { explained: ['val/explained_variance'] },
  },
];

const sft: Plan = {
  kind: 'sft',
  title: 'SFT: loss',
  about: 'Falls while the policy learns to imitate the ideal answers.',
  lines: { 'held out': ['evaluate/loss'], training: ['loss'] },
};

/** The charts of a job: the reward model's and PPO's, and SFT's where it ran. */
export function charts(view: JobView): Chart[] {
  const ran = new Set(view.phases.map((p) => p.kind));
  const wanted = view.kind === 'cycle' ? [...(ran.has('sft') ? [sft] : []), ...plans] : [sft, ...plans].filter((p) => p.kind === view.kind || ran.has(p.kind));
  return wanted.map(({ kind, title, about, lines }) => {
    const run = view.phases.findLast((p) => p.kind === kind);
    const points = (names: string[]) => names.map((n) => run?.curves[n]).find((c) => c !== undefined) ?? [];
    const curves = Object.entries(lines).map(([name, names]) => ({ name, points: points(names) }));
    return { title, about, curves, live: view.phase === kind };
  });
}
