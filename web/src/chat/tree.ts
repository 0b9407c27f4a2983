// A conversation as a tree: an edited question and an answer given again are siblings, and nothing that was said is lost.
// Pure, so that it can be tested without a page.
import type { Message } from '../lib/api/types';

/** One message of a conversation. */
export interface Turn {
  id: string;
  /** The turn that it follows; null at the beginning. */
  parent: string | null;
  role: 'user' | 'assistant';
  content: string;
  /** The logged answer's id; ratings and preferences name it. */
  completion?: string;
  /** Which policy gave the answer. */
  policy?: string;
  thumb?: 'up' | 'down';
  /** Why the thumb, in keywords. */
  tags?: string[];
  /** Why the answer isn't whole, as a sentence. */
  error?: string;
  /** It ended before its end: the person stopped it, or closed the page. */
  stopped?: boolean;
  /** It was said while the chat wasn't recorded. */
  unrecorded?: boolean;
  /** The answer that this one was written beside, until the person says which is better. */
  rival?: string;
}

/** From the first turn to `leaf`; empty when there is no such turn. */
export function pathTo(turns: readonly Turn[], leaf: string | null): Turn[] {
  const byId = new Map(turns.map((turn) => [turn.id, turn]));
  const path: Turn[] = [];
  let at = leaf === null ? undefined : byId.get(leaf);
  // A turn is met once: a damaged tree that points in a circle ends instead of hanging the page.
  while (at && byId.delete(at.id)) {
    path.unshift(at);
    at = at.parent === null ? undefined : byId.get(at.parent);
  }
  return path;
}

/** The versions of a turn, itself among them, oldest first. */
export function siblings(turns: readonly Turn[], turn: Turn): Turn[] {
  return turns.filter((other) => other.parent === turn.parent && other.role === turn.role);
}

/** Of each turn which of its versions it is, from 1, and how many there are. */
export function versions(turns: readonly Turn[]): Map<string, { at: number; of: number }> {
  const groups = new Map<string, Turn[]>();
  for (const turn of turns) {
    const key = `${turn.role} ${turn.parent ?? ''}`;
    const group = groups.get(key);
    if (group) group.push(turn);
    else groups.set(key, [turn]);
  }
  const numbered = (group: Turn[]) => group.map((turn, i) => [turn.id, { at: i + 1, of: group.length }] as const);
  return new Map([...groups.values()].flatMap(numbered));
}

/** The newest end of what follows a turn. */
export function newestLeaf(turns: readonly Turn[], from: string): string {
  let at = from;
  for (let left = turns.length; left > 0; left--) {
    const next = turns.findLast((turn) => turn.parent === at);
    if (!next) return at;
    at = next.id;
  }
  return at;
}

/** What is sent: whole turns only; an answer that failed before its first word is left out. */
export function messagesOf(turns: readonly Turn[], system = ''): Message[] {
  const said = turns.filter((t) => t.content.trim() !== '').map(({ role, content }) => ({ role, content }));
  return system.trim() ? [{ role: 'system', content: system.trim() }, ...said] : said;
}

/** The first words of a message, as a title. */
export function titleOf(text: string): string {
  const line = (text.trim().split('\n', 1)[0] ?? '').replace(/^[#>*\s-]+(?=\S)/, '');
  return line.length > 48 ? `${line.slice(0, 47).trimEnd()}…` : line;
}

/** Two states of one conversation as one: theirs first, and of a turn that both have, ours. */
export function merged(theirs: readonly Turn[], ours: readonly Turn[]): Turn[] {
  const mine = new Map(ours.map((turn) => [turn.id, turn]));
  const known = new Set(theirs.map((turn) => turn.id));
  return [...theirs.map((turn) => mine.get(turn.id) ?? turn), ...ours.filter((turn) => !known.has(turn.id))];
}

/** A title as a file's name. */
export function fileName(title: string): string {
  const plain = title.normalize('NFKD').replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-+|-+$/g, '');
  return plain.slice(0, 60).toLowerCase() || 'chat';
}
