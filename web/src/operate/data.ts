// What the data room asks the server for.
import { call, send } from '../lib/api/client';
import type { DataItem, DataItemWhole, Gold, Imported, Lineage, Preferences } from '../lib/api/types';

/** Which pieces of feedback are wanted; an empty text leaves a condition out. */
export interface Filter {
  q: string;
  source: '' | DataItem['source'];
  person: string;
  excluded: '' | 'true' | 'false';
}

/** How each piece came, in words. */
export const sources: Record<DataItem['source'], string> = {
  chat: 'Chat',
  comparison: 'Comparison',
  queue: 'Labeling queue',
  import: 'Import',
  demonstration: 'Ideal answer',
};

export function list(filter: Filter, offset: number): Promise<{ prompts: DataItem[]; total: number }> {
  const wanted = Object.entries(filter).filter(([, value]) => value !== '');
  return call(`/v1/prompts?${new URLSearchParams([...wanted, ['limit', '25'], ['offset', String(offset)]])}`);
}

/** Leaves a piece of feedback, or a person's, out of training, or lets it back in. */
export function setExcluded(id: string, excluded: boolean, reason: string): Promise<unknown> {
  return call(excluded ? '/v1/exclusions' : '/v1/exclusions/restore', { method: 'POST', body: { ids: [id], reason } });
}

/** One piece with its answers and their ranking. */
export function whole(id: string): Promise<DataItemWhole> {
  return call(`/v1/prompts/${encodeURIComponent(id)}`);
}

/** The gold questions, newest first. */
export async function goldQuestions(): Promise<Gold[]> {
  return (await call<{ gold: Gold[] }>('/v1/labeling/gold')).gold;
}

/** Makes a ranked comparison a gold question, with its ranking as the expected one, or an ordinary one again. */
export function setGold(comparison: string, gold: boolean): Promise<unknown> {
  const path = `/v1/labeling/gold/${encodeURIComponent(comparison)}`;
  return gold ? call(path, { method: 'PUT', body: {} }) : call(path, { method: 'DELETE' });
}

/** Where something came from, and what learned from it. */
export function lineage(id: string): Promise<Lineage> {
  return call(`/v1/lineage/${encodeURIComponent(id)}`);
}

/** Whose preferences the reward model behind a policy holds, and what it rewards. */
export function preferences(policy: string): Promise<Preferences> {
  return call(`/v1/policies/${encodeURIComponent(policy)}/preferences`);
}

/** Reads rankings and ideal answers from a file of lines. */
export async function importLines(file: File, skipBad: boolean): Promise<Imported> {
  const answer = await send(`/v1/data/import?skip_bad=${skipBad}`, await file.text(), 'application/x-ndjson');
  return (await answer.json()) as Imported;
}

/** One bar per day, the days without any among them: from the first day that has some, 14 days at least. */
export function byDay(days: readonly { day: string; rankings: number }[], today: Date = new Date()): { label: string; value: number }[] {
  const counts = new Map<string, number>();
  for (const { day, rankings } of days) counts.set(day, (counts.get(day) ?? 0) + rankings);
  const oneDay = 86_400_000;
  const end = Date.UTC(today.getUTCFullYear(), today.getUTCMonth(), today.getUTCDate());
  const first = days.length > 0 ? Math.min(...days.map((d) => Date.parse(`${d.day}T00:00:00Z`))) : end;
  const bars = [];
  for (let at = Math.min(first, end - 13 * oneDay); at <= end; at += oneDay) {
    const date = new Date(at);
    const label = date.toLocaleDateString('en-GB', { day: 'numeric', month: 'short', timeZone: 'UTC' });
    bars.push({ label, value: counts.get(date.toISOString().slice(0, 10)) ?? 0 });
  }
  return bars;
}
