// The wire types the pages use: generated from the server's OpenAPI snapshot (`npm run types`), under short names. What the
// snapshot calls an object without saying more (figures, settings, the gate's report) is said here.
import type { components } from './schema';

type Schemas = components['schemas'];
/** A generated type with some of its fields said more exactly. */
type With<T, Exact> = Omit<T, keyof Exact> & Exact;

export type User = Schemas['Me'];
export type Role = User['role'];
export type SessionAnswer = Schemas['SessionAnswer'];
export type Message = Schemas['MessageOut'];
export type Candidate = Schemas['CandidateBody'];
export type Comparison = Schemas['ComparisonBody'];
export type ComparisonEvent = Schemas['ComparisonEvent'];
/** What a ranking is answered with: who wrote what. */
export type Revealed = Schemas['RankingAnswer'];
/** What was erased of a person, and what had learned from it. */
export type Erasure = Schemas['Erasure'];
export type JobKind = Schemas['JobKind'];
export type JobState = Schemas['JobState'];
export type PolicyState = Schemas['PolicyState'];
export type Stats = Schemas['Stats'];
/** What a challenger gets of the champion's traffic. */
export type Traffic = Schemas['Traffic'];
export type Duel = Schemas['Duel'];
export type Trial = Schemas['Trial'];
/** The bounds within which people's rankings decide about a challenger. */
export type Bounds = Schemas['Bounds'];
/** Why nothing happens by itself, who stopped it and when. */
export type Frozen = Schemas['Frozen'];
/** An answer that a challenger wrote in the shadow, beside the one that was shown. */
export type Shadow = With<Schemas['Shadow'], { messages: Message[] }>;

/** A conversation in the list, and one with its turns. */
export type ConversationEntry = Schemas['ConversationEntry'];
export type ConversationTurn = Schemas['ConversationTurn'];
export type Conversation = With<Schemas['ConversationBody'], { turns: ConversationTurn[] }>;

/** A task of the labeling queue, and how far its labeler is. */
export type LabelingTask = With<Schemas['TaskBody'], { messages: Message[] }>;
export type LabelingProgress = Schemas['Progress'];
export type Agreement = Schemas['Agreement'];
export type Guidelines = Schemas['Guidelines'];

/** What operators look through: a piece of feedback, and who gave how much of it. */
export type DataItem = With<Schemas['DataItem'], { messages: Message[] }>;
export type LabelerReport = Schemas['LabelerReport'];
export type Imported = Schemas['ImportBody'];

/** A comparison whose ranking is known, to measure labelers by; and a piece of feedback with its answers. */
export type Gold = With<Schemas['GoldBody'], { messages: Message[] }>;
export type DataItemWhole = With<Schemas['PromptBody'], { messages: Message[] }>;
/** Where something came from, and what learned from it. */
export type Lineage = Schemas['Lineage'];

/** What admins manage. */
export type Person = Schemas['PersonBody'];
export type Credential = Schemas['Credential'];
export type AuditEntry = With<Schemas['AuditEntry'], { detail: Record<string, unknown> }>;

/** One piece of a streamed chat answer: OpenAI's chat.completion.chunk, or the error that ended it. */
export interface ChatChunk {
  id: string;
  choices: { delta: { content?: string | null } }[];
  error?: Schemas['ErrorDetail'];
}

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

export type Job = With<Schemas['Job'], { progress?: Progress | null; work: Record<string, unknown> }>;
export type JobList = { jobs: Job[] };

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

export type Policy = With<Schemas['Policy'], { gate_report?: GateReport | null; config: Record<string, unknown>; metrics: Record<string, unknown> }>;
export type PolicyList = With<Schemas['PolicyList'], { policies: Policy[] }>;

/** One held-out prompt, answered by the old policy and by the new one. */
export interface Sample {
  messages: Message[];
  old: string;
  new: string;
  reward_old: number;
  reward_new: number;
}

/** A mean with its 95 % interval. */
export interface Estimate {
  mean: number;
  low: number;
  high: number;
}

/** The old policy against the new one on held-out prompts, with some of the answers. */
export interface Evaluation {
  win_rate: Estimate;
  n: number;
  samples: Sample[];
}

export type PairShare = Schemas['PairShare'];
/** An answer with its reward. */
export interface Shown {
  prompt: string;
  answer: string;
  reward: number;
  tokens: number;
}
/** By how much answers with a flag or word are rewarded more. */
export interface Effect {
  name: string;
  answers: number;
  difference: Estimate;
}
/** What a reward model rewards. */
export interface Rewarded {
  of_training: boolean;
  answers: number;
  prompts: number;
  most_liked: Shown[];
  least_liked: Shown[];
  length_correlation: Estimate | null;
  flags: Effect[];
  words: Effect[];
}
/** Whose preferences a reward model holds, and what it rewards. */
export type Preferences = With<Schemas['Preferences'], { rewarded?: Rewarded | null }>;

/** Metric -> points of (step, value). */
export type Curves = Record<string, [number, number][]>;

/** A phase of a job that is a training run. */
export type Phase = With<Schemas['PhaseView'], { curves: Curves; metrics?: Record<string, unknown> | null }>;

/** What the loop does now, and what is next. */
export type Outlook = Schemas['LoopBody'];
export type LogLine = Schemas['LogLine'];

/** A job with its runs, their curves, and the policy that it made. */
export type JobView = Job & { phases: Phase[]; policy?: Policy | null; evaluation?: Evaluation | null };
