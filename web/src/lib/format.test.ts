import { describe, expect, it } from 'vitest';
import { ago, count, duration, elapsedSeconds, metric, ordinal, percent, plural, sentence, shortId, signed } from './format';

describe('numbers', () => {
  it('keeps about three digits', () => {
    expect([0, 0.01234, 0.4567, 1.234, 12.34, 123.4, 12345].map(metric)).toEqual([
      '0', '0.0123', '0.457', '1.23', '12.3', '123', '12,345',
    ]);
    expect(metric(-0.5)).toBe('−0.5');
    expect(metric(1.5e-6)).toBe('1.5e−6');
    expect(metric(Number.NaN)).toBe('–');
  });
  it('signs, shares and plurals', () => {
    expect(signed(0.42)).toBe('+0.42');
    expect(signed(-0.42)).toBe('−0.42');
    expect(percent(0.724)).toBe('72 %');
    expect(percent(Number.NaN)).toBe('–');
    expect(plural(1, 'ranking')).toBe('1 ranking');
    expect(plural(1200, 'ranking')).toBe('1,200 rankings');
    expect(count(0)).toBe('0');
    expect([1, 2, 3, 4, 11, 12, 13, 21, 112].map(ordinal)).toEqual([
      '1st', '2nd', '3rd', '4th', '11th', '12th', '13th', '21st', '112th',
    ]);
  });
});

describe('times', () => {
  it('says durations in two units at most', () => {
    expect([0, 8.4, 60, 125, 3600, 4330, 86_400 * 3 + 4 * 3600].map(duration)).toEqual([
      '0 s', '8 s', '1 min', '2 min 5 s', '1 h', '1 h 12 min', '3 d 4 h',
    ]);
    expect(duration(Number.POSITIVE_INFINITY)).toBe('–');
    expect(duration(-1)).toBe('–');
  });
  it('says how long ago', () => {
    const now = new Date('2026-03-14T12:00:00Z');
    expect(ago('2026-03-14T11:59:30Z', now)).toBe('just now');
    expect(ago('2026-03-14T11:15:00Z', now)).toBe('45 min ago');
    expect(ago('2026-03-14T01:00:00Z', now)).toBe('11 h ago');
    expect(ago('2026-03-13T09:00:00Z', now)).toBe('yesterday');
    expect(ago('2025-03-01T12:00:00Z', now)).toBe('1 Mar 2025');
    expect(ago('not a time', now)).toBe('');
    expect(elapsedSeconds('2026-03-14T11:59:00Z', null, now)).toBe(60);
    expect(elapsedSeconds('2026-03-14T11:59:00Z', '2026-03-14T11:59:05Z', now)).toBe(5);
  });
});

describe('sentence', () => {
  it('begins with a capital and ends with a stop', () => {
    expect(sentence('k must be 2 to 9')).toBe('K must be 2 to 9.');
    expect(sentence('Is it?')).toBe('Is it?');
  });
});

describe('ids', () => {
  it('shortens generated ids and leaves names alone', () => {
    expect(shortId('pol_0190a7c2e4b37d1f8a5c0123456789ab')).toBe('pol-6789ab');
    expect(shortId('base_smollm2-135m-instruct')).toBe('smollm2-135m-instruct');
    expect(shortId('something else')).toBe('something else');
  });
});
