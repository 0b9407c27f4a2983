// The one place that talks to the server: requests, streams, and errors as sentences.
import { sentence } from '../format';
import { events, type SseEvent } from './sse';

/** What went wrong, as a sentence that a person can act on. */
export class ApiError extends Error {
  constructor(
    message: string,
    /** HTTP status; 0 when no answer came. */
    readonly status: number,
    /** The server's stable code, such as "rate_limit_exceeded". */
    readonly code: string = '',
    /** After how many seconds it makes sense to try again, if the server said so. */
    readonly retryAfterSeconds: number | null = null,
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

let whenSignedOut: () => void = () => undefined;

/** Called whenever the server says that nobody is signed in. */
export function onSignedOut(listener: () => void): void {
  whenSignedOut = listener;
}

const unreachable = "The server can't be reached. Check that hone is running and that you are online, then try again.";

const byStatus: Record<number, string> = {
  401: 'You are signed out. Sign in again to go on.',
  403: "Your role doesn't allow this. Ask an administrator for the operator role.",
  404: "This doesn't exist any more, or it isn't yours.",
  413: 'This is more text than the server takes. Shorten it and try again.',
  429: 'You are sending requests faster than your limit allows.',
  503: 'The model is busy: as many requests as may wait are waiting already.',
};

function inWords(status: number, said: string | undefined): string {
  return sentence(said?.trim() || byStatus[status] || `The server answered with status ${status}. Try again.`);
}

interface ErrorBody {
  error?: { message?: string; code?: string | null };
}

async function failure(response: Response): Promise<ApiError> {
  const body = (await response.json().catch(() => ({}))) as ErrorBody;
  const after = Number(response.headers.get('retry-after') ?? Number.NaN);
  const retry = Number.isFinite(after) ? after : null;
  const wait = retry === null ? '' : ` Try again in ${Math.max(1, Math.ceil(retry))} s.`;
  return new ApiError(inWords(response.status, body.error?.message) + wait, response.status, body.error?.code ?? '', retry);
}

/** How a request is made. */
export interface Options {
  method?: 'GET' | 'POST' | 'PUT' | 'DELETE';
  body?: unknown;
  signal?: AbortSignal | undefined;
}

async function request(path: string, { method = 'GET', body, signal }: Options, accept: string): Promise<Response> {
  const headers: Record<string, string> = { accept };
  if (body !== undefined) headers['content-type'] = 'application/json';
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers,
      credentials: 'same-origin',
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(unreachable, 0, 'unreachable');
  }
  if (!response.ok) {
    const error = await failure(response);
    if (response.status === 401) whenSignedOut();
    throw error;
  }
  return response;
}

/** One request with a JSON answer. */
export async function call<T>(path: string, options: Options = {}): Promise<T> {
  const response = await request(path, options, 'application/json');
  if (response.status === 204) return undefined as T;
  return (await response.json()) as T;
}

/** A request whose answer is a stream of events, with the answer's headers. */
export async function open(path: string, options: Options = {}): Promise<{ headers: Headers; events: AsyncGenerator<SseEvent> }> {
  const response = await request(path, options, 'text/event-stream');
  if (!response.body) throw new ApiError(unreachable, 0, 'unreachable');
  return { headers: response.headers, events: guarded(events(response.body), options.signal) };
}

/** Turns a connection that breaks in the middle into a sentence. */
async function* guarded(source: AsyncGenerator<SseEvent>, signal?: AbortSignal): AsyncGenerator<SseEvent> {
  try {
    yield* source;
  } catch (error) {
    if (signal?.aborted || error instanceof ApiError) throw error;
    throw new ApiError('The connection broke in the middle of the answer. Try again.', 0, 'broken');
  }
}

/** An error of any kind as a sentence. */
export function explain(error: unknown): string {
  if (error instanceof ApiError) return error.message;
  return error instanceof Error && error.message ? `Something went wrong here: ${error.message}` : 'Something went wrong. Try again.';
}
