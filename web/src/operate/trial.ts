// A challenger's trial in words, and the bounds that it keeps to. Pure, so that it can be tested without a page.
import type { Bounds, Trial } from '../lib/api/types';
import { duration, plural } from '../lib/format';

/** What hone takes where nobody says otherwise. */
export const defaults: Bounds = { alpha: 0.05, comparisons_min: 10, comparisons_max: 400, hours_max: 336, undecided: 'keep' };

/** What becomes of a challenger without a clear verdict. */
export const endings: Record<Bounds['undecided'], string> = {
  keep: 'it stays a candidate, and the champion stays',
  promote: 'it becomes champion',
  roll_back: 'it is rejected',
};

/** What is wrong with the bounds, in a sentence; null when nothing is. */
export function problem({ comparisons_min, comparisons_max, hours_max }: Bounds): string | null {
  const whole = (n: number) => Number.isInteger(n) && n > 0;
  if (!whole(comparisons_min) || !whole(comparisons_max)) return 'Say how many votes, at least 1.';
  if (comparisons_max < comparisons_min) return `It would be over after ${plural(comparisons_max, 'vote')}, before there may be a verdict after ${comparisons_min}.`;
  if (!(hours_max > 0)) return 'Say for how many days at most.';
  return null;
}

/** How far a trial is on the way to its end, whatever people say. */
export function progress({ since, score, bounds }: Trial, now: Date = new Date()): string {
  const votes = score.wins + score.losses + score.ties;
  const left = bounds.hours_max * 3600 - (now.getTime() - new Date(since).getTime()) / 1000;
  const time = left > 0 ? `${duration(left)} left` : 'its time is up';
  return `${votes} of at most ${plural(bounds.comparisons_max, 'vote')}, ${time}`;
}

/** Who put a challenger up, as a sentence. */
export function putUp(by: string | null): string {
  if (by === null) return '';
  if (by === 'drift') return 'It was served before the champion; hone put it up to notice when people stop preferring the champion.';
  return by === 'canary' ? 'It came from a cycle and passed the gate.' : `${by} put it up.`;
}
