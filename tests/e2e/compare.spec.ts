// Comparing and ranking: by key, by click or tap, by dragging; ties, none acceptable, the ideal answer, a closed tab.
import type { Page } from '@playwright/test';
import { expect, signIn, test, visit } from './hone';
import { wire } from './wire';

test.beforeEach(async ({ page, hone, person }) => {
  await signIn(page, hone, await person('user'));
  await visit(page, 'Compare');
});

const answer = (page: Page, name: string) => page.getByRole('article', { name: `Answer ${name}` });
const row = (page: Page, n: number) => page.locator(`[data-row="${n}"]`);

async function ask(page: Page, prompt: string, k?: number): Promise<void> {
  if (k) await page.getByLabel('Answers').selectOption(String(k));
  await page.getByLabel('Prompt').fill(prompt);
  await page.getByLabel('Prompt').press('Enter');
  await expect(answer(page, 'A').getByRole('group', { name: /Place/ })).toBeVisible();
}

/** Sends, and gives what was sent. */
async function send(page: Page, how: () => Promise<void>): Promise<Record<string, unknown>> {
  const asked = page.waitForRequest((r) => r.url().endsWith('/ranking'));
  await how();
  const body = (await asked).postDataJSON() as Record<string, unknown>;
  await expect(page.getByRole('heading', { name: "Thank you, it's saved" })).toBeVisible();
  return body;
}

const tierSizes = (body: Record<string, unknown>) => (body['ranking'] as string[][]).map((tier) => tier.length);

test('four answers are ranked with the keyboard alone, and then the policies are named', async ({ page }) => {
  await ask(page, 'Which is better?');
  await expect(page.getByRole('article')).toHaveCount(4);
  await expect(answer(page, 'A').locator('.policy')).toHaveCount(0);
  for (const key of ['2', '1', '3', '4']) await page.keyboard.press(key);
  await expect(row(page, 1).getByRole('button', { name: 'Answer B' })).toBeVisible();
  await expect(page.getByText('This teaches the reward model 6 pairs.')).toBeVisible();
  expect(tierSizes(await send(page, () => page.keyboard.press('Control+Enter')))).toEqual([1, 1, 1, 1]);
  await expect(answer(page, 'A').locator('.policy')).not.toBeEmpty();
});

test('arrows choose and move, moves are taken back, and quality and flags are said by key', async ({ page }) => {
  await ask(page, 'With arrows', 3);
  await page.keyboard.press('ArrowUp');
  await expect(row(page, 1).getByRole('button', { name: 'Answer A' })).toBeVisible();
  await page.keyboard.press('ArrowDown');
  await expect(row(page, 2).getByRole('button', { name: 'Answer A' })).toBeVisible();
  await page.keyboard.press('u');
  await expect(row(page, 1).getByRole('button', { name: 'Answer A' })).toBeVisible();
  await page.keyboard.press('Shift+Digit6');
  await expect(answer(page, 'A').getByRole('button', { name: 'Quality 6 of 7' })).toHaveAttribute('aria-pressed', 'true');
  await answer(page, 'B').getByText('Flags').click();
  await answer(page, 'B').getByLabel('Makes things up').check();
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('2');
  await page.keyboard.press('2');
  const body = await send(page, () => page.keyboard.press('Control+Enter'));
  expect(tierSizes(body)).toEqual([1, 2]);
  const labels = Object.values(body['labels'] as Record<string, unknown>);
  expect(labels).toContainEqual({ overall: 6, flags: [] });
  expect(labels).toContainEqual({ flags: ['made_up'] });
});

test('nine answers stream side by side and are ranked', async ({ page }) => {
  await ask(page, 'Nine of them', 9);
  await expect(page.getByRole('article')).toHaveCount(9);
  for (const key of '987654321') await page.keyboard.press(key);
  expect(tierSizes(await send(page, () => page.keyboard.press('Control+Enter')))).toEqual(Array(9).fill(1));
});

test('a sent ranking is taken back and made anew', async ({ page }) => {
  await ask(page, 'Think again', 2);
  for (const key of ['1', '2']) await page.keyboard.press(key);
  await send(page, () => page.keyboard.press('Control+Enter'));
  await expect(answer(page, 'A').locator('.policy')).toBeVisible();
  await page.getByRole('button', { name: 'Undo, and rank again' }).click();
  await expect(answer(page, 'A').locator('.policy')).toHaveCount(0);
  await expect(row(page, 1).getByRole('button', { name: 'Answer A' })).toBeVisible();
  await page.keyboard.press('a');
  await page.keyboard.press('2');
  await page.keyboard.press('b');
  await page.keyboard.press('1');
  expect(tierSizes(await send(page, () => page.keyboard.press('Control+Enter')))).toEqual([1, 1]);
});

