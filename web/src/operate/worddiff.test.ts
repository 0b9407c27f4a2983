import { expect, it } from 'vitest';
import { pieces } from './worddiff';

it('marks the words that only one side has, and loses none', () => {
  const { left, right } = pieces('the old blade is dull', 'the new blade is sharp');
  expect(left.filter((p) => p.differs).map((p) => p.text.trim())).toEqual(['old', 'dull']);
  expect(right.filter((p) => p.differs).map((p) => p.text.trim())).toEqual(['new', 'sharp']);
  expect(left.map((p) => p.text).join('')).toBe('the old blade is dull');
  expect(right.map((p) => p.text).join('')).toBe('the new blade is sharp');
});
