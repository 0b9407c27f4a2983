// The conversations of the person who is signed in, and what can be done with them.
import { ApiError, call, explain } from '../lib/api/client';
import type { Comparison } from '../lib/api/types';
import { newId } from '../lib/browser';
import { stream } from './answer';
import { Saver } from './saver.svelte';
import * as keeper from './keeper';
import type { Chat, Sampling } from './keeper';
import { messagesOf, newestLeaf, pathTo, siblings, titleOf, type Turn } from './tree';

/** How a conversation begins. */
export interface Beginning {
  recorded: boolean;
  system: string;
  sampling: Sampling;
}

class Chats {
  list = $state<Chat[]>([]);
  /** The server has more conversations than are in the list. */
  more = $state(false);
  /** Why the list couldn't be loaded. */
  problem = $state<string | null>(null);
  /** The conversation that couldn't be loaded, and why. */
  broken = $state<{ id: string; why: string } | null>(null);
  readonly saver = new Saver((id) => this.get(id));
  /** Running answers by conversation. */
  #running = $state<Record<string, AbortController>>({});
  #loading = new Map<string, Promise<Chat>>();
  #person = '';

  /** Loads a person's conversations; what this browser couldn't send before is sent now. */
  async openFor(person: string): Promise<void> {
    if (this.#person === person) return;
    this.#person = person;
    this.list = [];
    this.saver.openFor(person);
    for (const chat of keeper.jotted(person)) {
      this.list.push(chat);
      this.saver.touch(chat.id);
    }
    await this.refresh();
  }

  /** Looks for what other windows have changed. */
  async refresh(): Promise<void> {
    const person = this.#person;
    try {
      const { chats, total } = await keeper.list('', 0);
      if (person !== this.#person) return;
      this.take(chats);
      this.more = total > this.list.length;
      this.problem = null;
    } catch (error) {
      this.problem = explain(error);
    }
  }

  /** The next part of the list. */
  async loadMore(): Promise<void> {
    try {
      const { chats, total } = await keeper.list('', this.list.length);
      this.take(chats);
      this.more = chats.length > 0 && total > this.list.length;
    } catch (error) {
      this.problem = explain(error);
    }
  }

  /** Adds what the server has to the list, in its place; what is open here stays as it is unless the server's is newer. */
  take(entries: readonly Chat[]): void {
    for (const entry of entries) {
      const known = this.get(entry.id);
      if (!known) this.list.push(entry);
      else if (known.revision < entry.revision && !this.saver.pending(entry.id) && !this.streaming(entry.id)) {
        Object.assign(known, { revision: entry.revision, title: entry.title, updated: entry.updated, recorded: entry.recorded, loaded: false });
      }
    }
    this.list.sort((a, b) => b.updated.localeCompare(a.updated));
  }

  get(id: string | null): Chat | undefined {
    return this.list.find((c) => c.id === id);
  }

  /** Loads a conversation's turns, if that hasn't been done; null when there is no such conversation. */
  async load(id: string): Promise<Chat | null> {
    const known = this.get(id);
    if (known?.loaded) return known;
    const loading = this.#loading.get(id) ?? keeper.load(id).finally(() => this.#loading.delete(id));
    this.#loading.set(id, loading);
    try {
      const chat = await loading;
      const now = this.get(id);
      if (!now) this.take([chat]);
      else if (!now.loaded) Object.assign(now, chat);
      this.broken = null;
      return this.get(id) ?? null;
    } catch (error) {
      this.broken = { id, why: explain(error) };
      return null;
    }
  }

  streaming(id: string): boolean {
    return id in this.#running;
  }

  /** A new conversation, first in the list. It is kept with its first message. */
  create(beginning: Beginning): Chat {
    const start = { revision: 0, title: 'New chat', updated: new Date().toISOString(), turns: [], leaf: null, loaded: true };
    this.list.unshift({ id: newId(), ...start, ...beginning });
    return this.list[0] as Chat;
  }

  async rename(chat: Chat, title: string): Promise<void> {
    chat.title = title;
    if (chat.loaded) return this.#changed(chat);
    chat.revision = await keeper.rename(chat.id, title);
  }

  /** Changes a conversation's settings, or whether it is recorded. */
  change(chat: Chat, change: Partial<Beginning>): void {
    Object.assign(chat, change);
    this.#changed(chat);
  }

  /** Takes a conversation out of the list. It is deleted by `finish`; until then `undo` brings it back. */
  remove(chat: Chat): { undo: () => void; finish: (leaving?: boolean) => Promise<void> } {
    this.stop(chat.id);
    const [at, person] = [this.list.findIndex((c) => c.id === chat.id), this.#person];
    this.list = this.list.filter((c) => c.id !== chat.id);
    return {
      undo: () => void this.list.splice(at, 0, chat),
      finish: (leaving) => (this.saver.drop(chat.id), keeper.remove(person, chat.id, leaving)),
    };
  }

  /** Says something at the end of the branch that is shown, and streams the answer. */
  async say(chat: Chat, text: string): Promise<void> {
    if (this.streaming(chat.id)) return;
    if (chat.turns.length === 0) chat.title = titleOf(text);
    await this.#ask(chat, text, chat.leaf);
  }

  /** Says something else instead of an earlier message; the old one and what followed it stay as a branch. */
  async edit(chat: Chat, turn: Turn, text: string): Promise<void> {
    if (!this.streaming(chat.id)) await this.#ask(chat, text, turn.parent);
  }

  /** Answers a message once more. Both answers are kept, and the person is asked which is better. */
  async again(chat: Chat, turn: Turn): Promise<void> {
    if (this.streaming(chat.id)) return;
    const before = turn.role === 'assistant' ? turn : undefined;
    const after = await this.#answer(chat, before ? before.parent : turn.id, before);
    if (!before?.content || after.content) return;
    // Nothing came: the answer that was there is shown again, with the reason.
    chat.turns = chat.turns.filter((t) => t.id !== after.id);
    chat.leaf = newestLeaf(chat.turns, before.id);
    if (after.error) before.error = after.error;
    this.#changed(chat);
  }

  /** Shows another version of a turn: the one `by` places further, with the newest of what followed it. */
  turnTo(chat: Chat, turn: Turn, by: number): void {
    const versions = siblings(chat.turns, turn);
    const other = versions[versions.findIndex((t) => t.id === turn.id) + by];
    if (!other || this.streaming(chat.id)) return;
    chat.leaf = newestLeaf(chat.turns, other.id);
    this.#changed(chat);
  }

  stop(id: string): void {
    this.#running[id]?.abort();
  }

  /** A thumb on an answer, perhaps with reasons. */
  async rate(chat: Chat, turn: Turn, thumb: 'up' | 'down', tags: string[] = [], comment = ''): Promise<void> {
    if (!turn.completion) return;
    const { thumb: oldThumb, tags: oldTags } = turn;
    Object.assign(turn, { thumb, tags });
    try {
      const body = { thumb, ...(tags.length > 0 ? { tags } : {}), ...(comment.trim() ? { comment: comment.trim() } : {}) };
      await call(`/v1/completions/${turn.completion}/rating`, { method: 'POST', body });
      this.#changed(chat);
    } catch (error) {
      Object.assign(turn, { thumb: oldThumb, tags: oldTags });
      throw error;
    }
  }

  /** Keeps which of two answers is better (null: equally good), as a comparison to learn from, and shows the better one. */
  async prefer(chat: Chat, first: Turn, second: Turn, better: Turn | null): Promise<void> {
    const pair = await call<Comparison>('/v1/comparisons/pair', { method: 'POST', body: { a: first.completion, b: second.completion } });
    const [one, other] = pair.candidates.map((c) => c.id);
    // The server shuffles them; the text tells which is which. Where both say the same, either may be the better one.
    const best = better && pair.candidates.find((c) => c.content.trim() === better.content.trim());
    if (!one || !other || (better && !best)) throw new Error('the server kept other answers than these; reload the page');
    const ranking = best ? [[best.id], [best.id === one ? other : one]] : [[one, other]];
    try {
      if (!pair.ranking) await call(`/v1/comparisons/${pair.id}/ranking`, { method: 'POST', body: { ranking } });
    } catch (error) {
      // It has arrived before, and only the reply was lost.
      if (!(error instanceof ApiError && error.status === 409)) throw error;
    }
    if (better) chat.leaf = newestLeaf(chat.turns, better.id);
    this.settle(chat, second);
  }

  /** Leaves it open which of two answers is better: the newer one is shown from here on. */
  settle(chat: Chat, turn: Turn): void {
    delete turn.rival;
    this.#changed(chat);
  }

  async #ask(chat: Chat, text: string, parent: string | null): Promise<void> {
    const question: Turn = { id: newId(), parent, role: 'user', content: text, ...(chat.recorded ? {} : { unrecorded: true }) };
    for (const turn of chat.turns) delete turn.rival;
    chat.turns.push(question);
    this.list = [chat, ...this.list.filter((c) => c.id !== chat.id)];
    await this.#answer(chat, question.id);
  }

  async #answer(chat: Chat, question: string | null, before?: Turn): Promise<Turn> {
    const messages = messagesOf(pathTo(chat.turns, question), chat.system);
    const recorded = isRecorded(chat);
    // Half an answer isn't compared with a whole one.
    const whole = before?.content && before.completion && !before.stopped && !before.error;
    const rival = whole && recorded ? { rival: before.id } : {};
    // Stopped until it has ended: that is what a reload finds.
    chat.turns.push({ id: newId(), parent: question, role: 'assistant', content: '', stopped: true, ...rival });
    const turn = chat.turns.at(-1) as Turn;
    chat.leaf = turn.id;
    const abort = new AbortController();
    this.#running[chat.id] = abort;
    this.#changed(chat);
    const jotting = setInterval(() => this.saver.jot(chat.id), 800);
    try {
      await stream(turn, { messages, sampling: $state.snapshot(chat.sampling), recorded }, abort.signal);
    } catch (error) {
      if (!abort.signal.aborted) {
        turn.error = explain(error);
        delete turn.stopped;
      }
    } finally {
      clearInterval(jotting);
      delete this.#running[chat.id];
      // Half an answer isn't asked about.
      if (turn.stopped || turn.error) delete turn.rival;
      this.#changed(chat);
    }
    return turn;
  }

  #changed(chat: Chat): void {
    if (!this.get(chat.id)) return;
    chat.updated = new Date().toISOString();
    this.saver.touch(chat.id);
  }
}

/** Whether the next answer is recorded. What was said while recording was off stays unrecorded, and every answer sees it. */
export function isRecorded(chat: Chat): boolean {
  return chat.recorded && !chat.turns.some((turn) => turn.unrecorded);
}

/** The one list of conversations. */
export const chats = new Chats();
