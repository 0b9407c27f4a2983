// Whose preferences a reward model holds, in words, and what goes with its reward, on one scale. Pure.
import { percent, plural, signed } from '../lib/format';
import type { Effect, Estimate, PairShare, Preferences, Rewarded } from '../lib/api/types';

/** "75 % of 40 pairs"; null for none. */
export function share({ of, pairs }: PairShare): string | null {
  return pairs > 0 ? `${percent(of / pairs)} of ${plural(Math.round(pairs), 'pair')}` : null;
}

/** How far the reward model orders answers as people do, and people as each other. */
export function accuracy({ held_out, held_out_new_labelers, agreement }: Preferences): string {
  const [unseen, strangers, people] = [held_out, held_out_new_labelers, agreement].map(share);
  return [
    unseen ? `It orders answers that it never saw as people did in ${unseen}` : 'No ranking was held out to test it on',
    unseen && strangers ? `; in ${strangers} where it had learned nothing from that person` : '',
    people ? `. People who ranked the same answers agree in ${people}.` : '. No two people ranked the same answers.',
  ].join('');
}

/** Whether longer answers get more reward. */
export function ofLength({ mean, low, high }: Estimate): string {
  const sure = low > 0 || high < 0;
  const what = sure ? `Longer answers get ${mean > 0 ? 'more' : 'less'} reward` : 'No sure difference is made by length';
  return `${what}: correlation ${signed(mean)} (95 % interval ${signed(low)} to ${signed(high)}).`;
}

/** Who a labeler is, and by how much the reward model is theirs. */
export interface Voice {
  name: string;
  role: string;
  rankings: number;
  /** 0 to 1: of all rankings that it learned from. */
  part: number;
  heldOut: string | null;
  agreement: string | null;
}

/** Those whose rankings it learned from, the most first. */
export function voices({ labelers }: Preferences): Voice[] {
  const ranked = Object.entries(labelers).filter(([, l]) => l.rankings > 0);
  const all = ranked.reduce((sum, [, l]) => sum + l.rankings, 0);
  return ranked
    .map(([name, l]) => ({ name, role: l.role ?? 'no account any more', rankings: l.rankings, part: l.rankings / all, heldOut: share(l.held_out), agreement: share(l.agreement) }))
    .sort((a, b) => b.rankings - a.rankings || a.name.localeCompare(b.name));
}

/** Something that goes with reward, drawn around zero: -1 to 1 is the width. */
export interface Drawn {
  what: string;
  name: string;
  effect: Effect;
  mean: number;
  low: number;
  high: number;
}

/** Flags and words together, each kind in its own order; the one that reaches farthest from zero reaches the edge. */
export function drawn({ flags, words }: Pick<Rewarded, 'flags' | 'words'>): Drawn[] {
  const all = [...flags.map((effect) => ({ what: 'flag', effect })), ...words.map((effect) => ({ what: 'word', effect }))];
  const most = Math.max(1e-9, ...all.flatMap(({ effect: { difference: d } }) => [Math.abs(d.low), Math.abs(d.high)]));
  return all.map(({ what, effect }) => {
    const { mean, low, high } = effect.difference;
    return { what, name: effect.name, effect, mean: mean / most, low: low / most, high: high / most };
  });
}
