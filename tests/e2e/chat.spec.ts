// The chat against the echo engine, which answers with what it was asked.
import { expect, signIn, test } from './hone';

test.beforeEach(async ({ page, hone, person }) => signIn(page, hone, await person('user')));

test('Enter sends, Shift+Enter breaks the line, the answer streams in and survives a reload', async ({ page }) => {
  const box = page.getByLabel('Message');
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
  await page.getByLabel('Message').fill('and on '.repeat(2000));
  await page.getByLabel('Message').press('Enter');
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
  await page.getByLabel('Message').fill('rate me');
  await page.getByLabel('Message').press('Enter');
  const rated = page.waitForResponse((r) => r.url().endsWith('/rating') && r.ok());
  await page.getByRole('button', { name: 'Good answer' }).click();
  await rated;
  await page.reload();
  await expect(page.getByRole('button', { name: 'Good answer' })).toHaveAttribute('aria-pressed', 'true');
});

test('a chat that is not recorded says so to the person and to the server', async ({ page }) => {
  await page.getByRole('switch', { name: 'Record this chat' }).click();
  await expect(page.getByText('never used for training')).toBeVisible();
  const asked = page.waitForRequest((r) => r.url().endsWith('/v1/chat/completions'));
  await page.getByLabel('Message').fill('between us');
  await page.getByLabel('Message').press('Enter');
  expect((await asked).postDataJSON()).toMatchObject({ store: false });
  await expect(page.getByRole('article', { name: 'Answer' })).toContainText('between us');
  await expect(page.getByRole('button', { name: 'Good answer' })).toHaveCount(0);
});

test('a failure is a sentence with a way on', async ({ page }) => {
  await page.route('**/v1/chat/completions', (route) => route.abort(), { times: 1 });
  await page.getByLabel('Message').fill('are you there?');
  await page.getByLabel('Message').press('Enter');
  await expect(page.getByRole('alert')).toContainText("The server can't be reached.");
  await page.getByRole('button', { name: 'Try again' }).click();
  await expect(page.getByRole('article', { name: 'Answer' })).toContainText('are you there?');
  await expect(page.getByRole('alert')).toHaveCount(0);
});

const hostile = `<script>window.hacked = 1</script>
<img src="x" onerror="window.hacked = 2">
<svg onload="window.hacked = 3"></svg>
<iframe srcdoc="<script>parent.hacked = 4</script>"></iframe>
<style>body { display: none }</style>

[link](javascript:window.hacked=5) [data](data:text/html,<script>1</script>) ![pixel](https://example.com/p.png)

\`\`\`"><img src=x onerror=window.hacked=6>
code
\`\`\`

abc\u202Edef **unclosed`;

test("an answer's markup is harmless", async ({ page }) => {
  const outside: string[] = [];
  page.on('request', (r) => r.url().includes('example.com') && outside.push(r.url()));
  await page.getByLabel('Message').fill(hostile);
  await page.getByLabel('Message').press('Enter');
  const answer = page.getByRole('article', { name: 'Answer' });
  await expect(answer).toHaveAttribute('aria-busy', 'false');
  await expect(answer.locator('.markdown')).toContainText('window.hacked = 1');
  await expect(answer.locator('.markdown').locator('script, img, svg, iframe, style, [onerror], [onload], [style]')).toHaveCount(0);
  for (const link of await answer.locator('a[href]').all()) expect(await link.getAttribute('href')).toMatch(/^(https?|mailto):/);
  expect(await page.evaluate(() => 'hacked' in window)).toBe(false);
  expect(outside).toEqual([]);
  await expect(page.getByLabel('Message')).toBeVisible();
});
