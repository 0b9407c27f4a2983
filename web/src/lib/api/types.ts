// The wire types the pages use.

/** What a person may do, in rising order. */
export type Role = 'user' | 'labeler' | 'operator' | 'admin';

export interface User {
  id: string;
  name: string;
  role: Role;
}

export interface SessionAnswer {
  user: User;
}

export interface Message {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

/** One piece of a streamed chat answer (OpenAI's chat.completion.chunk). */
export interface ChatChunk {
  id: string;
  system_fingerprint?: string | null;
  choices: { delta: { content?: string | null }; finish_reason?: string | null }[];
  error?: { message: string };
}

export interface Candidate {
  id: string;
  content: string;
  policy?: string | null;
}

export interface Comparison {
  id: string;
  messages: Message[];
  candidates: Candidate[];
  ranking?: unknown;
}

/** One piece of a comparison that streams. */
export type ComparisonEvent =
  | { type: 'comparison'; id: string; candidates: { id: string }[] }
  | { type: 'delta'; candidate: string; content: string }
  | { type: 'done'; candidate: string; finish_reason: string }
  | { type: 'complete'; id: string; candidates: Candidate[] }
  | { type: 'error'; error: { message: string } };

/** What a ranking is answered with: who wrote what. */
export interface Revealed {
  candidates: Candidate[];
}

export type JobKind = 'sft' | 'reward' | 'ppo' | 'evaluate' | 'cycle';
export type JobState = 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'rejected';

/** The newest report of a running step. */
export interface Progress {
  phase: string;
  step: number;
  steps_total: number;
  rate: number;
  rate_unit: string;
  seconds_left: number;
  metrics: Record<string, number>;
}

export interface Job {
  id: string;
  kind: JobKind;
  state: JobState;
  phase: string;
  params: Record<string, unknown>;
  work: Record<string, unknown>;
  progress: Progress | null;
  reason: string;
  error: string | null;
  cancel_requested: boolean;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
}

export type PolicyState = 'candidate' | 'champion' | 'retired' | 'rejected';

export interface Policy {
  id: string;
  base_name: string;
  parent_id: string | null;
  run_id: string | null;
  snapshot_sha256: string | null;
  config: Record<string, unknown>;
  metrics: Record<string, unknown>;
  gate_report: GateReport | null;
  state: PolicyState;
  created_at: string;
  promoted_at: string | null;
}

/** One rule of the gate and how the policy did. */
export interface Rule {
  name: string;
  statistic: number;
  threshold: number;
  n: number;
  passed: boolean;
  sentence: string;
}

/** What the gate said, rule by rule, and the figures that it decided on. */
export interface GateReport {
  passed: boolean;
  rules: Rule[];
  inputs: {
    prompts: number;
    reward_gain: number;
    reward_gain_interval: [number, number];
    kl_nats: number;
    tokens_old: number;
    tokens_new: number;
  };
}

/** One held-out prompt, answered by the old policy and by the new one. */
export interface Sample {
  messages: Message[];
  old: string;
  new: string;
  reward_old: number;
  reward_new: number;
}

/** Metric -> points of (step, value). */
export type Curves = Record<string, [number, number][]>;

/** A phase of a job that is a training run. */
export interface Phase {
  id: string;
  kind: 'sft' | 'reward' | 'ppo' | 'evaluate';
  state: string;
  seed: number;
  error: string | null;
  metrics: Record<string, unknown> | null;
  created_at: string;
  finished_at: string | null;
  curves: Curves;
}

/** A job with its runs, their curves, and the policy that it made. */
export interface JobView extends Job {
  phases: Phase[];
  policy: Policy | null;
}

export interface PolicyList {
  champion: string;
  challenger: string | null;
  policies: Policy[];
}

export interface Stats {
  users: number;
  completions: number;
  comparisons: number;
  rankings: number;
  not_rankable: number;
  demonstrations: number;
  thumbs_up: number;
  thumbs_down: number;
}
