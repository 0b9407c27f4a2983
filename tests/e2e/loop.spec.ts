// The whole loop in the browser, on a real engine: a cycle is watched from start to end, what it made is read, and rolled back.
import type { APIResponse, Locator, Page } from '@playwright/test';
import { expect, say, signIn, test, visit, type Hone } from './hone';
import { check } from './looks';

test.use({ engine: 'native' });

/** A cycle of seconds, long enough to be watched, and a gate that lets pass whatever can be served. */
const quick = {
  seed: 7,
  reward: { epochs: 2, lora_r: 2 },
  ppo: { total_episodes: 4096, batch_episodes: 16, minibatch_episodes: 8, inner_epochs: 1, max_new_tokens: 12, lora_r: 2 },
  evaluate: { prompts_max: 6 },
  gate: { reward_gain_min: -1e9, kl_nats_max: 1e9, length_factor_max: 1e9, prompts_min: 1 },
};

test('a cycle is watched live, promotes its policy, and is rolled back', async ({ page, hone, person }, info) => {
  await signIn(page, hone, await person('operator'));
  await visit(page, 'Operate');
  const loop = page.getByRole('region', { name: 'The loop' });
  await expect(loop.getByText('40')).toBeVisible();
  await expect(loop.getByText('Base model')).toBeVisible();
  const next = page.getByRole('region', { name: 'What is next' });
  await expect(next).toContainText('Nothing starts a cycle by itself');
  await expect(next).toContainText('40 new rankings and 0 new ideal answers; no cycle has begun yet');

  const asked = await page.request.post(`${hone.url}/v1/jobs`, { data: { kind: 'cycle', params: quick } });
  expect(asked.status()).toBe(202);
  await expect(page.getByRole('progressbar')).toBeVisible();
  await expect(page.getByRole('button', { name: 'Start a cycle' })).toBeDisabled();
  await expect(loop.getByRole('listitem').filter({ hasText: 'working now' })).toHaveCount(1);

  const log = page.getByLabel('Log of this job');
  await page.getByText('Log', { exact: true }).click();
  await expect(log).toContainText('the base model is loaded');

  const jobs = page.getByRole('region', { name: 'Jobs' });
  await expect(jobs.getByRole('listitem').first()).toContainText('Succeeded', { timeout: 150_000 });
  for (const chart of ['Reward model: accuracy', 'PPO: reward', 'PPO: KL from the reference', 'PPO: answer length', 'PPO: entropy', 'PPO: value loss', 'PPO: explained variance']) {
    await expect(page.getByRole('figure', { name: chart }).locator('path.curve').first()).toHaveAttribute('d', /^M.*L/);
  }
  await expect(loop.getByText('Passed')).toBeVisible();
  // It was followed to its end.
  await expect(log).toContainText('evaluate');
  await check(page, `loop-${info.project.name}`);

  await jobs.getByRole('button', { name: /What it made/ }).click();
  const detail = page.getByRole('dialog');
  await expect(detail).toContainText('It passed the gate');
  await expect(detail.locator('.rules li')).toHaveCount(6);
  await expect(detail.locator('.rules')).toContainText('No judge: it takes 50 rankings');
  await expect(detail.getByRole('heading', { name: 'Before and after' })).toBeVisible();
  await expect(detail.getByText('1 of 6')).toBeVisible();
  await check(page, `policy-${info.project.name}`);
  await detail.getByRole('button', { name: 'Close' }).click();

  await traced(page, info.project.name);
  await page.getByRole('link', { name: 'Policies' }).click();
  const made = page.getByRole('region', { name: 'Policies' }).getByRole('listitem').filter({ hasText: 'pol-' });
  await expect(made).toContainText('Served');
  await page.getByRole('button', { name: 'Roll back' }).click();
  await expect(page.getByRole('dialog')).toContainText('Nothing is deleted');
  await page.getByRole('dialog').getByRole('button', { name: 'Roll back' }).click();
  await expect(page.getByRole('dialog')).toHaveCount(0);
  await expect(made).not.toContainText('Served');
  await expect(page.getByRole('region', { name: 'Policies' }).getByRole('listitem').filter({ hasText: 'the base model' })).toContainText('Served');
  await differ(page);

  await challenge(page, hone, made, info.project.name);
  const card = page.getByRole('region', { name: /Challenger/ });
  await card.getByRole('button', { name: 'End it…' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'End it' }).click();
  await expect(card).toHaveCount(0);

  await page.getByRole('link', { name: 'Policies' }).click();
  await made.getByRole('button').click();
  await page.getByRole('dialog').getByRole('button', { name: 'Serve this policy…' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Serve it' }).click();
  await expect(made).toContainText('Served');
});

/** From a ranking to the policy that learned from it, and from an answer of that policy to its rankings. */
async function traced(page: Page, project: string): Promise<void> {
  await page.getByRole('link', { name: 'Data' }).click();
  const item = page.getByRole('region', { name: /^Feedback/ }).getByRole('listitem').first();
  await item.locator('summary').click();
  await item.getByRole('button', { name: 'What learned from it…' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog.getByRole('region', { name: 'Policies' }).getByRole('listitem')).toContainText('the one that is served now');
  await expect(dialog.getByRole('region', { name: 'Runs' }).getByRole('listitem')).toHaveCount(3);
  await check(page, `lineage-${project}`);
  await dialog.getByRole('button', { name: 'Close' }).click();

  await visit(page, 'Chat');
  await say(page, 'question 3');
  await page.getByRole('button', { name: /^About this answer/ }).click();
  await expect(dialog).toContainText(/It learned from \d+ rankings/);
  await dialog.getByText(/its rankings, the newest first/i).click();
  await expect(dialog.getByText('question', { exact: false }).first()).toBeVisible();
  await check(page, `origin-${project}`);
  await dialog.getByRole('button', { name: 'Close' }).click();
  await visit(page, 'Operate');
}

/** The served policy and the one before it answer the same prompt, side by side. */
async function differ(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Compare two on a prompt' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel(/^Prompt/).fill('question 3');
  await dialog.getByRole('button', { name: 'Ask both' }).click();
  await expect(dialog.getByText(/Words that the other side lacks/)).toBeVisible();
  await expect(dialog.getByLabel(/answer$/)).toHaveCount(2);
  await dialog.getByRole('button', { name: 'Close' }).click();
}

/** Tries a policy beside the champion: it answers in the shadow and in comparisons, and a ranking counts for one of the two. */
async function challenge(page: Page, hone: Hone, made: Locator, project: string): Promise<void> {
  await made.getByRole('button').click();
  await page.getByRole('dialog').getByRole('button', { name: 'Try it beside…' }).click();
  const ask = page.getByRole('dialog');
  await ask.getByLabel('Answers that it also writes, unseen').fill('1');
  await check(page, `challenge-${project}`);
  await ask.getByRole('button', { name: 'Try it', exact: true }).click();
  await expect(made).toContainText('Challenger');
  await page.getByRole('link', { name: 'The loop' }).click();
  const card = page.getByRole('region', { name: /Challenger/ });
  await expect(card).toContainText('half of the answers in comparisons, 100 % of answers in the shadow');
  await expect(card).toContainText('Nobody has ranked it');

  const messages = [{ role: 'user', content: 'what do you say?' }];
  const post = async (path: string, data: unknown): Promise<APIResponse> => {
    const answer = await page.request.post(`${hone.url}${path}`, { data });
    expect(answer.ok()).toBe(true);
    return answer;
  };
  await post('/v1/chat/completions', { messages, max_tokens: 8 });
  const compared = await post('/v1/comparisons', { messages, k: 2, max_tokens: 8 });
  const { id, candidates } = (await compared.json()) as { id: string; candidates: { id: string }[] };
  await post(`/v1/comparisons/${id}/ranking`, { ranking: candidates.map((candidate) => [candidate.id]) });
  await expect(card).toContainText('in 1 pair of answers');
  const listed = async (): Promise<{ challenger: string }> => (await page.request.get(`${hone.url}/v1/policies`)).json();
  const shadows = `${hone.url}/v1/policies/${(await listed()).challenger}/shadows`;
  await expect.poll(async () => ((await (await page.request.get(shadows)).json()) as { shadows: unknown[] }).shadows.length).toBe(1);
  await card.getByRole('button', { name: 'Read its answers' }).click();
  await expect(page.getByRole('dialog')).toContainText('In the shadow');
  await check(page, `shadow-${project}`);
  await page.getByRole('dialog').getByRole('button', { name: 'Close' }).click();
  await check(page, `challenger-${project}`);
}
