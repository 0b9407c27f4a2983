// How a page must look, whatever it shows: no serious finding of axe, nothing wider than the screen. Leaves a screenshot.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Page } from '@playwright/test';
import type { AxeResults } from 'axe-core';
import { expect } from './hone';

const axe = readFileSync(createRequire(join(__dirname, '../../web/package.json')).resolve('axe-core/axe.min.js'), 'utf8');

/** Checks a page in light and dark, and on a tablet too where the project is the desktop. */
export async function checkAll(page: Page, name: string): Promise<void> {
  const size = page.viewportSize() ?? { width: 1440, height: 900 };
  const sizes = size.width > 1000 ? [{ width: 768, height: 1024 }, size] : [size];
  for (const at of sizes) {
    await page.setViewportSize(at);
    for (const colorScheme of ['dark', 'light'] as const) {
      await page.emulateMedia({ colorScheme });
      await check(page, `${name}-${at.width}-${colorScheme}`);
    }
  }
}

/** Checks a page as it is now, and leaves `name`.png in test-results/screens. */
export async function check(page: Page, name: string): Promise<void> {
  // Colours are judged when nothing fades any more, nor begins to while axe looks: an answer may still be arriving.
  await page.emulateMedia({ reducedMotion: 'reduce' });
  await page.evaluate(() => {
    // What isn't rendered (in closed details, say) never comes to its end.
    const seen = ({ effect }: Animation): boolean => !(effect instanceof KeyframeEffect) || effect.target?.checkVisibility({ contentVisibilityAuto: true }) === true;
    return Promise.all(document.getAnimations().filter((a) => a.effect?.getComputedTiming().iterations !== Infinity && seen(a)).map((a) => a.finished));
  });
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const { axe } = window as unknown as { axe: { run: () => Promise<AxeResults> } };
    const { violations } = await axe.run();
    const grave = violations.filter((v) => v.impact === 'serious' || v.impact === 'critical');
    return grave.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(' ')).join(', ')}`);
  });
  expect(found, `axe on ${name}`).toEqual([]);
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(wider, `${name} is wider than the screen`).toBe(0);
  await page.screenshot({ path: join(__dirname, '../../test-results/screens', `${name}.png`) });
  await page.emulateMedia({ reducedMotion: null });
}
