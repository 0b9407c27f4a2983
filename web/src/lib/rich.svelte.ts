// What makes an answer more than text: colours in code and set maths. Both are loaded when the first answer needs them, and
// answers that are shown by then are rendered again.

class Rich {
  #highlight = $state.raw<typeof import('./highlight') | null>(null);
  #maths = $state.raw<typeof import('./maths') | null>(null);
  #asked = new Set<string>();

  /** Frames code blocks, colours them and sets formulas, as far as what it takes is loaded. */
  decorate(fragment: DocumentFragment): void {
    for (const pre of fragment.querySelectorAll('pre')) this.#code(pre);
    for (const formula of fragment.querySelectorAll<HTMLElement>('.maths')) this.#formula(formula);
  }

  /** Makes whoever calls this within an effect run again when more has been loaded. */
  watch(): void {
    void this.#highlight;
    void this.#maths;
  }

  #code(pre: HTMLPreElement): void {
    const code = pre.querySelector('code');
    const language = /language-([\w+#-]+)/.exec(code?.className ?? '')?.[1] ?? '';
    if (code && language) {
      if (!this.#highlight) this.#load('highlight', async () => (this.#highlight = await import('./highlight')));
      const colours = this.#highlight?.highlight(code.textContent ?? '', language.toLowerCase());
      if (colours) code.replaceChildren(colours);
    }
    const box = document.createElement('div');
    box.className = 'code';
    const bar = document.createElement('div');
    bar.className = 'bar';
    const name = document.createElement('span');
    name.textContent = language || 'code';
    const copy = document.createElement('button');
    copy.type = 'button';
    copy.className = 'copy';
    copy.textContent = 'Copy';
    bar.append(name, copy);
    pre.replaceWith(box);
    pre.tabIndex = 0;
    box.append(bar, pre);
  }

  #formula(element: HTMLElement): void {
    if (!this.#maths) this.#load('maths', async () => (this.#maths = await import('./maths')));
    const set = this.#maths?.typeset(element.dataset['tex'] ?? '', element.tagName === 'P');
    if (set) element.replaceChildren(set);
  }

  /** Asks once; without the network the answer stays as plain as it is, and the next page load asks again. */
  #load(what: string, load: () => Promise<unknown>): void {
    if (this.#asked.has(what)) return;
    this.#asked.add(what);
    load().catch(() => undefined);
  }
}

/** The one of the page. */
export const rich = new Rich();
