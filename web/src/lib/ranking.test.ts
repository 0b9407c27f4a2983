import { describe, expect, it } from 'vitest';
import { best, complete, nextUnplaced, pairs, place, tiers, toggle, unplaced, type Places } from './ranking';

const abcd = ['a', 'b', 'c', 'd'];

describe('places', () => {
  it('moves, ties and takes out', () => {
    let p: Places = {};
    p = place(p, 'a', 1);
    p = place(p, 'b', 1);
    p = place(p, 'a', 2);
    expect(p).toEqual({ b: 1, a: 2 });
    p = toggle(p, 'b', 1);
    expect(p).toEqual({ a: 2 });
    p = toggle(p, 'a', 3);
    expect(p).toEqual({ a: 3 });
    expect(place(p, 'a', null)).toEqual({});
  });

  it('knows what is missing', () => {
    expect(unplaced(abcd, { b: 1 })).toEqual(['a', 'c', 'd']);
    expect(complete(abcd, { a: 1, b: 1, c: 1, d: 1 })).toBe(true);
    expect(complete(abcd, { a: 1, b: 2, c: 3 })).toBe(false);
    expect(complete([], {})).toBe(false);
  });

  it('goes on to the next one without a place, round the end', () => {
    expect(nextUnplaced(abcd, { a: 1 }, 'a')).toBe('b');
    expect(nextUnplaced(abcd, { d: 1, a: 2 }, 'd')).toBe('b');
    expect(nextUnplaced(abcd, { a: 1, b: 1, c: 1 }, 'd')).toBe('d');
    expect(nextUnplaced(abcd, { a: 1, b: 1, c: 1, d: 4 }, 'd')).toBeNull();
  });
});

describe('tiers', () => {
  it('closes gaps and keeps ties together', () => {
    expect(tiers(abcd, { a: 4, b: 2, c: 2, d: 9 })).toEqual([['b', 'c'], ['a'], ['d']]);
  });
  it('leaves out what was placed but is no candidate', () => {
    expect(tiers(['a', 'b'], { a: 1, b: 2, old: 1 })).toEqual([['a'], ['b']]);
  });
  it('counts the pairs a reward model learns from', () => {
    expect(pairs(abcd, { a: 1, b: 2, c: 3, d: 4 })).toBe(6);
    expect(pairs(abcd, { a: 1, b: 1, c: 3, d: 4 })).toBe(5);
    expect(pairs(abcd, { a: 1, b: 1, c: 1, d: 1 })).toBe(0);
    expect(pairs(abcd, {})).toBe(0);
  });
  it('finds the best', () => {
    expect(best(abcd, { a: 3, b: 2, c: 2 })).toBe('b');
    expect(best(abcd, {})).toBeNull();
  });
});
