// A comparison from the question to the revealed policies. Every step is kept in this browser until it is sent, so
// that a closed tab loses nothing.
import { ApiError, call, explain, open } from '../lib/api/client';
import type { Candidate, Comparison, ComparisonEvent, Message, Revealed } from '../lib/api/types';
import { complete, nextUnplaced, tiers, toggle, type Places } from '../lib/ranking';
import { forget, load, save } from '../lib/storage';

/** One answer as it is shown. */
export interface Answer {
  id: string;
  content: string;
  done: boolean;
  /** Who wrote it, known only after ranking. */
  policy?: string;
}

/** A prompt that has been sent, its answers, and what the person thinks of them so far. */
export interface Round {
  id: string;
  prompt: string;
  context: Message[];
  k: number;
  answers: Answer[];
  places: Places;
  noneAcceptable: boolean;
  comment: string;
  ideal: string | null;
  /** All answers are there and on the server: it can be ranked. */
  kept: boolean;
  sent: boolean;
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
  /** The answer that the keyboard acts on. */
  active = $state<string | null>(null);
  asking = $state(false);
  sending = $state(false);
  error = $state<string | null>(null);
  #abort: AbortController | null = null;
  #person = '';

  readonly round = $derived(this.draft.round);
  readonly ids = $derived(this.draft.round?.answers.map((a) => a.id) ?? []);
  /** All answers are there: ranking can begin. */
  readonly ready = $derived(this.draft.round?.kept ?? false);
  readonly sendable = $derived(
    this.ready && this.round !== null && !this.round.sent && (this.round.noneAcceptable || complete(this.ids, this.round.places)),
  );

  /** Takes up a person's draft; what was cut off while it streamed is fetched or asked again. */
  openFor(person: string): void {
    if (this.#person === person) return;
    this.#person = person;
    this.draft = { ...structuredClone(empty), ...load<Partial<Draft>>(this.#key(), {}) };
    if (this.round && !this.ready) void this.#recover(this.round);
  }

  /** Keeps the draft; called whenever it changes. */
  keep(): void {
    if (this.#person) save(this.#key(), $state.snapshot(this.draft));
  }

  /** A fresh question, perhaps with what was said before it. */
  begin(prompt: string, context: Message[] = []): void {
    this.stop();
    this.error = null;
    this.active = null;
    this.draft = { prompt, context, k: this.draft.k, round: null };
    if (this.#person && prompt === '') forget(this.#key());
  }

  /** Asks the question k times at once. */
  async ask(): Promise<void> {
    const { prompt, context, k } = this.draft;
    const fresh = { places: {}, noneAcceptable: false, comment: '', ideal: null, kept: false, sent: false };
    this.draft.round = { id: '', prompt, context, k, answers: [], ...fresh };
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
      if (!this.ready) throw new ApiError('The answers broke off before their end. Ask again.', 0, 'broken');
    } catch (error) {
      if (!signal.aborted) this.error = explain(error);
    }
    if (this.#abort?.signal === signal) this.asking = false;
  }

  /** Stops the answers; the question can be asked again. */
  stop(): void {
    this.#abort?.abort();
    this.#abort = null;
    if (this.asking) this.draft.round = null;
    this.asking = false;
  }

  /** Puts an answer in a place and goes on to the next that has none. */
  place(id: string, at: number): void {
    const { round } = this;
    if (!round || round.sent || !this.ready || at < 1 || at > this.ids.length) return;
    round.noneAcceptable = false;
    round.places = toggle(round.places, id, at);
    this.active = round.places[id] === undefined ? id : (nextUnplaced(this.ids, round.places, id) ?? id);
  }

  /** Sends the ranking and learns which policy wrote what. */
  async send(): Promise<void> {
    const { round } = this;
    if (!round || !this.sendable || this.sending) return;
    this.sending = true;
    this.error = null;
    const comment = round.comment.trim();
    const ideal = round.ideal?.trim();
    const body = {
      ranking: round.noneAcceptable ? [] : tiers(this.ids, round.places),
      ...(round.noneAcceptable ? { not_rankable: true } : {}),
      ...(comment ? { comment } : {}),
      ...(ideal ? { ideal } : {}),
    };
    try {
      this.#reveal(round, await call<Revealed>(`/v1/comparisons/${round.id}/ranking`, { method: 'POST', body }));
    } catch (error) {
      // It has arrived before, and only the reply was lost.
      if (error instanceof ApiError && error.status === 409) await this.#look(round);
      else this.error = explain(error);
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
    this.active = null;
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
        throw new ApiError(event.error.message, 500);
    }
  }

  /** The server has the whole answers: ranking begins. */
  #keep(round: Round, candidates: readonly Candidate[]): void {
    round.answers = candidates.map(({ id, content }) => ({ id, content, done: true }));
    round.kept = true;
    this.active = this.ids[0] ?? null;
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
