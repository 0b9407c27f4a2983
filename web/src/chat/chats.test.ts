import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { chats } from './chats.svelte';
import type { Chat } from './keeper';
import { pathTo } from './tree';

/** A stream with these pieces of text, and perhaps an end. */
function stream(pieces: string[], ends = true): Response {
  const chunk = (content: string) => `data: ${JSON.stringify({ id: 'cmpl_1', choices: [{ delta: { content } }] })}\n\n`;
  return new Response(pieces.map(chunk).join('') + (ends ? 'data: [DONE]\n\n' : ''), { headers: { 'x-hone-policy': 'pol_1' } });
}

type Kept = { revision: number; title: string; turns: { content: string }[] } & Record<string, unknown>;
/** A server that keeps conversations and answers chat requests with the next of `replies`. */
class Server {
  replies: (Response | Error)[] = [];
  kept = new Map<string, Kept>();
  asked: Record<string, unknown>[] = [];
  down = false;

  fetch = (path: string, init: RequestInit = {}): Promise<Response> => {
    if (this.down) return Promise.reject(new TypeError('no network'));
    const body = init.body ? (JSON.parse(String(init.body)) as Record<string, unknown>) : {};
    if (path === '/v1/chat/completions') {
      this.asked.push(body);
      const reply = this.replies.shift();
      return reply instanceof Response ? Promise.resolve(reply) : Promise.reject(reply ?? new Error('no reply'));
    }
    const id = /^\/v1\/conversations\/([^/?]+)/.exec(path)?.[1];
    if (!id) return this.#json({ conversations: [...this.kept].map(([key, c]) => this.#entry(key, c)), total: this.kept.size });
    const known = this.kept.get(id);
    if (init.method === 'GET') return known ? this.#json({ ...known, ...this.#entry(id, known) }) : this.#json({}, 404);
    if ((known?.revision ?? 0) !== body['revision']) return this.#json({ error: { message: 'changed elsewhere' } }, 409);
    const next = { ...(body as Kept), revision: (known?.revision ?? 0) + 1 };
    this.kept.set(id, next);
    return this.#json(this.#entry(id, next));
  };

  #entry(id: string, { revision, title }: Kept) {
    return { id, revision, title, record: true, created_at: '', updated_at: new Date().toISOString() };
  }
  #json(body: unknown, status = 200): Promise<Response> {
    return Promise.resolve(new Response(JSON.stringify(body), { status }));
  }
}

let server: Server;
let person = 0;
const plain = { recorded: true, system: '', sampling: {} };
const shown = (chat: Chat) => pathTo(chat.turns, chat.leaf).map((t) => t.content);
const last = (chat: Chat) => pathTo(chat.turns, chat.leaf).at(-1);

beforeEach(async () => {
  localStorage.clear();
  server = new Server();
  vi.stubGlobal('fetch', vi.fn(server.fetch));
  await chats.openFor(`p${++person}`);
});
afterEach(() => vi.unstubAllGlobals());

it('streams an answer and keeps it on the server; another browser finds it', async () => {
  server.replies = [stream(['Hel', 'lo'])];
  const chat = chats.create(plain);
  await chats.say(chat, 'Say hello');
  expect(last(chat)).toMatchObject({ content: 'Hello', policy: 'pol_1', completion: 'cmpl_1' });
  await chats.saver.settled(chat.id);
  expect(server.kept.get(chat.id)?.title).toBe('Say hello');
  localStorage.clear();
  await chats.openFor('the same person elsewhere');
  expect(chats.list.map((c) => [c.title, c.loaded])).toEqual([['Say hello', false]]);
  const found = await chats.load(chat.id);
  expect(found && shown(found)).toEqual(['Say hello', 'Hello']);
});

it('keeps in this browser what the server could not be told, and tells it later', async () => {
  server.replies = [stream(['x'])];
  const chat = chats.create(plain);
  await chats.say(chat, 'first');
  await chats.saver.settled(chat.id);
  server.down = true;
  await chats.say(chat, 'second');
  await chats.saver.settled(chat.id);
  expect(chats.saver.waiting).toBe(true);
  expect(last(chat)?.error).toContain("can't be reached");
  server.down = false;
  const mine = `p${person}`;
  await chats.openFor('somebody else');
  await chats.openFor(mine);
  await vi.waitFor(() => expect(server.kept.get(chat.id)?.turns.map((t) => t.content)).toEqual(['first', 'x', 'second', '']));
  expect(Object.keys(localStorage).filter((k) => k.includes('unsent'))).toEqual([]);
});

