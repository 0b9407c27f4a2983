// A comparison from the question to the revealed policies. Every step is kept in this browser until it is sent, so
// that a closed tab loses nothing.
import { ApiError, call, explain, failed, open } from '../lib/api/client';
import type { Candidate, Comparison, ComparisonEvent, Message, Revealed } from '../lib/api/types';
import { forget, load, save } from '../lib/storage';
import { Ranker, unjudged, type Answer, type Work } from '../rank/ranker.svelte';

/** A prompt that has been sent, its answers, and what the person thinks of them so far. */
export interface Round extends Work {
  id: string;
  prompt: string;
  context: Message[];
  k: number;
}

interface Draft {
  prompt: string;
  context: Message[];
  k: number;
  round: Round | null;
}

const empty: Draft = { prompt: '', context: [], k: 4, round: null };

class Compare {
  draft = $state<Draft>(structuredClone(empty));
  asking = $state(false);
  sending = $state(false);
  error = $state<string | null>(null);
  #abort: AbortController | null = null;
  #person = '';

  readonly round = $derived(this.draft.round);
  readonly ranker = new Ranker(() => this.draft.round);

  /** Takes up a person's draft; what was cut off while it streamed is fetched or asked again. */
  openFor(person: string): void {
    if (this.#person === person) return;
    this.#person = person;
    const kept = load<Partial<Draft>>(this.#key(), {});
    this.draft = { ...structuredClone(empty), ...kept, round: kept.round ? { ...unjudged(), ...kept.round } : null };
    if (this.round?.kept) this.ranker.begin();
    else if (this.round) void this.#recover(this.round);
  }

  /** Keeps the draft; called whenever it changes. */
  keep(): void {
    if (this.#person) save(this.#key(), $state.snapshot(this.draft));
  }

  /** A fresh question, perhaps with what was said before it. */
  begin(prompt: string, context: Message[] = []): void {
    this.stop();
    this.error = null;
    this.ranker.active = null;
    this.draft = { prompt, context, k: this.draft.k, round: null };
    if (this.#person && prompt === '') forget(this.#key());
  }

  /** Asks the question k times at once. */
  async ask(): Promise<void> {
    const { prompt, context, k } = this.draft;
    this.draft.round = { id: '', prompt, context, k, answers: [], ...unjudged() };
    this.error = null;
    this.asking = true;
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    try {
      const messages = [...context, { role: 'user', content: prompt }];
      const { events } = await open('/v1/comparisons', { method: 'POST', body: { messages, k, stream: true }, signal });
      for await (const { data } of events) {
        if (data === '[DONE]') break;
        this.#take(JSON.parse(data) as ComparisonEvent);
      }
      if (!this.round?.kept) throw new ApiError('The answers broke off before their end. Ask again.', 0, 'broken');
    } catch (error) {
      if (!signal.aborted) await this.#broken(error, signal);
    }
    if (this.#abort?.signal === signal) this.asking = false;
  }

  /** The stream broke: the server may have finished the answers all the same. */
  async #broken(error: unknown, signal: AbortSignal): Promise<void> {
    const { round } = this;
    const lost = error instanceof ApiError && error.status === 0;
    if (lost && round?.id) {
      const found = await call<Comparison>(`/v1/comparisons/${round.id}`).catch(() => null);
      if (signal.aborted || this.round !== round) return;
      if (found) return this.#keep(round, found.candidates);
    }
    this.error = explain(error);
  }

  /** Stops the answers; the question can be asked again. */
  stop(): void {
    this.#abort?.abort();
    this.#abort = null;
    if (this.asking) this.draft.round = null;
    this.asking = false;
  }

  /** Sends the ranking and learns which policy wrote what. */
  async send(): Promise<void> {
    const { round } = this;
    if (!round || !this.ranker.sendable || this.sending) return;
    this.sending = true;
    this.error = null;
    try {
      this.#reveal(round, await call<Revealed>(`/v1/comparisons/${round.id}/ranking`, { method: 'POST', body: this.ranker.body() }));
    } catch (error) {
      // It has arrived before, and only the reply was lost.
      if (error instanceof ApiError && error.status === 409) await this.#look(round);
      else this.error = explain(error);
    }
    this.sending = false;
  }

  /** Takes a sent ranking back, to rank again. */
  async takeBack(): Promise<void> {
    const { round } = this;
    if (!round?.sent || this.sending) return;
    this.sending = true;
    this.error = null;
    try {
      await call(`/v1/comparisons/${round.id}/ranking`, { method: 'DELETE' });
      round.sent = false;
      for (const answer of round.answers) delete answer.policy;
      this.ranker.begin();
    } catch (error) {
      this.error = explain(error);
    }
    this.sending = false;
  }

  async #look(round: Round): Promise<void> {
    try {
      this.#reveal(round, await call<Revealed>(`/v1/comparisons/${round.id}`));
    } catch (error) {
      this.error = explain(error);
    }
  }

  #reveal(round: Round, revealed: Revealed): void {
    for (const { id, policy } of revealed.candidates) {
      const answer = round.answers.find((a) => a.id === id);
      if (answer && policy) answer.policy = policy;
    }
    round.sent = true;
    this.ranker.active = null;
  }

  #take(event: ComparisonEvent): void {
    const { round } = this;
    if (!round) return;
    switch (event.type) {
      case 'comparison':
        round.id = event.id;
        round.answers = event.candidates.map(({ id }) => ({ id, content: '', done: false }));
        break;
      case 'delta':
        this.#answer(event.candidate, (a) => (a.content += event.content));
        break;
      case 'done':
        this.#answer(event.candidate, (a) => (a.done = true));
        break;
      case 'complete':
        this.#keep(round, event.candidates);
        break;
      case 'error':
        throw failed(event.error);
    }
  }

  /** The server has the whole answers: ranking begins. */
  #keep(round: Round, candidates: readonly Candidate[]): void {
    round.answers = candidates.map(({ id, content }) => ({ id, content, done: true }));
    round.kept = true;
    this.ranker.begin();
  }

  #answer(id: string, change: (answer: Answer) => void): void {
    const answer = this.round?.answers.find((a) => a.id === id);
    if (answer) change(answer);
  }

  /** The tab was closed while answers came: they are on the server if it finished them. */
  async #recover(round: Round): Promise<void> {
    try {
      const stored = await call<Comparison>(`/v1/comparisons/${round.id}`);
      this.#keep(round, stored.candidates);
      if (stored.ranking) this.#reveal(round, stored);
    } catch {
      this.draft.round = null;
    }
  }

  #key(): string {
    return `compare.${this.#person}`;
  }
}

/** The one comparison of the page. */
export const compare = new Compare();
