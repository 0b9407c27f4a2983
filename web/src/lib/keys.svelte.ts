// The keyboard: pages say which keys they understand while they are shown, one listener hears them, and the sheet on `?`
// lists them. A key never acts while the person types or answers a dialog, unless it is held with Ctrl or is Escape.
import { untrack } from 'svelte';
import { typing } from './browser';

/** Something a key does. */
export interface Shortcut {
  /** `event.key`, or several that do the same; with `ctrl: true`, held with Ctrl or Cmd. */
  keys: readonly string[];
  ctrl?: boolean;
  /** Digits held with Shift, whatever sign that types. */
  shift?: boolean;
  /** How it is written on the sheet; by default the first key. */
  shown?: string;
  /** What it does, in a few words. */
  does: string;
  /** Asked before all others: the second key of two. */
  first?: boolean;
  /** Does it; false says that it didn't apply now and others may have the key. */
  run: (key: string) => boolean | void;
}

/** The shortcuts of one part of the page. */
export interface Sheet {
  name: string;
  shortcuts: readonly Shortcut[];
}

class Keys {
  /** What can be pressed now, the newest part first. */
  sheets = $state.raw<readonly Sheet[]>([]);

  constructor() {
    addEventListener('keydown', (event) => this.#hear(event));
  }

  /** Adds a part's shortcuts; call what is returned when the part goes. Made for `$effect(() => keys.add(...))`. */
  add(name: string, shortcuts: readonly Shortcut[]): () => void {
    const sheet = { name, shortcuts };
    // An effect that adds its keys must not run again because others add theirs.
    this.sheets = [sheet, ...untrack(() => this.sheets)];
    return () => (this.sheets = this.sheets.filter((s) => s !== sheet));
  }

  #hear(event: KeyboardEvent): void {
    if (event.defaultPrevented || event.altKey || event.isComposing) return;
    const ctrl = event.ctrlKey || event.metaKey;
    if (typing(event) && !ctrl && event.key !== 'Escape') return;
    if (event.key === 'Escape' && document.querySelector('dialog[open]')) return;
    if (ctrl && document.querySelector('dialog[open]')) return;
    const all = this.sheets.flatMap((sheet) => sheet.shortcuts);
    for (const { keys, ctrl: held = false, shift = false, run } of [...all.filter((s) => s.first), ...all.filter((s) => !s.first)]) {
      const key = shift ? (event.shiftKey ? /^Digit(\d)$/.exec(event.code)?.[1] : undefined) : event.key;
      if (held !== ctrl || !keys.some((k) => k.toLowerCase() === key?.toLowerCase())) continue;
      if (run(key ?? '') === false) continue;
      event.preventDefault();
      return;
    }
  }
}

/** The one keyboard. */
export const keys = new Keys();
