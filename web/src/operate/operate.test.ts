import { describe, expect, it } from 'vitest';
import { add, extent, nearest, path, ticks } from './chart';
import { phaseName, stationOf } from './phases';

describe('chart', () => {
  it('finds the extent, with room, and never an empty one', () => {
    expect(extent([[[1, 0], [3, 10]], [[2, 5]]])).toEqual({ x0: 1, x1: 3, y0: -0.8, y1: 10.8 });
    expect(extent([[[1, 4]]])).toEqual({ x0: 1, x1: 2, y0: 3.68, y1: 4.32 });
    expect(extent([[[1, Number.NaN]], []])).toBeNull();
  });
  it('puts ticks on round numbers', () => {
    expect(ticks(0, 10, 4)).toEqual([0, 5, 10]);
    expect(ticks(-0.31, 0.27, 4)).toEqual([-0.2, 0, 0.2]);
    expect(ticks(1, 1, 4)).toEqual([]);
  });
  it('leaves a gap where a value is missing', () => {
    const same = (v: number) => v;
    expect(path([[0, 1], [1, Number.NaN], [2, 3], [3, 4]], same, same)).toBe('M0.0 1.0M2.0 3.0L3.0 4.0');
  });
  it('finds the nearest point and replaces repeated steps', () => {
    expect(nearest([[1, 9], [5, 8]], 4)).toEqual([5, 8]);
    expect(nearest([], 4)).toBeNull();
    expect(add([[1, 1], [2, 2], [3, 3]], [2, 9])).toEqual([[1, 1], [2, 9]]);
  });
});

describe('phases', () => {
  it('knows where a running job is, and says unknown phases in words', () => {
    expect(stationOf({ state: 'running', phase: 'ppo' })).toBe('ppo');
    expect(stationOf({ state: 'running', phase: 'evaluate' })).toBe('gate');
    expect(stationOf({ state: 'succeeded', phase: 'ppo' })).toBeNull();
    expect(stationOf(null)).toBeNull();
    expect(phaseName('some_new_phase')).toBe('Some new phase');
  });
});