it('takes along what a browser kept before the server did', async () => {
  const older = { id: 'old', title: 'Old', updated: '2026-01-01T00:00:00Z', recorded: true, turns: [{ role: 'user', content: 'a' }, { role: 'assistant', content: 'b' }] };
  localStorage.setItem('hone.chat.ann.old', JSON.stringify(older));
  await chats.openFor('ann');
  await chats.saver.settled('old');
  expect(server.kept.get('old')?.turns).toMatchObject([{ id: 't0', parent: null, content: 'a' }, { id: 't1', parent: 't0', content: 'b' }]);
  expect(Object.keys(localStorage).filter((k) => /chat|unsent/.test(k))).toEqual([]);
});

it('puts its turns together with those of another window', async () => {
  server.replies = [stream(['x'])];
  const chat = chats.create(plain);
  await chats.say(chat, 'q');
  await chats.saver.settled(chat.id);
  const kept = server.kept.get(chat.id) as Kept;
  const theirs = { id: 'theirs', parent: chat.leaf, role: 'user', content: 'from the other window' };
  server.kept.set(chat.id, { ...kept, revision: kept.revision + 1, turns: [...kept.turns, theirs] });
  server.replies = [stream(['y'])];
  await chats.say(chat, 'here');
  await chats.saver.settled(chat.id);
  expect(server.kept.get(chat.id)?.turns.map((t) => t.content)).toEqual(['q', 'x', 'from the other window', 'here', 'y']);
  expect(shown(chat)).toEqual(['q', 'x', 'here', 'y']);
});

it('asks with the system prompt and the settings, and not to be recorded', async () => {
  server.replies = [stream(['x'])];
  const chat = chats.create({ recorded: false, system: 'Be brief.', sampling: { temperature: 0.2 } });
  await chats.say(chat, 'secret');
  expect(server.asked[0]).toMatchObject({ store: false, temperature: 0.2, messages: [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'secret' }] });
  expect(last(chat)?.completion).toBeUndefined();
});

it('says that an answer broke off, and answers again beside it', async () => {
  server.replies = [stream(['ha'], false), stream(['whole'])];
  const chat = chats.create(plain);
  await chats.say(chat, 'q');
  const broken = last(chat);
  expect(broken).toMatchObject({ content: 'ha', error: expect.stringContaining('broke off') });
  if (broken) await chats.again(chat, broken);
  expect(shown(chat)).toEqual(['q', 'whole']);
  expect(last(chat)?.rival).toBeUndefined();
  expect(server.asked[1]?.['messages']).toEqual([{ role: 'user', content: 'q' }]);
});

it('keeps both answers, asks which is better, and goes between versions', async () => {
  server.replies = [stream(['one']), stream(['two']), stream(['three'])];
  const chat = chats.create(plain);
  await chats.say(chat, 'q');
  const first = last(chat);
  if (first) await chats.again(chat, first);
  expect(last(chat)).toMatchObject({ content: 'two', rival: first?.id });
  const question = chat.turns[0];
  if (question) await chats.edit(chat, question, 'other q');
  expect(shown(chat)).toEqual(['other q', 'three']);
  expect(chat.turns.some((t) => t.rival)).toBe(false);
  const other = pathTo(chat.turns, chat.leaf)[0];
  if (other) chats.turnTo(chat, other, -1);
  expect(shown(chat)).toEqual(['q', 'two']);
  const two = last(chat);
  if (two) chats.turnTo(chat, two, -1);
  expect(shown(chat)).toEqual(['q', 'one']);
});

it('shows the answer that was there when a second one fails, with the reason', async () => {
  const busy = new Response(JSON.stringify({ error: { message: "the engine's queue is full" } }), { status: 503, headers: { 'retry-after': '2' } });
  server.replies = [stream(['one']), busy];
  const chat = chats.create(plain);
  await chats.say(chat, 'q');
  const first = last(chat);
  if (first) await chats.again(chat, first);
  expect(last(chat)).toMatchObject({ content: 'one', error: "The engine's queue is full. Try again in 2 s." });
  expect(chat.turns).toHaveLength(2);
});
