// What starts the next cycle, in sentences. Pure, so that it can be tested without a page.
import type { Outlook } from '../lib/api/types';
import { ago, duration, plural } from '../lib/format';

/** What there is new to learn from. */
export function news({ new_rankings, new_demonstrations, last_cycle_at }: Outlook, now: Date = new Date()): string {
  const what = `${plural(new_rankings, 'new ranking')} and ${plural(new_demonstrations, 'new ideal answer')}`;
  return last_cycle_at ? `${what} since the last cycle began, ${ago(last_cycle_at, now)}.` : `${what}; no cycle has begun yet.`;
}

/** Whether a cycle is at work, or waits. */
const busy = ({ running, queued }: Outlook) => running?.kind === 'cycle' || queued > 0;

/** Why a cycle will start by itself, each way a sentence; empty when nothing is set. */
export function reasons(outlook: Outlook, now: Date = new Date()): string[] {
  const { min_new_rankings, new_rankings, schedule, next_at } = outlook;
  const said: string[] = [];
  if (min_new_rankings) {
    const left = min_new_rankings - new_rankings;
    const then = busy(outlook) ? 'as soon as the work at hand is done' : 'in a moment';
    said.push(left > 0 ? `A cycle starts by itself after ${plural(left, 'more ranking')}.` : `There are enough new rankings: a cycle starts ${then}.`);
  }
  if (schedule && next_at) {
    const at = new Date(next_at);
    const day = { weekday: 'short', day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' } as const;
    const seconds = (at.getTime() - now.getTime()) / 1000;
    const when = seconds > 0 ? `${at.toLocaleString('en-GB', day)}, in ${duration(seconds)}` : 'now, as soon as nothing else is at work';
    said.push(`${said.length > 0 ? 'By the clock, one' : 'A cycle'} starts ${when}.`);
  }
  return said;
}
