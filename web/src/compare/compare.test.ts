import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { ComparisonEvent } from '../lib/api/types';
import { compare } from './compare.svelte';

const whole = [
  { id: 'a', content: 'one' },
  { id: 'b', content: 'two' },
];
const begun: ComparisonEvent = { type: 'comparison', id: 'cmp_1', candidates: [{ id: 'a' }, { id: 'b' }] };

/** A server that answers each request with the next of these. */
function answers(...bodies: (ComparisonEvent[] | object)[]): ReturnType<typeof vi.fn> {
  const fetch = vi.fn(() => {
    const body = bodies.shift();
    if (!Array.isArray(body)) return Promise.resolve(new Response(JSON.stringify(body ?? {}), { status: body ? 200 : 404 }));
    const text = body.map((e) => `data: ${JSON.stringify(e)}\n\n`).join('');
    return Promise.resolve(new Response(`${text}data: [DONE]\n\n`));
  });
  vi.stubGlobal('fetch', fetch);
  return fetch;
}

beforeEach(() => {
  localStorage.clear();
  compare.openFor(`person-${Math.random()}`);
  compare.begin('Which?');
});
afterEach(() => vi.unstubAllGlobals());

it('collects the answers as they stream, and can be ranked only once the server has kept them', async () => {
  answers([
    begun,
    { type: 'delta', candidate: 'b', content: 'tw' },
    { type: 'delta', candidate: 'a', content: 'one' },
    { type: 'delta', candidate: 'b', content: 'o' },
    { type: 'done', candidate: 'a', finish_reason: 'stop' },
    { type: 'done', candidate: 'b', finish_reason: 'stop' },
  ]);
  await compare.ask();
  expect(compare.round?.answers.map((a) => a.content)).toEqual(['one', 'two']);
  expect(compare.round?.kept).toBe(false);
  expect(compare.error).toContain('broke off');
});

it('moves on to the next answer with each place, and sends tiers', async () => {
  const fetch = answers([begun, { type: 'complete', id: 'cmp_1', candidates: whole }], {
    candidates: [{ ...whole[0], policy: 'p1' }, { ...whole[1], policy: 'p2' }],
  });
  await compare.ask();
  expect([compare.round?.kept, compare.ranker.active]).toEqual([true, 'a']);
  compare.ranker.place('a', 2);
  expect(compare.ranker.active).toBe('b');
  expect(compare.ranker.sendable).toBe(false);
  compare.ranker.place('b', 1);
  compare.ranker.place('b', 9);
  expect(compare.ranker.sendable).toBe(true);
  await compare.send();
  const [path, init] = fetch.mock.calls[1] as [string, RequestInit];
  expect(path).toBe('/v1/comparisons/cmp_1/ranking');
  expect(JSON.parse(String(init.body))).toEqual({ ranking: [['b'], ['a']] });
  expect(compare.round?.answers.map((a) => a.policy)).toEqual(['p1', 'p2']);
  compare.ranker.place('a', 1);
  expect(compare.round?.places).toEqual({ a: 2, b: 1 });
});

it('takes moves back one by one, and a sent ranking as a whole', async () => {
  const fetch = answers([begun, { type: 'complete', id: 'cmp_1', candidates: whole }], { candidates: whole.map((c) => ({ ...c, policy: 'p' })) }, { id: 'cmp_1' });
  await compare.ask();
  const { ranker } = compare;
  ranker.place('a', 1);
  ranker.nudge(1);
  ranker.setNone(true);
  ranker.undo();
  expect(compare.round).toMatchObject({ places: { a: 1, b: 2 }, noneAcceptable: false });
  ranker.undo();
  expect(compare.round?.places).toEqual({ a: 1 });
  ranker.move('b', 2);
  ranker.rate('a', 6);
  ranker.flag('b', 'made_up');
  ranker.flag('a', 'opinion');
  ranker.flag('a', 'opinion');
  ranker.writeIdeal();
  expect(compare.round?.ideal).toBe('one');
  await compare.send();
  expect(JSON.parse(String((fetch.mock.calls[1] as [string, RequestInit])[1].body))).toEqual({
    ranking: [['a'], ['b']],
    labels: { a: { overall: 6, flags: [] }, b: { flags: ['made_up'] } },
    ideal: 'one',
  });
  ranker.move('a', 2);
  expect(compare.round?.places).toEqual({ a: 1, b: 2 });
  await compare.takeBack();
  expect(fetch.mock.calls[2]).toMatchObject(['/v1/comparisons/cmp_1/ranking', { method: 'DELETE' }]);
  expect(compare.round?.answers.some((a) => a.policy)).toBe(false);
  expect(ranker.open).toBe(true);
});

it('finds answers again that a closed tab left on the server, and forgets those that were never kept', async () => {
  const half = { id: 'cmp_1', prompt: 'p', context: [], k: 2, answers: [], places: {}, noneAcceptable: false, comment: '', ideal: null, kept: false, sent: false };
  answers({ id: 'cmp_1', messages: [], candidates: whole, ranking: null });
  localStorage.setItem('hone.compare.x', JSON.stringify({ prompt: 'p', context: [], k: 2, round: half }));
  compare.openFor('x');
  await vi.waitFor(() => expect(compare.round?.kept).toBe(true));
  expect(compare.round?.answers[1]?.content).toBe('two');

  answers();
  localStorage.setItem('hone.compare.y', JSON.stringify({ prompt: 'p', context: [], k: 2, round: half }));
  compare.openFor('y');
  await vi.waitFor(() => expect(compare.round).toBeNull());
  expect(compare.draft.prompt).toBe('p');
});
