// What is next: how far the rankings are on the way to a cycle that starts by itself, and the switch that stops all of that.
import type { Page } from '@playwright/test';
import { expect, signIn, test, visit, type Hone } from './hone';
import { checkAll } from './looks';

test.use({ settings: { HONE_RETRAIN_MIN_NEW_RANKINGS: '5' } });

const rankings = (name: string, n: number): string =>
  Array.from({ length: n }, (_, i) => JSON.stringify({ prompt: `${name} ${i}`, chosen: 'yes', rejected: 'no' })).join('\n');

async function bring(page: Page, hone: Hone, name: string, n: number): Promise<void> {
  const sent = await page.request.post(`${hone.url}/v1/data/import`, { data: rankings(name, n), headers: { 'content-type': 'text/plain' } });
  expect(sent.ok()).toBe(true);
}

test('the bar fills with new rankings, the loop is frozen with a reason, and goes on where it stood', async ({ page, hone, person }, info) => {
  if (info.project.name === 'phone') await page.setViewportSize({ width: 360, height: 780 });
  await signIn(page, hone, await person('operator'));
  await visit(page, 'Operate');
  const next = page.getByRole('region', { name: 'What is next' });
  const bar = next.getByRole('progressbar', { name: 'New rankings, of those that start a cycle' });
  const loop = page.getByRole('region', { name: 'The loop', exact: true });
  const frozen = page.getByRole('region', { name: 'The loop is frozen' });
  const dialog = page.getByRole('dialog');
  const jobs = page.getByRole('region', { name: 'Jobs' }).getByRole('listitem');

  // The other project's run may have left some: the bar is asked, not assumed.
  await expect(bar).toBeVisible();
  const before = Number(await bar.getAttribute('value'));
  const all = Number(await loop.getByRole('listitem').first().locator('b').textContent());
  await bring(page, hone, `${info.project.name} few`, 2);
  await expect(bar).toHaveAttribute('value', String(before + 2));
  await expect(bar).toHaveAttribute('max', '5');
  await expect(next).toContainText(`${before + 2} of 5 new rankings`);
  await expect(next).toContainText(`after ${3 - before} more ranking`);
  // One number, wherever it stands.
  await expect(loop.getByRole('listitem').first()).toContainText(`${all + 2}`);
  await expect(next).toContainText(`${all + 2} rankings and`);
  await checkAll(page, 'next');

  const ended = await jobs.filter({ hasText: 'Full cycle' }).count();
  await next.getByRole('switch', { name: /Freeze the loop/ }).press('Enter');
  await expect(dialog).toContainText('no job begins');
  await expect(dialog).toContainText('What is served stays');
  await expect(dialog.getByRole('button', { name: 'Freeze it' })).toBeDisabled();
  await dialog.getByLabel(/Why\?/).fill('we are moving house');
  await checkAll(page, 'freeze');
  await dialog.getByRole('button', { name: 'Freeze it' }).click();
  await expect(dialog).toHaveCount(0);
  await expect(frozen).toContainText('we are moving house');
  await expect(frozen).toContainText(/frozen by person-/);
  await expect(next).toContainText('Nothing: the loop is frozen');
  await expect(next.getByRole('switch')).toHaveAttribute('aria-checked', 'true');

  await bring(page, hone, `${info.project.name} enough`, 3);
  await expect(bar).toHaveAttribute('value', '5');
  await page.getByRole('link', { name: 'Data', exact: true }).click();
  await expect(frozen).toContainText('we are moving house');
  await page.getByRole('link', { name: 'The loop', exact: true }).click();
  await expect(jobs.filter({ hasText: 'Full cycle' })).toHaveCount(ended);
  await checkAll(page, 'frozen');

  await frozen.getByRole('button', { name: 'Let it go on…' }).click();
  await expect(dialog).toContainText('It goes on where it stood');
  await dialog.getByRole('button', { name: 'Let it go on' }).click();
  await expect(frozen).toHaveCount(0);
  // Five new ones: a cycle starts by itself.
  await expect(jobs.filter({ hasText: 'Full cycle' })).toHaveCount(ended + 1);
  await expect(jobs.first()).toContainText('by threshold');

  await page.getByRole('link', { name: 'Audit log' }).click();
  const log = page.getByRole('region', { name: 'Audit log' });
  await log.getByLabel('What was done').selectOption('loop');
  await expect(log.getByRole('listitem').nth(0)).toContainText('loop.thaw');
  await expect(log.getByRole('listitem').nth(1)).toContainText('we are moving house');
});
