// Which page is shown, by the part of the address after `#`: it needs nothing from the server, and a sign-in token in it is
// never sent or logged by anything in between.

/** The pages. */
export type Page = 'chat' | 'compare' | 'label' | 'operate' | 'sign-in';

/** Where we are: the page, what follows it (an id, or a room), what is looked at there, and the query. */
export interface Place {
  page: Page;
  id: string | null;
  detail: string | null;
  query: URLSearchParams;
}

const pages: readonly string[] = ['chat', 'compare', 'label', 'operate', 'sign-in'];

/** Reads a place from the address's hash; what isn't known is the chat. */
export function parse(hash: string): Place {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  const [page = '', id = '', detail = ''] = path.split('/');
  const named = (part: string) => (part === '' ? null : decodeURIComponent(part));
  return {
    page: pages.includes(page) ? (page as Page) : 'chat',
    id: named(id),
    detail: named(detail),
    query: new URLSearchParams(query),
  };
}

/** The address of a place, for links. */
export function href(page: Page, ...parts: string[]): string {
  return ['#', page, ...parts.map(encodeURIComponent)].join('/');
}

class Router {
  place = $state.raw<Place>(parse(location.hash));

  constructor() {
    addEventListener('hashchange', () => (this.place = parse(location.hash)));
  }

  /** Goes to a page; `replace` leaves no way back (used to take a token out of the history). */
  go(page: Page, id: string | null = null, replace = false): void {
    const hash = href(page, ...(id === null ? [] : [id]));
    if (replace) history.replaceState(null, '', hash);
    else if (location.hash !== hash) history.pushState(null, '', hash);
    this.place = parse(hash);
  }
}

/** The one router of the page. */
export const router = new Router();
