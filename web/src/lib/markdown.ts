// A model's answer as safe HTML. The answer is hostile input: marked makes HTML of it, DOMPurify takes out whatever could
// run, load or restyle, and links open elsewhere without a way back.
import DOMPurify from 'dompurify';
import { Marked } from 'marked';
import { block, inline } from './mathtext';

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    // HTML in an answer is shown as the text it is: what a model writes is never markup of this page.
    html: ({ text }) => escapeHtml(text),
    // An image would tell a foreign server that the answer was read. It becomes the link that it hides.
    image: ({ href, text }) => `<a href="${escapeHtml(href)}">${escapeHtml(text || href)}</a>`,
  },
  extensions: [
    { ...inline, renderer: ({ raw, text }) => `<span class="maths" data-tex="${escapeHtml(String(text))}">${escapeHtml(raw)}</span>` },
    { ...block, renderer: ({ raw, text }) => `<p class="maths" data-tex="${escapeHtml(String(text))}">${escapeHtml(raw)}</p>` },
  ],
});

const allowed = {
  ALLOWED_TAGS: [
    'p', 'br', 'hr', 'strong', 'em', 'del', 'code', 'pre', 'blockquote', 'ul', 'ol', 'li', 'a', 'span',
    'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'table', 'thead', 'tbody', 'tr', 'th', 'td', 'input',
  ],
  ALLOWED_ATTR: ['href', 'class', 'start', 'align', 'type', 'checked', 'disabled', 'data-tex'],
  ALLOW_DATA_ATTR: false,
  // These hold no address, so the rule for addresses isn't asked.
  ADD_URI_SAFE_ATTR: ['start', 'align', 'type', 'checked', 'disabled', 'data-tex'],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  RETURN_DOM_FRAGMENT: true as const,
};

/** Longer than any model's answer; more is shown as plain text, which no length makes slow. */
const longest = 300_000;

/** `&`, `<`, `>` and quotes as entities. */
export function escapeHtml(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return text.replace(/[&<>"']/g, (c) => entities[c] ?? c);
}

/** Characters that reorder text around them (Unicode's bidirectional overrides and isolates) are made visible. */
function showOverrides(text: string): string {
  return text.replace(/[\u202A-\u202E\u2066-\u2069]/g, '\u25AF');
}

/** The answer as it was written, where it can't be rendered. */
function plain(text: string): DocumentFragment {
  const fragment = document.createDocumentFragment();
  const p = document.createElement('p');
  p.className = 'plain';
  p.textContent = text;
  fragment.append(p);
  return fragment;
}

/** Markdown as HTML; null where it is so deeply nested that the parser gives up. */
function parsed(markdown: string): string | null {
  try {
    return marked.parse(markdown, { async: false });
  } catch {
    return null;
  }
}

/** The answer as a fragment that holds nothing that runs. */
export function render(markdown: string): DocumentFragment {
  const text = showOverrides(markdown);
  const html = text.length > longest ? null : parsed(text);
  if (html === null) return plain(text);
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
    scroll.role = 'group';
    scroll.ariaLabel = 'Table';
    table.replaceWith(scroll);
    scroll.append(table);
  }
  return fragment;
}
