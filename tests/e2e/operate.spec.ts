// The operator's page on a real server: what is served, a job from start to end, and what is asked before it.
import { expect, signIn, test, visit } from './hone';

test.beforeEach(async ({ page, hone, person }) => {
  await signIn(page, hone, await person('operator'));
  await visit(page, 'Operate');
});

test('the loop shows what is served, and the policy tells where it comes from', async ({ page }) => {
  await expect(page.getByRole('region', { name: 'The loop' }).getByText('Base model')).toBeVisible();
  await page.getByRole('link', { name: 'Policies' }).click();
  const policies = page.getByRole('region', { name: 'Policies' });
  await expect(policies.getByText('Served')).toBeVisible();
  await policies.getByRole('listitem').first().getByRole('link').click();
  await expect(page.getByRole('dialog')).toContainText('People are answered by it now.');
  await page.keyboard.press('Escape');
  await expect(page.getByRole('dialog')).toHaveCount(0);
});

test('with nothing to go back to, roll back is off', async ({ page }) => {
  await page.getByRole('link', { name: 'Policies' }).click();
  await expect(page.getByRole('region', { name: 'Policies' }).getByText('Served')).toBeVisible();
  await expect(page.getByRole('button', { name: 'Roll back' })).toBeDisabled();
});

test('a cycle is started after saying what it does; without enough feedback it ends with a reason', async ({ page }) => {
  await page.getByRole('button', { name: 'Start a cycle' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog).toContainText('You can roll back at any time.');
  await dialog.getByRole('button', { name: 'Start' }).click();
  await expect(dialog).toHaveCount(0);
  const job = page.getByRole('region', { name: 'Jobs' }).getByRole('listitem').first();
  await expect(job).toContainText('Full cycle');
  await expect(job).toContainText('Failed', { timeout: 30_000 });
  await expect(job.locator('.why')).toHaveText(/\w+.*\.$/);
});

test('a dialog that is opened again at once stays open', async ({ page }) => {
  const opener = page.getByRole('button', { name: 'Start a cycle' });
  await opener.click();
  const dialog = page.getByRole('dialog');
  await expect(dialog).toBeVisible();
  // Closed and opened within one frame, as a slow machine does: the browser tells of the closing with the next one.
  await page.evaluate(async () => {
    const named = (name: string) => [...document.querySelectorAll('button')].find((b) => b.textContent?.trim() === name)!;
    named('Not now').click();
    await Promise.resolve();
    if (document.querySelector('dialog[open]')) throw new Error('it should have closed by now');
    named('Start a cycle').click();
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  });
  await expect(dialog).toContainText('You can roll back at any time.');
});
