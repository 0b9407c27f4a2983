// Brings changed conversations to the server, one request at a time each: first into this browser, at once, then onto the
// server; what can't be sent now is sent later.
import { ApiError } from '../lib/api/client';
import * as keeper from './keeper';
import type { Chat } from './keeper';
import type { Turn } from './tree';

const againAfterMs = 3_000;

/** The saver of one person's conversations. */
export class Saver {
  /** The server can't be reached, and this browser keeps what it hasn't got. */
  waiting = $state(false);
  #person = '';
  #dirty = new Set<string>();
  #sending = new Map<string, Promise<void>>();
  readonly #find: (id: string) => Chat | undefined;

  constructor(find: (id: string) => Chat | undefined) {
    this.#find = find;
    addEventListener('online', () => this.flush());
  }

  openFor(person: string): void {
    this.#person = person;
    this.#dirty.clear();
    this.waiting = false;
  }

  /** Whether the server doesn't have everything of it. */
  pending(id: string): boolean {
    return this.#dirty.has(id) || this.#sending.has(id);
  }

  /** A conversation has changed. */
  touch(id: string): void {
    this.#dirty.add(id);
    this.jot(id);
    void this.#run(id);
  }

  /** Keeps its state in this browser until the server has it. */
  jot(id: string): void {
    const chat = this.#find(id);
    if (chat) keeper.jot(this.#person, $state.snapshot(chat));
  }

  /** It is gone. */
  drop(id: string): void {
    this.#dirty.delete(id);
  }

  /** Sends what waits. */
  flush(): void {
    for (const id of this.#dirty) void this.#run(id);
  }

  /** Ends when everything of it is on the server, or can't be for now. */
  async settled(id: string): Promise<void> {
    await this.#sending.get(id);
  }

  #run(id: string): Promise<void> {
    const running = this.#sending.get(id);
    if (running) return running;
    const work = this.#send(id).finally(() => this.#sending.delete(id));
    this.#sending.set(id, work);
    return work;
  }

  async #send(id: string): Promise<void> {
    const person = this.#person;
    while (this.#dirty.has(id) && person === this.#person) {
      const chat = this.#find(id);
      if (!chat) return;
      this.#dirty.delete(id);
      try {
        const { revision, turns } = await keeper.send($state.snapshot(chat));
        chat.revision = revision;
        this.#takeTurns(chat, turns);
        this.waiting = false;
        if (!this.#dirty.has(id)) keeper.sent(person, id);
      } catch (error) {
        this.#failed(id, error);
        return;
      }
    }
  }

  /** Turns that another window has added come in; ours stay the objects that an answer may be streaming into. */
  #takeTurns(chat: Chat, turns: readonly Turn[]): void {
    const ours = new Map(chat.turns.map((turn) => [turn.id, turn]));
    if (turns.every((turn) => ours.has(turn.id))) return;
    const sent = new Set(turns.map((turn) => turn.id));
    chat.turns = [...turns.map((turn) => ours.get(turn.id) ?? turn), ...chat.turns.filter((turn) => !sent.has(turn.id))];
  }

  #failed(id: string, error: unknown): void {
    this.#dirty.add(id);
    const later = !(error instanceof ApiError) || error.status === 0 || error.status >= 429;
    // What the server refuses for good stays in this browser, and is tried again with the next change.
    this.waiting = true;
    if (later) setTimeout(() => this.flush(), againAfterMs);
  }
}
