// A model's answer as safe HTML. The answer is hostile input: marked makes HTML of it, DOMPurify takes out whatever could
// run, load or restyle, and links open elsewhere without a way back.
import DOMPurify from 'dompurify';
import { Marked } from 'marked';

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    // HTML in an answer is shown as the text it is: what a model writes is never markup of this page.
    html: ({ text }) => escapeHtml(text),
    // An image would tell a foreign server that the answer was read. It becomes the link that it hides.
    image: ({ href, text }) => `<a href="${escapeHtml(href)}">${escapeHtml(text || href)}</a>`,
  },
});

const allowed = {
  ALLOWED_TAGS: [
    'p', 'br', 'hr', 'strong', 'em', 'del', 'code', 'pre', 'blockquote', 'ul', 'ol', 'li', 'a',
    'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'table', 'thead', 'tbody', 'tr', 'th', 'td', 'input',
  ],
  ALLOWED_ATTR: ['href', 'class', 'start', 'align', 'type', 'checked', 'disabled'],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  RETURN_DOM_FRAGMENT: true as const,
};

/** `&`, `<`, `>` and quotes as entities. */
export function escapeHtml(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return text.replace(/[&<>"']/g, (c) => entities[c] ?? c);
}

/** Characters that reorder text around them (Unicode's bidirectional overrides and isolates) are made visible. */
function showOverrides(text: string): string {
  return text.replace(/[\u202A-\u202E\u2066-\u2069]/g, '\u25AF');
}

/** The answer as a fragment that holds nothing that runs. */
export function render(markdown: string): DocumentFragment {
  const html = marked.parse(showOverrides(markdown), { async: false });
  const fragment = DOMPurify.sanitize(html, allowed);
  for (const link of fragment.querySelectorAll('a')) {
    link.target = '_blank';
    link.rel = 'noopener noreferrer nofollow';
  }
  for (const input of fragment.querySelectorAll('input')) {
    if (input.type === 'checkbox') input.disabled = true;
    else input.remove();
  }
  for (const table of fragment.querySelectorAll('table')) {
    const scroll = document.createElement('div');
    scroll.className = 'table-scroll';
    scroll.tabIndex = 0;
    table.replaceWith(scroll);
    scroll.append(table);
  }
  return fragment;
}
