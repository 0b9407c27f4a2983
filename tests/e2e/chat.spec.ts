// The chat against the echo engine, which answers with what it was asked.
import { expect, say, signIn, test } from './hone';
import { check } from './looks';
import { wire } from './wire';

test.beforeEach(async ({ page, hone, person }) => signIn(page, hone, await person('user')));

test('Enter sends, Shift+Enter breaks the line, the answer streams in and survives a reload', async ({ page }) => {
  const box = page.getByLabel('Message', { exact: true });
  await box.fill('first line');
  await box.press('Shift+Enter');
  await box.pressSequentially('second **line**');
  await box.press('Enter');
  const answer = page.getByRole('article', { name: 'Answer' });
  await expect(answer.locator('strong')).toHaveText('line');
  await expect(answer).toHaveAttribute('aria-busy', 'false');
  await expect(answer.locator('.policy')).not.toBeEmpty();
  await expect(box).toHaveValue('');
  await page.reload();
  await expect(page.getByRole('article', { name: 'Answer' }).locator('strong')).toHaveText('line');
});

test('Esc stops a long answer, and what came of it is kept', async ({ page, context }) => {
  // A slow line: the answer comes for minutes, however fast the engine is.
  const network = await context.newCDPSession(page);
  await network.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: 8000, uploadThroughput: -1 });
  await page.getByLabel('Message', { exact: true }).fill('and on '.repeat(2000));
  await page.getByLabel('Message', { exact: true }).press('Enter');
  const answer = page.getByRole('article', { name: 'Answer' });
  await expect(answer.locator('.markdown')).not.toBeEmpty();
  await page.keyboard.press('Escape');
  await expect(answer).toContainText('You stopped this answer');
  const kept = (await answer.locator('.markdown').textContent()) ?? '';
  expect(kept.length).toBeLessThan('and on '.length * 2000);
  await network.detach();
  await page.reload();
  await expect(answer.locator('.markdown')).toHaveText(kept);
});

test('a thumb is kept', async ({ page }) => {
  await page.getByLabel('Message', { exact: true }).fill('rate me');
  await page.getByLabel('Message', { exact: true }).press('Enter');
  const rated = page.waitForResponse((r) => r.url().endsWith('/rating') && r.ok());
  await page.getByRole('button', { name: 'Good answer' }).click();
  await rated;
  await page.reload();
  await expect(page.getByRole('button', { name: 'Good answer' })).toHaveAttribute('aria-pressed', 'true');
});

test('a thumb down asks why, by key too, and takes the reasons', async ({ page }) => {
  await say(page, 'rate me, with reasons');
  await page.getByLabel('Message', { exact: true }).press('Escape');
  await page.keyboard.press('-');
  const why = page.getByRole('group', { name: 'Why?' });
  await why.getByRole('button', { name: 'Made things up' }).click();
  await why.getByLabel('In your words').fill('no such place');
  const sent = page.waitForRequest((r) => r.url().endsWith('/rating'));
  await why.getByRole('button', { name: 'Send' }).click();
  expect((await sent).postDataJSON()).toEqual({ thumb: 'down', tags: ['Made things up'], comment: 'no such place' });
  await expect(why).toHaveCount(0);
});

test('a system prompt and settings go with every question of their chat, and only of theirs', async ({ page }) => {
  await page.getByRole('button', { name: 'Settings of this chat' }).click();
  const settings = page.getByRole('dialog');
  await settings.getByLabel(/System prompt/).fill('Answer in one word.');
  await settings.getByLabel('Temperature').fill('0.2');
  await settings.getByLabel('Longest answer, tokens').fill('64');
  await settings.getByRole('button', { name: 'Save' }).click();
  const asked = page.waitForRequest((r) => r.url().endsWith('/v1/chat/completions'));
  await say(page, 'hello');
  const body = (await asked).postDataJSON() as { messages: { role: string; content: string }[] };
  expect(body).toMatchObject({ temperature: 0.2, max_tokens: 64 });
  expect(body.messages[0]).toEqual({ role: 'system', content: 'Answer in one word.' });
  await page.reload();
  await expect(page.getByRole('button', { name: 'Settings of this chat (changed)' })).toBeVisible();
  await page.getByLabel('Message', { exact: true }).press('Escape');
  await page.keyboard.press('n');
  await expect(page.getByRole('button', { name: 'Settings of this chat', exact: true })).toBeVisible();
});

test('what is half written survives a closed tab', async ({ page, context, hone }) => {
  await page.getByLabel('Message', { exact: true }).fill('half a thought');
  await page.close();
  const again = await context.newPage();
  await again.goto(hone.url);
  await expect(again.getByLabel('Message', { exact: true })).toHaveValue('half a thought');
});