test('the ideal answer starts from the best one', async ({ page }) => {
  await ask(page, 'Start from the best', 2);
  for (const key of ['2', '1']) await page.keyboard.press(key);
  await page.keyboard.press('w');
  await expect(page.getByLabel(/The ideal answer/)).toHaveValue('Start from the best');
  await page.getByLabel(/The ideal answer/).fill('Better still.');
  const body = await send(page, () => page.getByLabel(/The ideal answer/).press('Control+Enter'));
  expect(body).toMatchObject({ ideal: 'Better still.' });
});

test('a stream that breaks in the middle is asked again with one press', async ({ page, hone }) => {
  const line = await wire(hone.url);
  await page.goto(`${line.url}/#/compare`);
  line.slow(20_000);
  await page.getByLabel('Answers').selectOption('2');
  await page.getByLabel('Prompt').fill('a long one '.repeat(1200));
  await page.getByLabel('Prompt').press('Enter');
  await expect(answer(page, 'A').locator('.markdown')).not.toBeEmpty();
  line.cut();
  await expect(page.getByRole('alert')).toBeVisible();
  line.mend();
  await page.getByRole('button', { name: 'Try again' }).click();
  await expect(answer(page, 'A').getByRole('group', { name: /Place/ })).toBeVisible();
  line.close();
});

test('places are given by click or tap; two in one place are a tie', async ({ page }) => {
  await ask(page, 'Which of three?', 3);
  const place = async (name: string, at: number) => answer(page, name).getByRole('button', { name: `Answer ${name} in place ${at}` }).click();
  await place('A', 1);
  await place('B', 1);
  await expect(page.getByRole('button', { name: 'Send ranking' })).toBeDisabled();
  await place('C', 3);
  await expect(row(page, 1).getByText('tie')).toBeVisible();
  expect(tierSizes(await send(page, () => page.getByRole('button', { name: 'Send ranking' }).click()))).toEqual([2, 1]);
});

test('letters are dragged from an answer onto a row, and chips between the rows', async ({ page }) => {
  await ask(page, 'Drag them', 2);
  for (const [name, to] of [['A', 2], ['B', 1]] as const) {
    const aside = page.getByRole('complementary');
    const beside = (page.viewportSize()?.width ?? 0) > 1100;
    const chip = beside && name === 'A' ? answer(page, name).getByRole('button', { name: `Choose answer ${name}` }) : aside.getByRole('button', { name: `Answer ${name}` });
    await chip.scrollIntoViewIfNeeded();
    const from = await chip.boundingBox();
    const target = await row(page, to).boundingBox();
    if (!from || !target) throw new Error('the chip or its row is not on the page');
    await page.mouse.move(from.x + from.width / 2, from.y + from.height / 2);
    await page.mouse.down();
    await page.mouse.move(target.x + target.width / 2, target.y + target.height / 2, { steps: 6 });
    await page.mouse.up();
    await expect(row(page, to).getByRole('button', { name: `Answer ${name}` })).toBeVisible();
  }
  expect(tierSizes(await send(page, () => page.getByRole('button', { name: 'Send ranking' }).click()))).toEqual([1, 1]);
});

test('none acceptable, with a comment and the ideal answer', async ({ page }) => {
  await ask(page, 'Nothing good', 2);
  await page.getByRole('switch', { name: 'None is acceptable' }).click();
  await page.getByRole('button', { name: 'Write the ideal answer' }).click();
  await page.getByLabel(/The ideal answer/).fill('This would have been right.');
  await page.getByLabel(/Why\?/).fill('All of them missed it.');
  const body = await send(page, () => page.getByRole('button', { name: 'Send ranking' }).click());
  expect(body).toMatchObject({ not_rankable: true, ideal: 'This would have been right.', comment: 'All of them missed it.' });
});

test('a closed tab loses nothing', async ({ page, context, hone }) => {
  await ask(page, 'Keep me', 2);
  await page.keyboard.press('2');
  await page.getByLabel(/Why\?/).fill('half a thought');
  await expect(row(page, 2).getByRole('button', { name: 'Answer A' })).toBeVisible();
  await page.close();
  const again = await context.newPage();
  await again.goto(`${hone.url}/#/compare`);
  await expect(again.getByText('Keep me').first()).toBeVisible();
  await expect(row(again, 2).getByRole('button', { name: 'Answer A' })).toBeVisible();
  await expect(again.getByLabel(/Why\?/)).toHaveValue('half a thought');
  await again.keyboard.press('b');
  await again.keyboard.press('1');
  await send(again, () => again.getByRole('button', { name: 'Send ranking' }).click());
});
