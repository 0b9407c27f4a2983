// Maths as KaTeX sets it. Loaded when the first formula is shown. KaTeX builds elements and styles them through the DOM, which
// the page's content policy allows; its MathML sets style attributes, which it doesn't, so a formula is read out as its TeX.
import katex from 'katex';
import 'katex/dist/katex.min.css';

const kept = new Map<string, HTMLElement>();
const keptMost = 500;

/** The formula, or null when it isn't one that KaTeX knows. */
export function typeset(tex: string, display: boolean): HTMLElement | null {
  const key = `${display} ${tex}`;
  let found = kept.get(key);
  if (!found) {
    found = document.createElement('span');
    try {
      // Nothing in a formula may load, link or grow without bounds. A command that would is shown by its name; KaTeX's own red can't be read
      // on a dark page.
      const shown = { displayMode: display, output: 'html', strict: 'ignore', errorColor: 'var(--bad)' } as const;
      katex.render(tex, found, { ...shown, throwOnError: true, trust: false, maxExpand: 200, maxSize: 20 });
    } catch {
      return null;
    }
    found.role = 'math';
    found.ariaLabel = tex;
    if (kept.size >= keptMost) kept.clear();
    kept.set(key, found);
  }
  return found.cloneNode(true) as HTMLElement;
}
