// Which words of two answers differ. Loaded with the dialog that shows it.
import { diffWordsWithSpace } from 'diff';

/** A piece of text and whether the other side lacks it. */
export interface Piece {
  text: string;
  differs: boolean;
}

/** Both texts in pieces. Texts too long to compare in a moment come back whole. */
export function pieces(left: string, right: string): { left: Piece[]; right: Piece[] } {
  const changes = diffWordsWithSpace(left, right, { timeout: 300 });
  if (!changes) return { left: [{ text: left, differs: false }], right: [{ text: right, differs: false }] };
  const side = (skip: 'added' | 'removed') => changes.filter((c) => !c[skip]).map((c) => ({ text: c.value, differs: c.added || c.removed }));
  return { left: side('added'), right: side('removed') };
}
