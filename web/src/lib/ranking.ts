// The ranking of a comparison's candidates while a person makes it: each candidate has a place (1 = best) or none yet.
// Two candidates in one place are a tie.

/** A candidate's place by its id; a candidate that isn't in it hasn't been placed. */
export type Places = Readonly<Record<string, number>>;

/** Puts a candidate in a place, or takes it out with null. */
export function place(places: Places, candidate: string, at: number | null): Places {
  const { [candidate]: _gone, ...rest } = places;
  return at === null ? rest : { ...rest, [candidate]: at };
}

/** Pressing the same place twice takes a candidate out of it; another place moves it. */
export function toggle(places: Places, candidate: string, at: number): Places {
  return place(places, candidate, places[candidate] === at ? null : at);
}

/** Candidates that have no place yet, in their own order. */
export function unplaced(candidates: readonly string[], places: Places): string[] {
  return candidates.filter((c) => places[c] === undefined);
}

/** Whether every candidate has a place. */
export function complete(candidates: readonly string[], places: Places): boolean {
  return candidates.length > 0 && unplaced(candidates, places).length === 0;
}

/** Candidates in one place, in their own order. */
export function inPlace(candidates: readonly string[], places: Places, at: number): string[] {
  return candidates.filter((c) => places[c] === at);
}

/** Tiers best first, as the API takes them: empty places are closed up, so 1, 3, 3 is one alone and then a tie. */
export function tiers(candidates: readonly string[], places: Places): string[][] {
  const used = candidates.map((c) => places[c]).filter((p) => p !== undefined);
  const distinct = [...new Set(used)].sort((a, b) => a - b);
  return distinct.map((at) => inPlace(candidates, places, at));
}

/** How many pairs (better, worse) the reward model learns from this ranking: ties give none. */
export function pairs(candidates: readonly string[], places: Places): number {
  const sizes = tiers(candidates, places).map((t) => t.length);
  const total = sizes.reduce((a, b) => a + b, 0);
  const choose2 = (n: number) => (n < 2 ? 0 : (n * (n - 1)) / 2);
  return choose2(total) - sizes.map(choose2).reduce((a, b) => a + b, 0);
}

/** The candidate to look at after `from`: the next one that has no place, going round; null when all are placed. */
export function nextUnplaced(candidates: readonly string[], places: Places, from: string): string | null {
  const start = candidates.indexOf(from);
  const round = [...candidates.slice(start + 1), ...candidates.slice(0, start + 1)];
  return unplaced(round, places)[0] ?? null;
}

/** The best of the placed candidates; the first in order where several are tied. */
export function best(candidates: readonly string[], places: Places): string | null {
  return tiers(candidates, places)[0]?.[0] ?? null;
}
