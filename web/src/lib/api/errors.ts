// Every error that the API can give, as a person reads it: what happened, and a way on. Where the server knows more exactly what
// is wrong (a value, a conflict), its own words are kept and only the way on is added.
import { sentence } from '../format';

/** What a code means to a person. */
export interface Meaning {
  /** What happened; null: the server's message says it best. */
  says: string | null;
  /** What to do. */
  way: string;
}

const again = 'Try again in a moment.';

/** By the server's stable `code`. */
export const meanings: Readonly<Record<string, Meaning>> = {
  invalid_body: { says: "The server couldn't read what this page sent.", way: 'Reload the page: it may be older than the server.' },
  invalid_value: { says: null, way: 'Change it and try again.' },
  context_length_exceeded: { says: 'This is longer than the model can read.', way: 'Shorten it, or start a new chat.' },
  invalid_api_key: { says: 'You are signed out.', way: 'Sign in again to go on.' },
  insufficient_role: { says: "Your role doesn't allow this.", way: 'Ask an administrator for a role that does.' },
  not_found: { says: "This doesn't exist any more, or it isn't yours.", way: 'Go back, or reload the page.' },
  model_not_found: { says: 'No policy answers under this name now.', way: 'Choose another one.' },
  method_not_allowed: { says: "The server doesn't do what this page asked for.", way: 'Reload the page: it may be older than the server.' },
  conflict: { says: null, way: 'Reload to see how things stand.' },
  client_gone: { says: 'The page stopped waiting for the answer.', way: again },
  body_too_large: { says: 'This is more text than the server takes.', way: 'Shorten it and try again.' },
  unprocessable: { says: null, way: 'Change it and try again.' },
  rate_limit_exceeded: { says: 'You are sending requests faster than your limit allows.', way: again },
  overloaded: { says: 'The model is busy: as many requests as may wait are waiting already.', way: again },
  disk_full: { says: "The server's disk is full, so nothing more can be kept.", way: 'Tell your administrator. What you wrote stays in this browser.' },
  internal_error: { says: 'Something went wrong in the server.', way: 'Try again; if it happens again, tell your administrator.' },
};

/** Codes by status, for answers without one (a proxy's). */
const byStatus: Record<number, string> = {
  401: 'invalid_api_key', 403: 'insufficient_role', 404: 'not_found', 413: 'body_too_large', 429: 'rate_limit_exceeded', 502: 'overloaded', 503: 'overloaded', 504: 'overloaded', 507: 'disk_full',
};

/** The error in words. `said` is the server's message, `retry` after how many seconds it asks to be tried again. */
export function inWords(status: number, code: string, said: string, retry: number | null): string {
  const known = meanings[code] ?? (said ? undefined : meanings[byStatus[status] ?? '']);
  const what = known?.says ?? (said ? sentence(said) : `The server answered with status ${status}.`);
  const way = retry === null ? (known?.way ?? (said ? '' : again)) : `Try again in ${Math.max(1, Math.ceil(retry))} s.`;
  return way ? `${what} ${way}` : what;
}
