// A person's judgement of several answers while it is made: places, ties, quality, findings, the ideal answer, and the way back.
// Comparing and labeling both use it; what is judged is theirs.
import { best, complete, nextUnplaced, place as put, tiers, toggle, type Places } from '../lib/ranking';

/** One answer as it is shown. */
export interface Answer {
  id: string;
  content: string;
  done: boolean;
  /** Who wrote it, known only after ranking. */
  policy?: string;
}

/** What is said of one answer beside its place. */
export interface Label {
  overall?: number;
  flags: string[];
}

/** The answers and what the person thinks of them so far: plain data, so that it can be kept. */
export interface Work {
  answers: Answer[];
  places: Places;
  noneAcceptable: boolean;
  labels: Record<string, Label>;
  comment: string;
  ideal: string | null;
  /** All answers are there and on the server: they can be ranked. */
  kept: boolean;
  sent: boolean;
}

/** A judgement that hasn't begun. */
export const unjudged = (): Omit<Work, 'answers'> => ({
  places: {}, noneAcceptable: false, labels: {}, comment: '', ideal: null, kept: false, sent: false,
});

type State = Pick<Work, 'places' | 'noneAcceptable'>;

/** Judges the work that `of` gives; none while there is none. */
export class Ranker {
  /** The answer that the keyboard acts on. */
  active = $state<string | null>(null);
  #past = $state.raw<State[]>([]);
  readonly #of: () => Work | null;

  constructor(of: () => Work | null) {
    this.#of = of;
  }

  get work(): Work | null {
    return this.#of();
  }
  readonly ids = $derived.by(() => this.#of()?.answers.map((a) => a.id) ?? []);
  /** Ranking is possible now. */
  readonly open = $derived.by(() => (this.#of()?.kept && !this.#of()?.sent) ?? false);
  readonly sendable = $derived.by(() => {
    const work = this.#of();
    return this.open && work !== null && (work.noneAcceptable || complete(this.ids, work.places));
  });
  readonly undoable = $derived(this.#past.length > 0 && this.open);

  /** Begins with the first answer chosen. */
  begin(): void {
    this.#past = [];
    this.active = this.ids[0] ?? null;
  }

  /** Puts an answer in a place and goes on to the next that has none; the same place again takes it out. */
  place(id: string, at: number): void {
    const work = this.#of();
    if (!work || !this.open || at < 1 || at > this.ids.length) return;
    this.#change(work, { places: toggle(work.places, id, at), noneAcceptable: false });
    this.active = work.places[id] === undefined ? id : (nextUnplaced(this.ids, work.places, id) ?? id);
  }

  /** Moves an answer to a place, or out of all of them. */
  move(id: string, at: number | null): void {
    const work = this.#of();
    if (work && this.open) this.#change(work, { places: put(work.places, id, at), noneAcceptable: false });
  }

  /** One place up (-1) or down (1). */
  nudge(by: number): void {
    const [work, id] = [this.#of(), this.active];
    if (!work || id === null || !this.open) return;
    const at = work.places[id];
    const to = at === undefined ? (by < 0 ? 1 : this.ids.length) : Math.min(this.ids.length, Math.max(1, at + by));
    if (to !== at) this.move(id, to);
  }

  /** Chooses the answer `by` further, going round. */
  step(by: number): void {
    const { ids } = this;
    const at = this.active === null ? (by > 0 ? -1 : 0) : ids.indexOf(this.active);
    this.active = ids[(at + by + ids.length) % ids.length] ?? null;
  }

  setNone(on: boolean): void {
    const work = this.#of();
    if (work && this.open) this.#change(work, { places: work.places, noneAcceptable: on });
  }

  /** Takes back the last move. */
  undo(): void {
    const [work, before] = [this.#of(), this.#past.at(-1)];
    if (!work || !before || !this.open) return;
    Object.assign(work, before);
    this.#past = this.#past.slice(0, -1);
  }

  /** Quality, 1 to 7; the same again takes it away. */
  rate(id: string, overall: number): void {
    const label = this.#label(id);
    if (!label) return;
    if (label.overall === overall) delete label.overall;
    else label.overall = overall;
  }

  flag(id: string, flag: string): void {
    const label = this.#label(id);
    if (label) label.flags = label.flags.includes(flag) ? label.flags.filter((f) => f !== flag) : [...label.flags, flag];
  }

  /** Opens the ideal answer: it starts from the best one, or from nothing where none is. */
  writeIdeal(): void {
    const work = this.#of();
    if (!work || work.ideal !== null) return;
    const start = work.noneAcceptable ? null : best(this.ids, work.places);
    work.ideal = work.answers.find((a) => a.id === start)?.content ?? '';
  }

  /** The judgement as the API takes it. */
  body(): Record<string, unknown> {
    const work = this.#of();
    if (!work) return {};
    const [comment, ideal] = [work.comment.trim(), work.ideal?.trim()];
    const labels = Object.fromEntries(Object.entries($state.snapshot(work.labels)).filter(([, l]) => l.overall !== undefined || l.flags.length > 0));
    return {
      ranking: work.noneAcceptable ? [] : tiers(this.ids, work.places),
      ...(work.noneAcceptable ? { not_rankable: true } : {}),
      ...(Object.keys(labels).length > 0 ? { labels } : {}),
      ...(comment ? { comment } : {}),
      ...(ideal ? { ideal } : {}),
    };
  }

  #label(id: string): Label | null {
    const work = this.#of();
    if (!work || !this.open) return null;
    if (!work.labels[id]) work.labels[id] = { flags: [] };
    // Read again: what was put there is watched only as it is found there.
    return work.labels[id] ?? null;
  }

  #change(work: Work, to: State): void {
    this.#past = [...this.#past, { places: work.places, noneAcceptable: work.noneAcceptable }];
    Object.assign(work, to);
  }
}
