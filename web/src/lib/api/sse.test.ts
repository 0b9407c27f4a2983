import { describe, expect, it } from 'vitest';
import { events, SseParser } from './sse';

const all = (...pieces: string[]) => {
  const parser = new SseParser();
  return pieces.flatMap((p) => parser.push(p));
};

describe('SseParser', () => {
  it('reads events however the text is cut', () => {
    const text = 'event: job\r\nid: 7\r\ndata: {"a":1}\r\n\r\n: still here\n\ndata: one\ndata: two\n\n';
    const whole = all(text);
    expect(whole).toEqual([
      { event: 'job', data: '{"a":1}', id: '7' },
      { event: 'message', data: 'one\ntwo', id: '7' },
    ]);
    for (let cut = 1; cut < text.length; cut++) {
      expect(all(text.slice(0, cut), text.slice(cut)), `cut at ${cut}`).toEqual(whole);
    }
    expect(all(...text)).toEqual(whole);
  });

  it('keeps an unfinished event back', () => {
    expect(all('data: half')).toEqual([]);
    expect(all('data: half\n')).toEqual([]);
    expect(all('data: half\n\n')).toHaveLength(1);
  });

  it('takes fields without a space, without a colon, and drops a byte order mark', () => {
    expect(all('\uFEFFdata:x\ndata\n\n')).toEqual([{ event: 'message', data: 'x\n', id: '' }]);
  });

  it('sends nothing for an event without data', () => {
    expect(all('event: ping\n\ndata: x\n\n')).toEqual([{ event: 'message', data: 'x', id: '' }]);
  });
});

describe('events', () => {
  it('joins characters that were cut between two chunks, and cancels when left early', async () => {
    let cancelled = false;
    const bytes = new TextEncoder().encode('data: é€😀\n\ndata: next\n\n');
    const body = new ReadableStream<Uint8Array>({
      start(c) {
        for (const b of bytes) c.enqueue(new Uint8Array([b]));
      },
      cancel() {
        cancelled = true;
      },
    });
    for await (const e of events(body)) {
      expect(e.data).toBe('é€😀');
      break;
    }
    expect(cancelled).toBe(true);
  });
});
