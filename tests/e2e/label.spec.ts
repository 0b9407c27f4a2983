// The labeling queue: ranked, written, skipped and taken back by key alone; half a task survives a closed tab.
import type { Page } from '@playwright/test';
import { expect, signIn, test, visit, type Hone } from './hone';
import { checkAll } from './looks';

/** Puts prompts into the queue, as another labeler does. */
async function propose(hone: Hone, key: string, prompts: string[]): Promise<void> {
  for (const content of prompts) {
    const answer = await fetch(`${hone.url}/v1/labeling/prompts`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ messages: [{ role: 'user', content }] }),
    });
    if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  }
}

const prompt = (page: Page) => page.getByRole('group', { name: 'The prompt' });

/** Ranks what is shown, all in order, and gives what was sent. */
async function rankAll(page: Page): Promise<{ ranking: string[][] }> {
  await expect(page.getByRole('article', { name: 'Answer A' }).getByRole('group', { name: /Place/ })).toBeVisible();
  const count = await page.getByRole('article').count();
  for (let place = 1; place <= count; place++) await page.keyboard.press(String(place));
  const sent = page.waitForRequest((r) => /\/v1\/labeling\/[^/]+\/ranking$/.test(r.url()));
  await page.keyboard.press('Control+Enter');
  return (await sent).postDataJSON() as { ranking: string[][] };
}

test.beforeEach(async ({ page, hone, person }, info) => {
  await propose(hone, await person('labeler'), [1, 2, 3, 4].map((n) => `${info.testId} question ${n}`));
  await signIn(page, hone, await person('labeler'));
  await visit(page, 'Label');
});

test('tasks are ranked one after the other, one is skipped, and the last is taken back', async ({ page }) => {
  const body = await rankAll(page);
  expect(body.ranking.every((tier) => tier.length === 1)).toBe(true);
  const figures = page.getByLabel('Your progress');
  await expect(figures).toContainText('This sitting1');
  await expect(page.getByRole('article', { name: 'Answer A' }).getByRole('button', { name: 'Answer A in place 1' })).toHaveAttribute('aria-pressed', 'false');
  const second = await prompt(page).textContent();

  await page.keyboard.press('s');
  const skipped = page.waitForRequest((r) => r.url().endsWith('/skip'));
  await page.keyboard.press('Tab');
  await page.keyboard.press('1');
  expect((await skipped).postDataJSON()).toEqual({ reason: "I don't know enough about it" });
  await expect(prompt(page)).not.toHaveText(second ?? '');

  await rankAll(page);
  await expect(figures).toContainText('This sitting2');
  await page.keyboard.press('z');
  await expect(page.getByRole('article', { name: 'Answer A' }).getByRole('button', { name: 'Answer A in place 1' })).toHaveAttribute('aria-pressed', 'true');
  await expect(figures).toContainText('This sitting1');
});

test('an answer is written, and half of one survives a closed tab', async ({ page, context, hone }) => {
  await page.getByRole('button', { name: 'Write answers' }).click();
  const asked = await prompt(page).textContent();
  await page.getByLabel('Your answer').fill('Half of it');
  await page.close();
  const again = await context.newPage();
  await again.goto(`${hone.url}/#/label`);
  await expect(prompt(again)).toHaveText(asked ?? '');
  await expect(again.getByLabel('Your answer')).toHaveValue('Half of it');
  await again.getByLabel('Your answer').fill('The whole of it.');
  const sent = again.waitForRequest((r) => r.url().endsWith('/ideal'));
  await again.getByLabel('Your answer').press('Control+Enter');
  expect((await sent).postDataJSON()).toEqual({ ideal: 'The whole of it.' });
  await expect(again.getByLabel('Your progress')).toContainText('This sitting1');
});

test('guidelines stand beside the task, and the page is fit to be seen', async ({ page }) => {
  await expect(page.getByRole('group', { name: 'Guidelines' })).toContainText('better');
  await expect(page.getByRole('article', { name: 'Answer A' })).toBeVisible();
  await checkAll(page, 'label');
  await page.getByRole('button', { name: 'Write answers' }).click();
  await expect(page.getByLabel('Your answer')).toBeVisible();
  await checkAll(page, 'write');
});

test('a user is told what the page is for', async ({ page, hone, person, context }) => {
  await context.clearCookies();
  await page.goto('about:blank');
  await signIn(page, hone, await person('user'));
  await expect(page.getByRole('link', { name: 'Label' })).toHaveCount(0);
  await page.goto(`${hone.url}/#/label`);
  await expect(page.getByText('This page is for labelers.')).toBeVisible();
});
