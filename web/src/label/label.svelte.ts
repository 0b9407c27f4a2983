// A labeler's work: one leased task after the other. What is half done is kept in this browser, and found again when the server
// hands the same task out again.
import { ApiError, explain } from '../lib/api/client';
import type { Guidelines, LabelingProgress, LabelingTask } from '../lib/api/types';
import { forget, load, save } from '../lib/storage';
import { Ranker, unjudged, type Work } from '../rank/ranker.svelte';
import * as queue from './queue';

/** A task with what the labeler has made of it so far. */
export interface Labeling extends Work {
  task: LabelingTask;
  /** The answer that is being written, where one is asked for. */
  text: string;
}

class Label {
  kind = $state<queue.Kind>('rank');
  now = $state<Labeling | null>(null);
  progress = $state.raw<LabelingProgress | null>(null);
  guidelines = $state.raw<Guidelines | null>(null);
  loading = $state(false);
  sending = $state(false);
  error = $state<string | null>(null);
  /** The queue had nothing more. */
  empty = $state(false);
  /** Tasks sent in this sitting. */
  sitting = $state(0);
  /** What was sent last, to show it as it was when it is taken back. */
  #last: Labeling | null = null;
  #backNext = false;
  #person = '';

  readonly ranker = new Ranker(() => (this.now?.task.kind === 'rank' ? this.now : null));
  readonly sendable = $derived.by(() => (this.now?.task.kind === 'demonstrate' ? this.now.text.trim() !== '' : this.ranker.sendable));

  /** Takes up a person's work where it was left. */
  openFor(person: string): void {
    if (this.#person === person) return;
    this.#person = person;
    this.sitting = 0;
    this.#last = null;
    this.kind = load<Labeling | null>(this.#key(), null)?.task.kind ?? 'rank';
    void this.next();
    void this.refresh();
    void queue.guidelines().then((text) => (this.guidelines = text), () => undefined);
  }

  /** Keeps the work; called whenever it changes. */
  keep(): void {
    if (this.#person && this.now) save(this.#key(), $state.snapshot(this.now));
  }

  /** The other kind of task; the one at hand stays leased for a while, and comes back. */
  async choose(kind: queue.Kind): Promise<void> {
    if (kind === this.kind || this.sending) return;
    this.kind = kind;
    this.now = null;
    await this.next();
  }

  /** Fetches the next task. */
  async next(): Promise<void> {
    this.loading = true;
    this.error = null;
    try {
      this.#show(await queue.next(this.kind));
    } catch (error) {
      this.error = explain(error);
    }
    this.loading = false;
  }

  /** Sends what was made of the task, and goes on to the next. */
  async send(): Promise<void> {
    const { now } = this;
    if (!now || !this.sendable) return;
    await this.#end(async () => {
      if (now.task.kind === 'rank') await queue.rank(now.task, this.ranker.body());
      else await queue.demonstrate(now.task, now.text.trim());
      this.#last = $state.snapshot(now) as Labeling;
      this.sitting++;
    });
  }

  /** Leaves the task to somebody else, and says why. */
  async skip(reason: string): Promise<void> {
    const { now } = this;
    if (now) await this.#end(() => queue.skip(now.task.id, reason).then(() => undefined));
  }

  /** Takes the last one back, and shows it again as it was. */
  async takeBack(): Promise<void> {
    // Who is fast asks while the next task is on its way.
    if (this.sending) return void (this.#backNext = true);
    this.sending = true;
    this.error = null;
    try {
      const task = await queue.undo();
      this.kind = task.kind;
      this.#show(task, this.#last);
      this.#last = null;
      this.sitting = Math.max(0, this.sitting - 1);
      void this.refresh();
    } catch (error) {
      this.error = explain(error);
    }
    this.sending = false;
  }

  /** How far the queue and the labeler are. */
  async refresh(): Promise<void> {
    // The figures are no reason to stop the work; they come with the next task.
    this.progress = await queue.progress().catch(() => this.progress);
  }

  async #end(act: () => Promise<void>): Promise<void> {
    if (this.sending) return;
    this.sending = true;
    this.error = null;
    try {
      await act();
      this.#forget();
      this.#show(await queue.next(this.kind));
      void this.refresh();
    } catch (error) {
      this.error = explain(error);
      // It ended meanwhile (its lease did): there is another one.
      if (error instanceof ApiError && (error.status === 404 || error.status === 409)) {
        this.#forget();
        this.#show(await queue.next(this.kind).catch(() => null));
      }
    }
    this.sending = false;
    if (!this.#backNext) return;
    this.#backNext = false;
    await this.takeBack();
  }

  #show(task: LabelingTask | null, as: Labeling | null = load<Labeling | null>(this.#key(), null)): void {
    this.empty = task === null;
    if (!task) return void (this.now = null);
    const known = as?.task.id === task.id && as.answers.length === task.candidates.length ? as : null;
    const answers = task.candidates.map(({ id, content }) => ({ id, content, done: true }));
    this.now = { ...unjudged(), text: '', ...known, task, answers, kept: true, sent: false };
    this.ranker.begin();
  }

  #forget(): void {
    this.now = null;
    forget(this.#key());
  }

  #key(): string {
    return `label.${this.#person}`;
  }
}

/** The labeler's one table. */
export const label = new Label();
