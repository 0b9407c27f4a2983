// The conversations, kept in this browser, each under its own key and apart for each person who signs in here.
import { ApiError, call, explain, open } from '../lib/api/client';
import type { ChatChunk, Message } from '../lib/api/types';
import { newId } from '../lib/browser';
import { forget, keys, load, save } from '../lib/storage';

/** One message of a conversation as it is shown. */
export interface Turn {
  role: 'user' | 'assistant';
  content: string;
  /** The logged answer's id; ratings name it. */
  completion?: string;
  /** Which policy gave the answer. */
  policy?: string;
  thumb?: 'up' | 'down';
  /** Why the answer isn't whole, as a sentence. */
  error?: string;
  /** It ended before its end: the person stopped it, or closed the page. */
  stopped?: boolean;
  /** It was said while the chat wasn't recorded. */
  unrecorded?: boolean;
}

/** A conversation. */
export interface Chat {
  id: string;
  title: string;
  updated: string;
  /** False: answered, but never logged for training. */
  recorded: boolean;
  turns: Turn[];
}

const savedEveryMs = 800;

/** The first words of a message, as a title. */
export function titleOf(text: string): string {
  const line = text.trim().split('\n', 1)[0] ?? '';
  return line.length > 48 ? `${line.slice(0, 47).trimEnd()}…` : line;
}

/** What is sent: whole turns only; an answer that failed before its first word is left out. */
export function messagesOf(turns: readonly Turn[]): Message[] {
  return turns.filter((t) => t.content.trim() !== '').map(({ role, content }) => ({ role, content }));
}

class Chats {
  list = $state<Chat[]>([]);
  /** Running answers by conversation. */
  #running = $state<Record<string, AbortController>>({});
  #person = '';

  /** Loads a person's conversations. */
  openFor(person: string): void {
    if (this.#person === person) return;
    this.#person = person;
    const stored = keys(`chat.${person}.`).map((key) => load<Chat | null>(key, null));
    this.list = stored.filter((c) => c !== null).sort((a, b) => b.updated.localeCompare(a.updated));
  }

  get(id: string | null): Chat | undefined {
    return this.list.find((c) => c.id === id);
  }

  streaming(id: string): boolean {
    return id in this.#running;
  }

  /** A new conversation, first in the list. It is stored with its first message. */
  create(recorded: boolean): Chat {
    const id = newId();
    this.list.unshift({ id, title: 'New chat', updated: new Date().toISOString(), recorded, turns: [] });
    return this.list[0] as Chat;
  }

  rename(chat: Chat, title: string): void {
    chat.title = title.trim() || chat.title;
    this.#save(chat);
  }

  remove(chat: Chat): void {
    this.stop(chat.id);
    this.list = this.list.filter((c) => c.id !== chat.id);
    forget(this.#key(chat));
  }

  setRecorded(chat: Chat, recorded: boolean): void {
    chat.recorded = recorded;
    this.#save(chat);
  }

  /** Says something and streams the answer. */
  async say(chat: Chat, text: string): Promise<void> {
    if (chat.turns.length === 0) chat.title = titleOf(text);
    chat.turns.push({ role: 'user', content: text, ...(chat.recorded ? {} : { unrecorded: true }) });
    this.list = [chat, ...this.list.filter((c) => c.id !== chat.id)];
    await this.#answer(chat);
  }

  /** Answers the last message once more, in place of the answer it has. */
  async again(chat: Chat): Promise<void> {
    if (this.streaming(chat.id)) return;
    const before = chat.turns.at(-1)?.role === 'assistant' ? chat.turns.pop() : undefined;
    await this.#answer(chat);
    const after = chat.turns.at(-1);
    if (!before?.content || !after || after.content) return;
    // Nothing came: the answer that was there stays.
    chat.turns.splice(-1, 1, { ...before, ...(after.error ? { error: after.error } : {}) });
    this.#save(chat);
  }

  stop(id: string): void {
    this.#running[id]?.abort();
  }

  /** A thumb on an answer. */
  async rate(chat: Chat, turn: Turn, thumb: 'up' | 'down'): Promise<void> {
    if (!turn.completion) return;
    const before = turn.thumb;
    turn.thumb = thumb;
    try {
      await call(`/v1/completions/${turn.completion}/rating`, { method: 'POST', body: { thumb } });
      this.#save(chat);
    } catch (error) {
      if (before) turn.thumb = before;
      else delete turn.thumb;
      throw error;
    }
  }

  async #answer(chat: Chat): Promise<void> {
    const messages = messagesOf(chat.turns);
    // Stopped until it has ended: that is what a reload finds.
    chat.turns.push({ role: 'assistant', content: '', stopped: true });
    const turn = chat.turns.at(-1) as Turn;
    const abort = new AbortController();
    this.#running[chat.id] = abort;
    this.#save(chat);
    const saving = setInterval(() => this.#save(chat), savedEveryMs);
    try {
      await this.#stream(chat, turn, messages, abort.signal);
    } catch (error) {
      if (!abort.signal.aborted) {
        turn.error = explain(error);
        delete turn.stopped;
      }
    } finally {
      clearInterval(saving);
      delete this.#running[chat.id];
      this.#save(chat);
    }
  }

  async #stream(chat: Chat, turn: Turn, messages: Message[], signal: AbortSignal): Promise<void> {
    const recorded = isRecorded(chat);
    const body = { model: 'champion', messages, stream: true, ...(recorded ? {} : { store: false }) };
    const answer = await open('/v1/chat/completions', { method: 'POST', body, signal });
    const policy = answer.headers.get('x-hone-policy');
    if (policy) turn.policy = policy;
    for await (const { data } of answer.events) {
      if (data === '[DONE]') {
        delete turn.stopped;
        return;
      }
      const chunk = JSON.parse(data) as ChatChunk;
      if (chunk.error) throw new ApiError(chunk.error.message, 500);
      if (recorded) turn.completion = chunk.id;
      turn.content += chunk.choices[0]?.delta.content ?? '';
    }
    throw new ApiError('The answer broke off before its end. Try again.', 0, 'broken');
  }

  #save(chat: Chat): void {
    if (!this.list.some((c) => c.id === chat.id)) return;
    chat.updated = new Date().toISOString();
    save(this.#key(chat), $state.snapshot(chat));
  }

  #key(chat: Chat): string {
    return `chat.${this.#person}.${chat.id}`;
  }
}

/** Whether the next answer is recorded. What was said while recording was off stays unrecorded, and every answer sees it. */
export function isRecorded(chat: Chat): boolean {
  return chat.recorded && !chat.turns.some((turn) => turn.unrecorded);
}

/** The one list of conversations. */
export const chats = new Chats();
