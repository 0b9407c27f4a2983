// Where maths begins and ends in an answer: `$...$` and `\(...\)` within a line, `$$...$$` and `\[...\]` on their own. A price
// ("$5 and $10") is no maths: no space stands inside of the dollars, and no digit after them.
import type { TokenizerExtension, Tokens } from 'marked';

const inlineAt = /^(?:\$(?![\s$])((?:\\[^\n]|[^$\\\n])*?(?:\\[^\n]|[^\s$\\]))\$(?!\d)|\\\(((?:[^\\\n]|\\[^)\n])+?)\\\))/;
const blockAt = /^ {0,3}(?:\$\$([^$]+?)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n|$)/;

function token(type: string, found: RegExpExecArray | null): Tokens.Generic | undefined {
  const text = (found?.[1] ?? found?.[2] ?? '').trim();
  return found && text ? { type, raw: found[0], text } : undefined;
}

/** Maths within a line. */
export const inline: TokenizerExtension = {
  name: 'maths',
  level: 'inline',
  start: (src) => {
    const at = src.search(/\$|\\\(/);
    return at < 0 ? undefined : at;
  },
  tokenizer: (src) => token('maths', inlineAt.exec(src)),
};

/** Maths on its own. */
export const block: TokenizerExtension = {
  name: 'mathsBlock',
  level: 'block',
  start: (src) => {
    const at = src.search(/(?:^|\n) {0,3}(?:\$\$|\\\[)/);
    return at < 0 ? undefined : at;
  },
  tokenizer: (src) => token('mathsBlock', blockAt.exec(src)),
};
