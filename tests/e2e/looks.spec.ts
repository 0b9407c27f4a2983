// Every page in light and dark: accessible, nothing wider than the screen down to 360 px, nothing the content policy stops.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Page } from '@playwright/test';
import type { AxeResults } from 'axe-core';
import { expect, signIn, test, visit } from './hone';

const axe = readFileSync(createRequire(join(__dirname, '../../web/package.json')).resolve('axe-core/axe.min.js'), 'utf8');

async function check(page: Page, name: string): Promise<void> {
  // Colours are judged when nothing fades any more.
  await page.evaluate(() => Promise.all(document.getAnimations().filter((a) => a.effect?.getComputedTiming().iterations !== Infinity).map((a) => a.finished)));
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
}

test('pages', async ({ page, hone, person }, info) => {
  if (info.project.name === 'phone') await page.setViewportSize({ width: 360, height: 780 });
  const named = (name: string) => `${name}-${info.project.name}`;
  await page.goto(hone.url);
  await expect(page.getByRole('heading', { name: 'Sign in' })).toBeVisible();
  await check(page, named('sign-in'));
  await signIn(page, hone, await person('operator'));
  await check(page, named('welcome'));

  await page.getByLabel('Message').fill('# A title\n\nWith `code`, a [link](https://example.com), a list:\n\n- one\n- two\n\n```py\nprint("hello")\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |');
  await page.getByLabel('Message').press('Enter');
  await expect(page.getByRole('button', { name: 'Good answer' })).toBeVisible();
  await check(page, named('chat'));

  await visit(page, 'Compare');
  await check(page, named('ask'));
  await page.getByLabel('Prompt').fill('Which is better?');
  await page.getByLabel('Prompt').press('Enter');
  await expect(page.getByRole('article', { name: 'Answer D' }).getByRole('group')).toBeVisible();
  await page.keyboard.press('2');
  await check(page, named('rank'));
  for (const key of ['1', '3', '3']) await page.keyboard.press(key);
  await page.keyboard.press('Control+Enter');
  await expect(page.getByRole('heading', { name: "Thank you, it's saved" })).toBeVisible();
  await check(page, named('reveal'));

  await visit(page, 'Operate');
  await expect(page.getByRole('region', { name: 'Policies' }).getByText('Served')).toBeVisible();
  await check(page, named('operate'));
});
