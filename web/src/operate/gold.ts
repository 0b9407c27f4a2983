// How labelers did on a gold question, in words. Pure, so that it can be tested without a page.
import type { Gold } from '../lib/api/types';
import { letter, plural } from '../lib/format';

type Result = Gold['results'][number];

/** In a few words: how many were measured by it, and how many of them said what is expected. */
export function results({ results }: Pick<Gold, 'results'>): string {
  if (results.length === 0) return 'nobody has had it yet';
  const right = results.filter(({ agreement }) => agreement.pairs > 0 && agreement.agreed === agreement.pairs).length;
  return `${right} of ${plural(results.length, 'labeler')} ranked it as expected`;
}

/** One labeler's word on it. */
export function verdict({ ranking, agreement: { pairs, agreed } }: Result): string {
  if (!ranking) return 'found that it can’t be ranked';
  return agreed === pairs ? 'as expected' : `${agreed} of ${plural(pairs, 'pair')} as expected`;
}

/** A ranking by the letters of the answers in the expected order: "B > A = C". */
export function order(ranking: readonly (readonly string[])[], expected: readonly (readonly string[])[]): string {
  const names = new Map(expected.flat().map((id, at) => [id, letter(at)]));
  return ranking.map((tier) => tier.map((id) => names.get(id) ?? '?').join(' = ')).join(' > ');
}
