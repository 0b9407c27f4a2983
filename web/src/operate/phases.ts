// The loop's stations and how a job's phase names map to them; pure, so that it can be tested.
import type { Job, JobState } from '../lib/api/types';

/** A station of the loop, in order. */
export type Station = 'feedback' | 'sft' | 'reward' | 'ppo' | 'gate' | 'served';

/** The stations in order, with what happens there. */
export const stations: readonly { id: Station; name: string; does: string }[] = [
  { id: 'feedback', name: 'Feedback', does: 'Rankings and ideal answers, frozen into a snapshot' },
  { id: 'sft', name: 'SFT', does: 'Learns to imitate the ideal answers' },
  { id: 'reward', name: 'Reward model', does: 'Learns which answers people rank higher' },
  { id: 'ppo', name: 'PPO', does: 'Moves the policy towards higher reward, not too far' },
  { id: 'gate', name: 'Gate', does: 'Judges it on prompts that were never trained on' },
  { id: 'served', name: 'Served', does: 'Answers people, until a better one passes' },
];

const byPhase: Record<string, Station> = {
  snapshot: 'feedback',
  sft: 'sft',
  reward: 'reward',
  judge: 'reward',
  ppo: 'ppo',
  evaluate: 'gate',
  gate: 'gate',
  promote: 'served',
  canary: 'served',
};

/** The station where a job is at work, or null when it isn't. */
export function stationOf(job: Pick<Job, 'state' | 'phase'> | null): Station | null {
  if (!job || job.state !== 'running') return null;
  return byPhase[job.phase] ?? null;
}

/** A job's kind in words. */
export const kindNames: Record<Job['kind'] | 'judge', string> = {
  cycle: 'Full cycle',
  sft: 'SFT',
  reward: 'Reward model',
  judge: 'Judge',
  ppo: 'PPO',
  evaluate: 'Evaluation',
};

/** What a job's state means, in words. */
export const stateNames: Record<JobState, string> = {
  queued: 'Waiting',
  running: 'Running',
  succeeded: 'Succeeded',
  failed: 'Failed',
  cancelled: 'Cancelled',
  rejected: 'Rejected by the gate',
};

/** A job's phase in words. */
export function phaseName(phase: string): string {
  const names: Record<string, string> = {
    queued: 'Waiting for its turn',
    snapshot: 'Freezing the data',
    sft: 'Training on ideal answers',
    reward: 'Training the reward model',
    judge: 'Training the judge',
    ppo: 'Optimising with PPO',
    evaluate: 'Judging on held-out prompts',
    gate: 'At the gate: does it serve what was trained, and is it better?',
    promote: 'Swapping the new policy in',
    canary: 'Letting people decide',
  };
  const words = names[phase] ?? phase.replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Whether nothing will happen to a job any more. */
export function isFinal(state: JobState): boolean {
  return state !== 'queued' && state !== 'running';
}
