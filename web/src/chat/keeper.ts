// Where conversations are kept: on the server, each as one document with a revision. What the server doesn't have yet lies in
// this browser too, so that neither a closed tab nor a lost connection loses a word; it is sent when the server is there again.
import { ApiError, call } from '../lib/api/client';
import type { Conversation, ConversationEntry, ConversationTurn } from '../lib/api/types';
import { forget, keys, load as stored, save as store } from '../lib/storage';
import { merged, type Turn } from './tree';

/** How the answers of a conversation are drawn; what isn't set is the server's default. */
export interface Sampling {
  temperature?: number;
  top_p?: number;
  max_tokens?: number;
  seed?: number;
}

/** A conversation. */
export interface Chat {
  id: string;
  /** The server's count of changes; 0 before the server has it. */
  revision: number;
  title: string;
  updated: string;
  /** False: answered, but never logged for training. */
  recorded: boolean;
  /** What the model is told before everything else. */
  system: string;
  sampling: Sampling;
  /** All turns, siblings included, in the order they were made. Empty until `loaded`. */
  turns: Turn[];
  /** The end of the branch that is shown. */
  leaf: string | null;
  loaded: boolean;
}

const path = (id: string) => `/v1/conversations/${encodeURIComponent(id)}`;

/** A conversation as the list shows it, to be loaded when it is opened. */
export function fromEntry({ id, revision, title, record, updated_at }: ConversationEntry): Chat {
  return { id, revision, title, updated: updated_at, recorded: record, system: '', sampling: {}, turns: [], leaf: null, loaded: false };
}

function fromWire(body: Conversation): Chat {
  const turns = body.turns.map(({ extra, parent, completion, policy, thumb, ...rest }): Turn => ({
    ...(extra as Partial<Turn> | null | undefined),
    ...rest,
    parent: parent ?? null,
    ...(completion ? { completion } : {}),
    ...(policy ? { policy } : {}),
    ...(thumb ? { thumb } : {}),
  }));
  const sampling = (body.sampling ?? {}) as Sampling;
  return { ...fromEntry(body), system: body.system ?? '', sampling, turns, leaf: body.shown ?? turns.at(-1)?.id ?? null, loaded: true };
}

function toWire({ revision, title, recorded, system, sampling, turns, leaf }: Chat): object {
  const wire = turns.map(({ id, parent, role, content, completion, policy, thumb, ...extra }): ConversationTurn => ({
    id, parent, role, content,
    ...(completion ? { completion } : {}),
    ...(policy ? { policy } : {}),
    ...(thumb ? { thumb } : {}),
    ...(Object.keys(extra).length > 0 ? { extra } : {}),
  }));
  return { revision, title, record: recorded, system, sampling, shown: leaf, turns: wire };
}

/** A part of a person's conversations, the last changed first; only those with `wanted` in them, if it isn't empty. */
export async function list(wanted: string, offset: number): Promise<{ chats: Chat[]; total: number }> {
  const query = new URLSearchParams({ limit: '100', offset: String(offset), ...(wanted ? { q: wanted } : {}) });
  const page = await call<{ conversations: ConversationEntry[]; total: number }>(`/v1/conversations?${query}`);
  return { chats: page.conversations.map(fromEntry), total: page.total };
}

/** A whole conversation. */
export async function load(id: string): Promise<Chat> {
  return fromWire(await call<Conversation>(path(id)));
}

export async function rename(id: string, title: string): Promise<number> {
  return (await call<ConversationEntry>(`${path(id)}/title`, { method: 'PUT', body: { title } })).revision;
}

/** Removes a conversation with its logged answers. `leaving`: the page is about to close. */
export async function remove(person: string, id: string, leaving = false): Promise<void> {
  forget(unsent(person, id));
  try {
    await call(path(id), { method: 'DELETE', keepalive: leaving });
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 404)) throw error;
  }
}

/** A conversation as a text to take along. */
export async function exported(id: string, format: 'json' | 'markdown'): Promise<string> {
  const answer = await fetch(`${path(id)}/export?format=${format}`, { credentials: 'same-origin' });
  if (!answer.ok) throw new ApiError('This chat could not be exported. Try again.', answer.status);
  return answer.text();
}

const unsent = (person: string, id: string) => `unsent.${person}.${id}`;

/** Keeps in this browser what the server doesn't have yet. */
export function jot(person: string, chat: Chat): void {
  store(unsent(person, chat.id), chat);
}

/** Conversations with words that never reached the server; those of the time before it kept any are among them. */
export function jotted(person: string): Chat[] {
  const old = keys(`chat.${person}.`);
  for (const key of old) {
    const chat = stored<Older | null>(key, null);
    if (chat && chat.turns.length > 0) jot(person, fromOlder(chat));
    forget(key);
  }
  return keys(`unsent.${person}.`).map((key) => stored<Chat | null>(key, null)).filter((chat) => chat !== null);
}

/** A conversation as this browser kept it before the server did: one line of turns without names. */
interface Older extends Pick<Chat, 'id' | 'title' | 'updated' | 'recorded'> {
  turns: Omit<Turn, 'id' | 'parent'>[];
}

function fromOlder({ id, title, updated, recorded, turns }: Older): Chat {
  const named = turns.map((turn, i): Turn => ({ ...turn, id: `t${i}`, parent: i === 0 ? null : `t${i - 1}` }));
  return { id, revision: 0, title, updated, recorded, system: '', sampling: {}, turns: named, leaf: named.at(-1)?.id ?? null, loaded: true };
}

/** Forgets what this browser kept of a conversation, because the server has it. */
export function sent(person: string, id: string): void {
  forget(unsent(person, id));
}

/** Sends a conversation; where another window was faster, its turns and ours are put together. Gives what the server has then. */
export async function send(chat: Chat): Promise<{ revision: number; turns: Turn[] }> {
  let ours = chat;
  for (let tries = 3; ; tries--) {
    try {
      const { revision } = await call<ConversationEntry>(path(chat.id), { method: 'PUT', body: toWire(ours) });
      return { revision, turns: ours.turns };
    } catch (error) {
      if (!(error instanceof ApiError) || tries === 0) throw error;
      // Deleted in another window while this one went on with it: it is new again.
      if (error.status === 404 && ours.revision > 0) ours = { ...ours, revision: 0 };
      else if (error.status === 409) {
        const theirs = await load(chat.id);
        ours = { ...ours, revision: theirs.revision, turns: merged(theirs.turns, ours.turns) };
      } else throw error;
    }
  }
}
