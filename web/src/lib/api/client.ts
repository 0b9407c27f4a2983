// The one place that talks to the server: requests, streams, and errors as sentences.
import { sentence } from '../format';
import { inWords } from './errors';
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

interface ErrorBody {
  error?: { message?: string; code?: string | null };
}

async function failure(response: Response, path: string): Promise<ApiError> {
  const body = (await response.json().catch(() => ({}))) as ErrorBody;
  const after = Number(response.headers.get('retry-after') ?? Number.NaN);
  const retry = Number.isFinite(after) ? after : null;
  const code = body.error?.code ?? '';
  const said = body.error?.message?.trim() ?? '';
  // At the sign-in, the server says what is wrong with the key; anywhere else its absence is all that matters.
  const words = path === '/v1/session' && said ? sentence(said) : inWords(response.status, code, said, retry);
  return new ApiError(words, response.status, code, retry);
}

/** An error that came within a stream. */
export function failed({ message, code }: { message: string; code: string }): ApiError {
  return new ApiError(inWords(500, code, message, null), 500, code);
}

/** How a request is made. */
export interface Options {
  method?: 'GET' | 'POST' | 'PUT' | 'DELETE';
  body?: unknown;
  signal?: AbortSignal | undefined;
  /** Goes on although the page closes. */
  keepalive?: boolean;
  /** The body's type where it isn't JSON; `body` is a text then. */
  type?: string;
}

async function request(path: string, { method = 'GET', body, signal, keepalive = false, type }: Options, accept: string): Promise<Response> {
  const headers: Record<string, string> = { accept };
  if (body !== undefined) headers['content-type'] = type ?? 'application/json';
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers,
      credentials: 'same-origin',
      keepalive,
      ...(body === undefined ? {} : { body: type === undefined ? JSON.stringify(body) : String(body) }),
      ...(signal ? { signal } : {}),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(unreachable, 0, 'unreachable');
  }
  if (!response.ok) {
    const error = await failure(response, path);
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

/** Sends a text that isn't JSON. */
export function send(path: string, text: string, type: string): Promise<Response> {
  return request(path, { method: 'POST', body: text, type }, 'application/json');
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
