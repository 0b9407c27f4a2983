// Server-sent events out of a byte stream: the parser of the HTML standard, section 9.2.6, for fetch bodies
// (EventSource can neither send a POST nor say why a request failed).

/** One event as the server sent it. */
export interface SseEvent {
  /** The event's name; "message" when the server gave none. */
  event: string;
  /** All its data lines, joined by newlines. */
  data: string;
  /** The last id seen, to resume from; empty when there was none. */
  id: string;
}

/** Takes text in pieces of any size and gives the events that are complete. */
export class SseParser {
  #rest = '';
  #data: string[] = [];
  #event = '';
  #id = '';
  #begun = false;

  /** Events that this piece completes. */
  push(piece: string): SseEvent[] {
    let text = this.#rest + piece;
    if (!this.#begun && text.length > 0) {
      this.#begun = true;
      if (text.startsWith('\uFEFF')) text = text.slice(1);
    }
    const events: SseEvent[] = [];
    let start = 0;
    for (;;) {
      const end = lineEnd(text, start);
      if (end === null) break;
      const event = this.#line(text.slice(start, end.at));
      if (event) events.push(event);
      start = end.next;
    }
    this.#rest = text.slice(start);
    return events;
  }

  #line(line: string): SseEvent | null {
    if (line === '') return this.#dispatch();
    if (line.startsWith(':')) return null;
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const raw = colon < 0 ? '' : line.slice(colon + 1);
    const value = raw.startsWith(' ') ? raw.slice(1) : raw;
    if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#event = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
    return null;
  }

  #dispatch(): SseEvent | null {
    const lines = this.#data;
    const event = this.#event || 'message';
    this.#data = [];
    this.#event = '';
    return lines.length > 0 ? { event, data: lines.join('\n'), id: this.#id } : null;
  }
}

/** Where the line that begins at `start` ends, or null if its end hasn't come (a lone CR at the end may be half a CRLF). */
function lineEnd(text: string, start: number): { at: number; next: number } | null {
  for (let i = start; i < text.length; i++) {
    const c = text[i];
    if (c === '\n') return { at: i, next: i + 1 };
    if (c === '\r') {
      if (i + 1 === text.length) return null;
      return { at: i, next: text[i + 1] === '\n' ? i + 2 : i + 1 };
    }
  }
  return null;
}

/** The events of a response body, as they come. Leaving the loop cancels the body. */
export async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<SseEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new SseParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    // A body that broke can't be cancelled; the error that matters is already on its way up.
    await reader.cancel().catch(() => undefined);
  }
}
