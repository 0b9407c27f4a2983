// What belongs to an id, loaded whenever the id changes; what comes too late, for another id, is dropped. Uses the API's errors in words.
import { explain } from '../lib/api/client';

export class Loaded<T> {
  /** What was found; null while it is on its way, after a failure, and without an id. */
  value = $state.raw<T | null>(null);
  /** Why it wasn't, in words. */
  error = $state<string | null>(null);

  /** For the life of the component that makes it. */
  constructor(id: () => string | null | undefined, load: (id: string) => Promise<T>) {
    $effect(() => {
      const wanted = id();
      this.value = this.error = null;
      if (!wanted) return;
      load(wanted).then(
        (found) => id() === wanted && (this.value = found),
        (e: unknown) => id() === wanted && (this.error = explain(e)),
      );
    });
  }
}
