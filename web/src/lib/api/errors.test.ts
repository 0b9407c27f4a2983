import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { inWords, meanings } from './errors';

it('has a sentence and a way on for every code in the server’s table, and no others', () => {
  const table = readFileSync('../src/http/error.rs', 'utf8');
  const codes = [...table.matchAll(/=> \(\d{3}, "\w+", "(\w+)"\)/g)].map((m) => m[1] ?? '');
  expect(codes.length).toBeGreaterThan(10);
  expect(Object.keys(meanings).sort()).toEqual([...new Set(codes)].sort());
  for (const code of codes) {
    const words = inWords(400, code, 'the server says so', null);
    expect(words, code).toMatch(/^[A-Z].*\. [A-Z].*\.$/);
    expect(words, code).not.toContain('_');
  }
});

it('keeps the server’s words where they are more exact, and says when to try again', () => {
  expect(inWords(422, 'unprocessable', 'candidate c is missing', null)).toBe('Candidate c is missing. Change it and try again.');
  expect(inWords(503, 'overloaded', "the engine's queue is full", 2)).toBe('The model is busy: as many requests as may wait are waiting already. Try again in 2 s.');
  expect(inWords(502, '', '', null)).toContain('busy');
  expect(inWords(418, '', '', null)).toBe('The server answered with status 418. Try again in a moment.');
  expect(inWords(400, 'a_code_of_tomorrow', 'it is new', null)).toBe('It is new.');
});
