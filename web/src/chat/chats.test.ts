import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { chats, messagesOf, titleOf } from './chats.svelte';

/** A stream with these pieces of text, and perhaps an end. */
function stream(pieces: string[], ends = true): Response {
  const chunk = (content: string) => `data: ${JSON.stringify({ id: 'cmpl_1', choices: [{ delta: { content } }] })}\n\n`;
  return new Response(pieces.map(chunk).join('') + (ends ? 'data: [DONE]\n\n' : ''), { headers: { 'x-hone-policy': 'pol_1' } });
}

let person = 0;
beforeEach(() => {
  localStorage.clear();
  chats.openFor(`p${++person}`);
});
afterEach(() => vi.unstubAllGlobals());

it('streams an answer, keeps it, and finds it again', async () => {
  const fetch = vi.fn(() => Promise.resolve(stream(['Hel', 'lo'])));
  vi.stubGlobal('fetch', fetch);
  const chat = chats.create(true);
  await chats.say(chat, 'Say hello');
  expect(chat.title).toBe('Say hello');
  expect(chat.turns[1]).toMatchObject({ content: 'Hello', policy: 'pol_1', completion: 'cmpl_1' });
  const mine = `p${person}`;
  chats.openFor('somebody else');
  expect(chats.list).toEqual([]);
  chats.openFor(mine);
  expect(chats.list[0]?.turns[1]?.content).toBe('Hello');
});

it('asks not to be recorded, and then offers nothing to rate', async () => {
  const fetch = vi.fn((_path: string, _init: RequestInit) => Promise.resolve(stream(['x'])));
  vi.stubGlobal('fetch', fetch);
  const chat = chats.create(false);
  await chats.say(chat, 'secret');
  expect(JSON.parse(String(fetch.mock.calls[0]?.[1].body))).toMatchObject({ store: false, messages: [{ role: 'user', content: 'secret' }] });
  expect(chat.turns[1]?.completion).toBeUndefined();
});

it('says that an answer broke off, and asks again without it', async () => {
  const replies = [stream(['ha'], false), stream(['whole'])];
  const fetch = vi.fn((_path: string, _init: RequestInit) => Promise.resolve(replies.shift() as Response));
  vi.stubGlobal('fetch', fetch);
  const chat = chats.create(true);
  await chats.say(chat, 'q');
  expect(chat.turns[1]).toMatchObject({ content: 'ha', error: expect.stringContaining('broke off') });
  await chats.again(chat);
  expect(chat.turns.map((t) => t.content)).toEqual(['q', 'whole']);
  expect(JSON.parse(String(fetch.mock.calls[1]?.[1].body)).messages).toEqual([{ role: 'user', content: 'q' }]);
});

it('tells what the server said, and when to try again', async () => {
  const busy = new Response(JSON.stringify({ error: { message: "the engine's queue is full" } }), { status: 503, headers: { 'retry-after': '2' } });
  vi.stubGlobal('fetch', () => Promise.resolve(busy));
  const chat = chats.create(true);
  await chats.say(chat, 'q');
  expect(chat.turns[1]?.error).toBe("The engine's queue is full. Try again in 2 s.");
});

it('makes titles of first lines and leaves empty answers out of what is sent', () => {
  expect(titleOf('  one\ntwo')).toBe('one');
  expect(titleOf('x'.repeat(60))).toHaveLength(48);
  expect(messagesOf([{ role: 'user', content: 'a' }, { role: 'assistant', content: '' }])).toEqual([{ role: 'user', content: 'a' }]);
});
