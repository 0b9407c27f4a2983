// The labeling queue as the server hands it out: one leased task at a time.
import { call } from '../lib/api/client';
import type { LabelingTask, Guidelines, LabelingProgress } from '../lib/api/types';

/** What is wanted: an order of answers, or an answer. */
export type Kind = LabelingTask['kind'];

const path = (task: string, what: string) => `/v1/labeling/${encodeURIComponent(task)}/${what}`;

/** The task at hand, or the next one; null when there is none. Asking again prolongs its lease. */
export async function next(kind: Kind): Promise<LabelingTask | null> {
  return (await call<{ task?: LabelingTask | null }>(`/v1/labeling/next?kind=${kind}`)).task ?? null;
}

/** Ends a ranking task. */
export function rank(task: LabelingTask, body: Record<string, unknown>): Promise<unknown> {
  return call(path(task.id, 'ranking'), { method: 'POST', body });
}

/** Ends a task that asks for an answer. */
export function demonstrate(task: LabelingTask, ideal: string): Promise<unknown> {
  return call(path(task.id, 'ideal'), { method: 'POST', body: { ideal } });
}

/** Passes a task over. */
export function skip(task: string, reason: string): Promise<unknown> {
  return call(path(task, 'skip'), { method: 'POST', body: { reason } });
}

/** Takes back what was sent last; the task is the labeler's again. */
export function undo(): Promise<LabelingTask> {
  return call<LabelingTask>('/v1/labeling/undo', { method: 'POST' });
}

/** Puts a prompt of the labeler's own into the queue. */
export function propose(prompt: string): Promise<unknown> {
  return call('/v1/labeling/prompts', { method: 'POST', body: { messages: [{ role: 'user', content: prompt }] } });
}

export function progress(): Promise<LabelingProgress> {
  return call<LabelingProgress>('/v1/labeling/progress');
}

export function guidelines(): Promise<Guidelines> {
  return call<Guidelines>('/v1/labeling/guidelines');
}

/** Writes the guidelines; an empty text brings the server's own back. */
export function writeGuidelines(text: string): Promise<Guidelines> {
  return call<Guidelines>('/v1/labeling/guidelines', { method: 'PUT', body: { text } });
}
