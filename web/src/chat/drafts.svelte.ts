// What a person has begun to write and not sent, by conversation: a closed tab loses none of it.
import { load, save } from '../lib/storage';

class Drafts {
  #texts = $state<Record<string, string>>({});
  #person = '';

  openFor(person: string): void {
    if (this.#person === person) return;
    this.#person = person;
    this.#texts = load<Record<string, string>>(`drafts.${person}`, {});
  }

  get(chat: string): string {
    return this.#texts[chat] ?? '';
  }

  /** Keeps a draft; an empty one is forgotten. */
  set(chat: string, text: string): void {
    if (text === '') delete this.#texts[chat];
    else this.#texts[chat] = text;
    save(`drafts.${this.#person}`, $state.snapshot(this.#texts));
  }
}

/** The drafts of the person who is signed in. */
export const drafts = new Drafts();