test('a connection that breaks in the middle of an answer keeps what came, and a second try is whole', async ({ page, hone }) => {
  const line = await wire(hone.url);
  await page.goto(line.url);
  line.slow(20_000);
  await page.getByLabel('Message', { exact: true }).fill('on and on '.repeat(1500));
  await page.getByLabel('Message', { exact: true }).press('Enter');
  const answer = page.getByRole('article', { name: 'Answer' });
  await expect(answer.locator('.markdown')).not.toBeEmpty();
  line.cut();
  await expect(answer.getByRole('alert')).toContainText(/broke in the middle|can't be reached/);
  await expect(page.getByText('Not saved yet')).toBeVisible();
  const came = ((await answer.locator('.markdown').textContent()) ?? '').length;
  expect(came).toBeGreaterThan(0);
  line.mend();
  await answer.getByRole('button', { name: 'Try again' }).click();
  await expect(answer).toHaveAttribute('aria-busy', 'false');
  await expect(answer.getByRole('alert')).toHaveCount(0);
  expect(((await answer.locator('.markdown').textContent()) ?? '').length).toBeGreaterThan(came);
  await expect(page.getByText('Not saved yet')).toHaveCount(0);
  line.close();
});

test('every key is on the sheet', async ({ page }) => {
  await say(page, 'hello');
  await page.getByLabel('Message', { exact: true }).press('Escape');
  await page.keyboard.press('?');
  const sheet = page.getByRole('dialog', { name: 'Keyboard shortcuts' });
  for (const does of ['Write a message', 'Search your chats', 'Answer again, and compare the two', 'Go to Compare']) await expect(sheet.getByText(does)).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(sheet).toHaveCount(0);
  await page.keyboard.press('g');
  await page.keyboard.press('r');
  await expect(page.getByLabel('Prompt')).toBeVisible();
});

test('a chat that is not recorded says so to the person and to the server', async ({ page }) => {
  await expect(page.getByText('labelers may see prompts, without your name')).toBeVisible();
  await page.getByRole('switch', { name: 'Record this chat' }).click();
  await expect(page.getByText('labelers may see')).toHaveCount(0);
  await expect(page.getByText('never used for training')).toBeVisible();
  const asked = page.waitForRequest((r) => r.url().endsWith('/v1/chat/completions'));
  await page.getByLabel('Message', { exact: true }).fill('between us');
  await page.getByLabel('Message', { exact: true }).press('Enter');
  expect((await asked).postDataJSON()).toMatchObject({ store: false });
  await expect(page.getByRole('article', { name: 'Answer' })).toContainText('between us');
  await expect(page.getByRole('button', { name: 'Good answer' })).toHaveCount(0);
  // Every later question of the chat too, and answering again.
  const later = page.waitForRequest((r) => r.url().endsWith('/v1/chat/completions'));
  await say(page, 'and this');
  expect((await later).postDataJSON()).toMatchObject({ store: false });
  const again = page.waitForRequest((r) => r.url().endsWith('/v1/chat/completions'));
  await page.getByRole('button', { name: 'Answer again' }).last().click();
  expect((await again).postDataJSON()).toMatchObject({ store: false });
  // A recorded one doesn't send it.
  await page.goto(page.url().replace(/#.*/, '#/chat'));
  const recorded = page.waitForRequest((r) => r.url().endsWith('/v1/chat/completions'));
  await say(page, 'for all to learn from');
  expect((await recorded).postDataJSON()).not.toHaveProperty('store');
});

test('an answer tells which policy wrote it', async ({ page }, info) => {
  await say(page, 'who are you?');
  await page.getByRole('button', { name: /^About this answer/ }).click();
  const dialog = page.getByRole('dialog', { name: 'About this answer' });
  await expect(dialog).toContainText('the base model as it came');
  // What it was trained from is for operators.
  await expect(dialog).not.toContainText('All policies');
  await check(page, `about-${info.project.name}`);
  await dialog.getByRole('button', { name: 'Close' }).click();
  await expect(dialog).toHaveCount(0);
});

test('a failure is a sentence with a way on', async ({ page }) => {
  await page.route('**/v1/chat/completions', (route) => route.abort(), { times: 1 });
  await page.getByLabel('Message', { exact: true }).fill('are you there?');
  await page.getByLabel('Message', { exact: true }).press('Enter');
  await expect(page.getByRole('alert')).toContainText("The server can't be reached.");
  await page.getByRole('button', { name: 'Try again' }).click();
  await expect(page.getByRole('article', { name: 'Answer' })).toContainText('are you there?');
  await expect(page.getByRole('alert')).toHaveCount(0);
});
