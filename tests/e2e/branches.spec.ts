// Answering again, editing, and going between the versions: nothing that was said is lost.
import { expect, say, signIn, test } from './hone';

test.beforeEach(async ({ page, hone, person }) => signIn(page, hone, await person('user')));

test('answering again shows both answers, and one key is a comparison', async ({ page }) => {
  await say(page, 'Which one?');
  await page.getByLabel('Message', { exact: true }).press('Escape');
  await page.keyboard.press('r');
  const both = page.getByRole('region', { name: 'Which answer is better?' });
  await expect(both.getByRole('article')).toHaveCount(2);
  await expect(both.getByRole('article', { name: 'Second answer' })).toHaveAttribute('aria-busy', 'false');
  const kept = page.waitForResponse((r) => r.url().endsWith('/ranking') && r.request().method() === 'POST');
  await page.keyboard.press('1');
  const answer = await kept;
  expect(answer.status()).toBe(200);
  const stored = (await answer.json()) as { candidates: unknown[]; ranking: { ranking: string[][] } };
  expect(stored.candidates).toHaveLength(2);
  expect(stored.ranking.ranking.map((tier) => tier.length)).toEqual([1, 1]);
  // The better one is shown, and the other is a step away.
  await expect(both).toHaveCount(0);
  await expect(page.getByLabel('Version 1 of 2')).toBeVisible();
  await page.keyboard.press('ArrowRight');
  await expect(page.getByLabel('Version 2 of 2')).toBeVisible();
  await page.reload();
  await expect(page.getByLabel('Version 2 of 2')).toBeVisible();
});

test('a question about two answers can be skipped, tied, or left by going on', async ({ page }) => {
  await say(page, 'First question');
  await page.getByRole('button', { name: 'Answer again' }).click();
  const both = page.getByRole('region', { name: 'Which answer is better?' });
  await expect(both.getByRole('button', { name: 'Skip' })).toBeEnabled();
  await both.getByRole('button', { name: 'Skip' }).click();
  await expect(both).toHaveCount(0);
  await page.getByRole('button', { name: 'Answer again' }).click();
  const tie = page.waitForRequest((r) => r.url().endsWith('/ranking'));
  await both.getByRole('button', { name: /Equally good/ }).click();
  expect(((await tie).postDataJSON() as { ranking: string[][] }).ranking.map((tier) => tier.length)).toEqual([2]);
  await page.getByRole('button', { name: 'Answer again' }).click();
  await expect(both.getByRole('article', { name: 'Second answer' })).toHaveAttribute('aria-busy', 'false');
  await say(page, 'Second question');
  await expect(both).toHaveCount(0);
  await expect(page.getByRole('article', { name: 'You' })).toHaveCount(2);
  await expect(page.getByLabel('Version 4 of 4')).toBeVisible();
});

test('an edited message is a branch, and the old one is a step away', async ({ page }) => {
  await say(page, 'old words');
  await say(page, 'and then');
  await page.getByLabel('Message', { exact: true }).press('ArrowUp');
  const editor = page.getByLabel('Edit your message');
  await expect(editor).toHaveValue('and then');
  await editor.press('Escape');
  await expect(editor).toHaveCount(0);
  const first = page.getByRole('article', { name: 'You' }).first();
  await first.hover();
  await first.getByRole('button', { name: 'Edit this message' }).click();
  await editor.fill('new words');
  await editor.press('Enter');
  await expect(page.getByRole('article', { name: 'Answer' })).toHaveCount(1);
  await expect(page.getByRole('article', { name: 'Answer' })).toContainText('new words');
  await expect(page.getByRole('article', { name: 'Answer' })).toHaveAttribute('aria-busy', 'false');
  await first.hover();
  await first.getByRole('button', { name: 'Previous version' }).click();
  await expect(page.getByRole('article', { name: 'Answer' })).toHaveCount(2);
  await expect(page.getByRole('article', { name: 'Answer' }).first()).toContainText('old words');
  await page.reload();
  await expect(page.getByRole('article', { name: 'Answer' })).toHaveCount(2);
  await expect(page.getByLabel('Version 1 of 2')).toBeVisible();
});
