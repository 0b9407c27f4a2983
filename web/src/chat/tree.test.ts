import { describe, expect, it } from 'vitest';
import { byAge } from './byage';
import { fileName, merged, messagesOf, newestLeaf, pathTo, siblings, titleOf, versions, type Turn } from './tree';

const turn = (id: string, parent: string | null, role: Turn['role'] = 'user'): Turn => ({ id, parent, role, content: id });
/** q1 -> a1, a2 (again); a1 -> q2, q2b (edited) -> a3. */
const turns = [
  turn('q1', null), turn('a1', 'q1', 'assistant'), turn('q2', 'a1'), turn('a2', 'q1', 'assistant'), turn('q2b', 'a1'), turn('a3', 'q2b', 'assistant'),
];
const ids = (some: readonly Turn[]) => some.map((t) => t.id);

describe('tree', () => {
  it('reads a branch from its end, and nothing where there is none', () => {
    expect(ids(pathTo(turns, 'a3'))).toEqual(['q1', 'a1', 'q2b', 'a3']);
    expect(ids(pathTo(turns, 'a2'))).toEqual(['q1', 'a2']);
    expect(pathTo(turns, null)).toEqual([]);
    expect(pathTo(turns, 'gone')).toEqual([]);
  });
  it('ends although a damaged tree goes round', () => {
    const round = [turn('a', 'b'), turn('b', 'a')];
    expect(ids(pathTo(round, 'a'))).toEqual(['b', 'a']);
    expect(['a', 'b']).toContain(newestLeaf(round, 'a'));
  });
  it('knows the versions of a turn, and the newest end below one', () => {
    expect(ids(siblings(turns, turns[1] as Turn))).toEqual(['a1', 'a2']);
    expect(ids(siblings(turns, turns[2] as Turn))).toEqual(['q2', 'q2b']);
    expect(Object.fromEntries(versions(turns))).toMatchObject({ q1: { at: 1, of: 1 }, a1: { at: 1, of: 2 }, a2: { at: 2, of: 2 }, q2b: { at: 2, of: 2 }, a3: { at: 1, of: 1 } });
    expect(newestLeaf(turns, 'a1')).toBe('a3');
    expect(newestLeaf(turns, 'a2')).toBe('a2');
  });
  it('puts two states together without losing a turn, each after its parent', () => {
    const theirs = [...turns.slice(0, 2), turn('x', 'a1')];
    const ours = [...turns.slice(0, 2), { ...turn('a2', 'q1', 'assistant'), content: 'more' }];
    expect(ids(merged(theirs, ours))).toEqual(['q1', 'a1', 'x', 'a2']);
    expect(merged(turns, ours).find((t) => t.id === 'a2')?.content).toBe('more');
  });
});

it('makes titles of first lines, names of titles, and leaves empty answers out of what is sent', () => {
  expect(titleOf('  one\ntwo')).toBe('one');
  expect(titleOf('# Of stones')).toBe('Of stones');
  expect(titleOf('---')).not.toBe('');
  expect(titleOf('x'.repeat(60))).toHaveLength(48);
  expect(fileName('Why is the sky… blue?')).toBe('why-is-the-sky-blue');
  expect(fileName('../../etc')).toBe('etc');
  expect(fileName('???')).toBe('chat');
  const said = [turn('a', null), { ...turn('b', 'a', 'assistant'), content: ' ' }];
  expect(messagesOf(said)).toEqual([{ role: 'user', content: 'a' }]);
  expect(messagesOf(said, ' Be brief. ')[0]).toEqual({ role: 'system', content: 'Be brief.' });
});

it('groups conversations by day', () => {
  const now = new Date(2026, 2, 14, 12);
  const at = (day: number, hour = 9) => ({ updated: new Date(2026, 2, day, hour).toISOString() });
  const groups = byAge([at(14), at(13), at(12), at(1), { updated: '2020-01-01T00:00:00Z' }], now);
  expect(groups.map((g) => [g.name, g.chats.length])).toEqual([
    ['Today', 1], ['Yesterday', 1], ['Last 7 days', 1], ['Last 30 days', 1], ['Older', 1],
  ]);
  expect(byAge([], now)).toEqual([]);
});
