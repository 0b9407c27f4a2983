// What starts the next cycle, in sentences. Pure, so that it can be tested without a page.
import type { Outlook } from '../lib/api/types';
import { ago, count, duration, plural } from '../lib/format';

/** What there is to learn from, and how much of it no cycle has seen. */
export function news(outlook: Outlook, now: Date = new Date()): string {
  const { rankings, demonstrations, new_rankings, new_demonstrations, last_cycle_at } = outlook;
  const all = `${plural(rankings, 'ranking')} and ${plural(demonstrations, 'ideal answer')}`;
  if (!last_cycle_at) return `${all} to learn from; no cycle has begun yet.`;
  return `${all} to learn from; ${count(new_rankings)} and ${count(new_demonstrations)} of them are new since the last cycle began, ${ago(last_cycle_at, now)}.`;
}

/** What isn't counted, and why; null when everything is. */
export function leftOut({ rankings_left_out }: Outlook): string | null {
  if (rankings_left_out === 0) return null;
  return `${plural(rankings_left_out, 'more ranking')} ${rankings_left_out === 1 ? "isn't" : "aren't"} learned from: found not rankable, or left out in the data room.`;
}

/** Whether a cycle is at work, or waits. */
const busy = ({ running, queued }: Outlook) => running?.kind === 'cycle' || queued > 0;

/** Why a cycle will start by itself, each way a sentence; empty when nothing is set. `trial`: people decide about a challenger. */
export function reasons(outlook: Outlook, trial = false, now: Date = new Date()): string[] {
  const { min_new_rankings, new_rankings, schedule, next_at, drift } = outlook;
  const said: string[] = [];
  if (min_new_rankings) {
    const left = min_new_rankings - new_rankings;
    const then = trial ? 'when the trial is over' : busy(outlook) ? 'as soon as the work at hand is done' : 'in a moment';
    said.push(left > 0 ? `A cycle starts by itself after ${plural(left, 'more ranking')}.` : `There are enough new rankings: a cycle starts ${then}.`);
  }
  if (schedule && next_at) {
    const at = new Date(next_at);
    const day = { weekday: 'short', day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' } as const;
    const seconds = (at.getTime() - now.getTime()) / 1000;
    const when = seconds > 0 ? `${at.toLocaleString('en-GB', day)}, in ${duration(seconds)}` : 'now, as soon as nothing else is at work';
    said.push(`${said.length > 0 ? 'By the clock, one' : 'A cycle'} starts ${when}.`);
  }
  if (drift) said.push(`${said.length > 0 ? 'One' : 'A cycle'} starts, too, when people come to prefer the policy that was served before this one.`);
  if (trial && said.length > 0) said.push('None starts while people decide about the challenger.');
  return said;
}
