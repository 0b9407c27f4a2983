// The whole loop in the browser, on a real engine: a cycle is watched from start to end, what it made is read, and rolled back.
import { join } from 'node:path';
import type { APIResponse, Locator, Page } from '@playwright/test';
import { expect, say, signIn, test, visit, type Hone } from './hone';
import { check } from './looks';

test.use({ engine: 'native' });

/** A cycle of some ten seconds, long enough to be watched by a page that looks every four, and a gate that lets pass whatever can be served. */
const quick = {
  seed: 7,
  reward: { epochs: 2, lora_r: 2 },
  ppo: { total_episodes: 12288, batch_episodes: 16, minibatch_episodes: 8, inner_epochs: 1, max_new_tokens: 12, lora_r: 2 },
  evaluate: { prompts_max: 6 },
  gate: { reward_gain_min: -1e9, reward_accuracy_min: -1, equal_length_win_rate_min: -1, kl_nats_max: 1e9, length_factor_max: 1e9, prompts_min: 1 },
};

test('a cycle is watched live, promotes its policy, and is rolled back', async ({ page, hone, person }, info) => {
  if (info.project.name === 'phone') await page.setViewportSize({ width: 360, height: 780 });
  await signIn(page, hone, await person('operator'));
  await visit(page, 'Operate');
  const loop = page.getByRole('region', { name: 'The loop' });
  await expect(loop.getByText('40')).toBeVisible();
  await expect(loop.getByText('Base model')).toBeVisible();
  const next = page.getByRole('region', { name: 'What is next' });
  await expect(next).toContainText('Nothing starts a cycle by itself');
  await expect(next).toContainText('40 rankings and 0 ideal answers to learn from; no cycle has begun yet');

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
  await page.getByText('Answers before and after, on 6 held-out prompts').click();
  await expect(page.getByRole('region', { name: 'Last job' }).getByText('1 of 6')).toBeVisible();
  await check(page, `loop-${info.project.name}`);

  await jobs.getByRole('button', { name: /What it made/ }).click();
  const detail = page.getByRole('dialog');
  await expect(detail).toContainText('It passed the gate');
  await expect(detail.locator('.rules li')).toHaveCount(7);
  await expect(detail.locator('.rules')).toContainText('No judge: it takes 50 rankings');
  await expect(detail.getByRole('heading', { name: 'Before and after' })).toBeVisible();
  await expect(detail.getByText('1 of 6')).toBeVisible();
  await detail.getByText('What it learned from').click();
  await expect(detail).toContainText(/It learned from \d+ rankings/);
  await detail.getByText('Whose preferences, and what they reward').click();
  const whose = detail.getByRole('region', { name: 'Whose preferences' });
  await expect(whose.getByRole('row').nth(1)).toContainText('imports');
  await expect(whose.getByRole('heading', { name: 'Liked most' })).toBeVisible();
  await check(page, `policy-${info.project.name}`);
  await decided(page, detail, info.project.name);
  await detail.getByRole('button', { name: 'Close' }).click();

  await traced(page, info.project.name);
  await page.getByRole('link', { name: 'Policies' }).click();
  const made = page.getByRole('region', { name: 'Policies' }).getByRole('listitem').filter({ hasText: 'pol-' });
  await expect(made).toContainText('Served');
  await expect(made.getByRole('link', { name: /^Why this was decided about pol-/ })).toHaveAttribute('href', /\/v1\/policies\/pol_.*\/report$/);
  await check(page, `policies-made-${info.project.name}`);
  await page.getByRole('button', { name: 'Roll back' }).click();
  await expect(page.getByRole('dialog')).toContainText('Nothing is deleted');
  await page.getByRole('dialog').getByRole('button', { name: 'Roll back' }).click();
  await expect(page.getByRole('dialog')).toHaveCount(0);
  await expect(made).not.toContainText('Served');
  await expect(page.getByRole('region', { name: 'Policies' }).getByRole('listitem').filter({ hasText: 'the base model' })).toContainText('Served');
  await differ(page);

  await challenge(page, hone, made, info.project.name);
  const card = page.getByRole('region', { name: /Challenger|On trial/ });
  await card.getByRole('button', { name: 'Stop the trial…' }).click();
  await expect(page.getByRole('dialog')).toContainText('Nothing is decided by it');
  await page.getByRole('dialog').getByRole('button', { name: 'Stop it' }).click();
  await expect(card).toHaveCount(0);

  await page.getByRole('link', { name: 'Policies' }).click();
  await made.getByRole('link').first().click();
  await page.getByRole('dialog').getByRole('button', { name: 'Serve this policy…' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Serve it' }).click();
  await expect(made).toContainText('Served');
});

/** The page about the decision on a policy, from its own page. */
async function decided(page: Page, detail: Locator, project: string): Promise<void> {
  const opened = page.waitForEvent('popup');
  await detail.getByRole('link', { name: 'Why this was decided' }).click();
  const decision = await opened;
  await expect(decision.getByRole('heading', { name: 'The gate let it pass' })).toBeVisible();
  await decision.screenshot({ path: join(__dirname, '../../test-results/screens', `decision-${project}.png`) });
  await decision.close();
}

/** From a ranking to the policy that learned from it, and from an answer of that policy to its rankings. */
async function traced(page: Page, project: string): Promise<void> {
  await page.getByRole('link', { name: 'Data' }).click();
  const item = page.getByRole('region', { name: /^Feedback/ }).getByRole('listitem').first();
  await item.locator('summary').click();
  await item.getByRole('button', { name: 'What learned from it…' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog.getByRole('region', { name: 'Runs' }).getByRole('listitem').filter({ hasText: /learned from it|tested on it/ }).first()).toBeVisible();
  await check(page, `lineage-${project}`);
  await dialog.getByRole('button', { name: 'Close' }).click();
  await parts(page);

  await visit(page, 'Chat');
  await say(page, 'question 3');
  await page.getByRole('button', { name: /^About this answer/ }).click();
  await expect(dialog).toContainText(/It learned from \d+ rankings/);
  await dialog.getByText(/Its \d+ rankings, the newest first/).click();
  await expect(dialog.getByRole('link', { name: /^question/ }).first()).toBeVisible();
  await check(page, `origin-${project}`);
  await dialog.getByRole('link', { name: /^question/ }).first().click();
  await expect(dialog).toContainText('Its answers, the best first');
  await expect(dialog.getByRole('listitem').first()).toContainText('1 yes, and here is why');
  await check(page, `piece-${project}`);
  // And on to the policy that learned from it, whose address can be kept.
  await dialog.getByRole('button', { name: 'What learned from it…' }).click();
  await dialog.getByRole('region', { name: 'Policies that learned from it' }).getByRole('link').click();
  await expect(dialog).toContainText('It passed the gate');
  const address = page.url();
  await dialog.getByRole('button', { name: 'Close' }).click();
  await expect(dialog).toHaveCount(0);
  await page.goto(address);
  await expect(dialog).toContainText('It passed the gate');
  await page.keyboard.press('Escape');
  await expect(dialog).toHaveCount(0);
}

/** What was trained on is told apart from what was only tested on, for every ranking that there is. */
async function parts(page: Page): Promise<void> {
  interface Piece {
    id: string;
  }
  const get = async <T>(path: string): Promise<T> => (await (await page.request.get(new URL(path, page.url()).href)).json()) as T;
  const { prompts } = await get<{ prompts: Piece[] }>('/v1/prompts?source=import&limit=100');
  const found = { trained: 0, held_out: 0, judge: 0 };
  for (const { id } of prompts) {
    const { snapshots, policies } = await get<{ snapshots: { rankings: number }[]; policies: { part: keyof typeof found }[] }>(`/v1/lineage/${id}`);
    expect(policies).toHaveLength(1);
    const part = policies[0]?.part ?? 'judge';
    expect(part).toBe((snapshots[0]?.rankings ?? 0) > 0 ? 'trained' : 'held_out');
    found[part]++;
  }
  expect(found.trained).toBeGreaterThan(0);
  expect(found.held_out).toBeGreaterThan(0);
}

/** The served policy and the one before it answer the same prompt, side by side. */
async function differ(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Compare two on a prompt' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel(/^Prompt/).fill('question 3');
  await dialog.getByRole('button', { name: 'Ask both' }).click();
  await expect(dialog.getByText(/Words that the other side lacks/)).toBeVisible();
  await expect(dialog.getByLabel(/answer$/)).toHaveCount(2);
  // The list of policies is read again every few seconds; the answers stay.
  await page.waitForResponse((answer) => new URL(answer.url()).pathname === '/v1/policies');
  await page.waitForTimeout(500);
  await expect(dialog.getByLabel(/answer$/)).toHaveCount(2);
  await dialog.getByRole('button', { name: 'Close' }).click();
}

/** Tries a policy beside the champion: it answers in the shadow and in comparisons, and a ranking counts for one of the two. */
async function challenge(page: Page, hone: Hone, made: Locator, project: string): Promise<void> {
  await made.getByRole('link').first().click();
  await page.getByRole('dialog').getByRole('button', { name: 'Try it beside…' }).click();
  const ask = page.getByRole('dialog');
  await ask.getByLabel('Answers that it also writes, unseen').fill('1');
  await check(page, `challenge-${project}`);
  await ask.getByRole('button', { name: 'Try it', exact: true }).click();
  await expect(made).toContainText('Challenger');
  await page.getByRole('link', { name: 'The loop' }).click();
  const card = page.getByRole('region', { name: /Challenger|On trial/ });
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
  await trial(page, card, project);
}

/** Lets people's rankings decide about the challenger, and stops that again. */
async function trial(page: Page, card: Locator, project: string): Promise<void> {
  const dialog = page.getByRole('dialog');
  await card.getByRole('button', { name: 'Change…' }).click();
  await dialog.getByLabel(/a trial$/).check();
  await expect(dialog).toContainText('it becomes champion by itself');
  await dialog.getByLabel('Votes before a verdict, at least').fill('0');
  await expect(dialog.getByRole('alert')).toContainText('at least 1');
  await expect(dialog.getByRole('button', { name: 'Change', exact: true })).toBeDisabled();
  await dialog.getByLabel('Votes before a verdict, at least').fill('20');
  await dialog.getByLabel('Over after so many days').fill('7');
  await dialog.getByLabel('If it is over and nothing is clear').selectOption('roll_back');
  await check(page, `trial-${project}`);
  await dialog.getByRole('button', { name: 'Change', exact: true }).click();
  await expect(dialog).toHaveCount(0);
  // The ranking that was given before counts: its challenge has gone on since.
  await expect(card).toContainText('On trial');
  await expect(card).toContainText('1 of at most 400 votes');
  await expect(card).toContainText('if it is over without one, it is rejected');
  await check(page, `on-trial-${project}`);
}
