// The operator's other rooms: the data, the people and their keys, the audit log. Every act that others feel is confirmed and noted.
import { writeFile } from 'node:fs/promises';
import { expect, say, signIn, test, visit, type Hone } from './hone';
import { check, checkAll } from './looks';

// A labeler's next task is a gold question where there is one.
test.use({ settings: { HONE_LABELING_GOLD_SHARE: '1', HONE_LABELING_REPEAT_SHARE: '0', HONE_LABELING_OVERLAP_SHARE: '0' } });

test('feedback is imported, found, left out with a reason, and let back in; the log has it', async ({ page, hone, person }, info) => {
  await signIn(page, hone, await person('admin'));
  await visit(page, 'Operate');
  await page.getByRole('link', { name: 'Data' }).click();
  const marker = `imported ${info.project.name} ${info.testId}`;
  const lines = [1, 2].map((n) => JSON.stringify({ prompt: `${marker} ${n}`, chosen: 'yes', rejected: 'no' }));
  const file = info.outputPath('feedback.jsonl');
  await writeFile(file, `${lines.join('\n')}\n{"broken": true}\n`);

  await page.getByRole('button', { name: 'Import…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('File to import').setInputFiles(file);
  await dialog.getByRole('button', { name: 'Import', exact: true }).click();
  await expect(dialog.getByRole('alert')).toContainText('3');
  await dialog.getByLabel('Pass over broken lines instead').check();
  await dialog.getByRole('button', { name: 'Import', exact: true }).click();
  await expect(dialog).toContainText('2 rankings and 0 ideal answers are in');
  await expect(dialog).toContainText('Line 3');
  await dialog.getByRole('button', { name: 'Close' }).click();

  const feedback = page.getByRole('region', { name: /^Feedback/ });
  await feedback.getByLabel('Search the feedback').fill(`${marker} 1`);
  await expect(feedback.getByRole('listitem')).toHaveCount(1);
  await feedback.getByRole('button', { name: 'Leave out…' }).click();
  await expect(dialog).toContainText('What has been trained stays as it is');
  await expect(dialog.getByRole('button', { name: 'Leave it out' })).toBeDisabled();
  await dialog.getByLabel(/Why\?/).fill('a test of ours');
  await dialog.getByRole('button', { name: 'Leave it out' }).click();
  await expect(feedback.getByRole('listitem')).toContainText('Left out');
  await feedback.getByRole('button', { name: 'Let back in…' }).click();
  await dialog.getByLabel(/Why\?/).fill('it was right after all');
  await dialog.getByRole('button', { name: 'Let it back in' }).click();
  await expect(feedback.getByRole('listitem').getByText('Left out', { exact: true })).toHaveCount(0);
  await feedback.getByLabel('Search the feedback').fill('');
  await checkAll(page, 'data');

  const saved = page.waitForEvent('download');
  await page.getByRole('link', { name: 'Export', exact: true }).click();
  expect((await saved).suggestedFilename()).toBe('hone-feedback.jsonl');

  await page.getByRole('link', { name: 'Audit log' }).click();
  const log = page.getByRole('region', { name: 'Audit log' });
  await expect(log).toContainText('it was right after all');
  await expect(log).toContainText('data.import');
  await log.getByLabel('What was done').selectOption('user');
  await expect(log).not.toContainText('data.import');
  await checkAll(page, 'audit');
});

test('a ranked comparison becomes a gold question, shown with what is expected, and an ordinary one again', async ({ page, hone, person }, info) => {
  await signIn(page, hone, await person('admin'));
  await visit(page, 'Operate');
  const prompt = `which of two is gold ${info.testId}`;
  const line = JSON.stringify({ prompt, chosen: 'the better answer', rejected: 'the worse answer' });
  expect((await page.request.post(`${hone.url}/v1/data/import`, { data: line, headers: { 'content-type': 'text/plain' } })).ok()).toBe(true);
  await page.getByRole('link', { name: 'Data' }).click();
  const feedback = page.getByRole('region', { name: /^Feedback/ });
  await feedback.getByLabel('Search the feedback').fill(prompt);
  await expect(feedback.getByRole('listitem')).toHaveCount(1);
  await feedback.getByText(prompt).first().click();
  await feedback.getByRole('button', { name: 'Make it gold…' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog.getByRole('listitem')).toHaveText(['1 the better answer', '2 the worse answer']);
  await check(page, `make-gold-${info.project.name}`);
  await dialog.getByRole('button', { name: 'Make it gold' }).click();
  await expect(dialog).toHaveCount(0);
  await expect(feedback.getByRole('listitem')).toContainText('Gold question');

  const gold = page.getByRole('region', { name: /^Gold questions/ });
  await gold.getByText(prompt).click();
  const question = gold.getByRole('listitem').filter({ hasText: prompt }).first();
  await expect(question).toContainText('the better answer');
  await expect(question).toContainText('nobody has had it yet');
  await measured(hone, await person('labeler'), prompt);
  await page.reload();
  await feedback.getByLabel('Search the feedback').fill(prompt);
  await expect(feedback.getByRole('listitem')).toHaveCount(1);
  await feedback.getByText(prompt).first().click();
  await gold.getByText(prompt).click();
  await expect(question).toContainText('0 of 1 labeler ranked it as expected');
  await expect(question.getByRole('list', { name: 'How labelers did on it' })).toContainText('0 of 1 pair as expected: B > A');
  await check(page, `gold-${info.project.name}`);
  await gold.getByRole('listitem').filter({ hasText: prompt }).getByRole('button', { name: 'Take away…' }).first().click();
  await expect(dialog).toContainText('measures nobody');
  await dialog.getByRole('button', { name: 'Take it away' }).click();
  await expect(gold.getByText(prompt)).toHaveCount(0);
  await expect(feedback.getByRole('button', { name: 'Make it gold…' })).toBeVisible();

  await feedback.getByRole('button', { name: 'What learned from it…' }).click();
  await expect(dialog).toContainText('Nothing has been trained from it.');
});

/** A labeler gets the gold question as their next task, and ranks it the wrong way round. */
async function measured(hone: Hone, key: string, prompt: string): Promise<void> {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
  interface Task {
    id: string;
    messages: { content: string }[];
    candidates: { id: string; content: string }[];
  }
  const { task } = (await (await fetch(`${hone.url}/v1/labeling/next`, { headers })).json()) as { task: Task };
  expect(task.messages.at(-1)?.content).toBe(prompt);
  const worse = [...task.candidates].sort((a, b) => Number(a.content === 'the better answer') - Number(b.content === 'the better answer'));
  const body = JSON.stringify({ ranking: worse.map((candidate) => [candidate.id]) });
  expect((await fetch(`${hone.url}/v1/labeling/${task.id}/ranking`, { method: 'POST', headers, body })).ok).toBe(true);
}

test('a person is added, signs in with the link, gets a key, another role, and is shut out', async ({ page, hone, person, browser }, info) => {
  await signIn(page, hone, await person('admin'));
  await visit(page, 'Operate');
  await page.getByRole('link', { name: 'People' }).click();
  const name = `newcomer ${info.project.name}`;
  await page.getByRole('button', { name: 'Add a person' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill(name);
  await dialog.getByRole('button', { name: 'Add', exact: true }).click();
  await expect(dialog).toContainText('shown this once');
  const link = (await dialog.locator('code').first().textContent()) ?? '';
  expect(link).toContain('#/sign-in?token=');
  await dialog.getByRole('button', { name: 'Done' }).click();

  const theirs = await (await browser.newContext()).newPage();
  await theirs.goto(link);
  await expect(theirs.getByRole('navigation', { name: 'Pages' })).toBeVisible();
  await expect(theirs.getByRole('link', { name: 'Label' })).toHaveCount(0);

  const row = page.getByRole('region', { name: /^People/ }).getByRole('listitem').filter({ hasText: name });
  await row.getByLabel(`Role of ${name}`).selectOption('labeler');
  await expect(dialog).toContainText('work on the labeling queue');
  await dialog.getByRole('button', { name: 'Change the role' }).click();
  await expect(dialog).toHaveCount(0);
  await theirs.reload();
  await expect(theirs.getByRole('link', { name: 'Label' })).toBeVisible();

  await row.getByRole('button', { name: 'Keys…' }).click();
  await expect(dialog.getByRole('listitem')).toHaveCount(2);
  await dialog.getByRole('button', { name: 'New API key' }).click();
  await expect(dialog.locator('code')).toHaveText(/^hone_/);
  await dialog.getByRole('button', { name: 'Done' }).click();
  await checkAll(page, 'people');

  await row.getByRole('button', { name: 'What learned from them…' }).click();
  await expect(dialog).toContainText('Nothing has been trained from what they said');
  await dialog.getByRole('button', { name: 'Close' }).click();

  await row.getByRole('button', { name: 'Shut out…' }).click();
  await expect(dialog).toContainText('stop working at once');
  await dialog.getByRole('button', { name: 'Shut out', exact: true }).click();
  await expect(row).toContainText('Shut out');
  await theirs.reload();
  await expect(theirs.getByRole('heading', { name: 'Sign in' })).toBeVisible();
  await theirs.context().close();
});

test('everything that was said here is exported and erased by its owner', async ({ page, hone, person }) => {
  await signIn(page, hone, await person('user'));
  await say(page, 'Something to be erased');
  await page.getByTitle('Account and appearance').locator('visible=true').click();
  const dialog = page.getByRole('dialog');
  const saved = page.waitForEvent('download');
  await dialog.getByRole('button', { name: 'Export all of it' }).click();
  expect((await saved).suggestedFilename()).toBe('hone-data.json');
  await dialog.getByRole('button', { name: 'Erase it…' }).click();
  const sure = page.getByRole('dialog', { name: 'Erase everything you have said here?' });
  await expect(sure.getByRole('button', { name: 'Erase it all' })).toBeDisabled();
  await sure.getByLabel(/can't be undone/).check();
  await sure.getByRole('button', { name: 'Erase it all' }).click();
  const done = page.getByRole('dialog', { name: 'It is erased' });
  await expect(done).toContainText('left the database');
  await done.getByRole('button', { name: 'Done' }).click();
  await expect(page.getByRole('navigation', { name: 'Pages' })).toBeVisible();
  expect(((await (await page.request.get(`${hone.url}/v1/conversations`)).json()) as { total: number }).total).toBe(0);
});
