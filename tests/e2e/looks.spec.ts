// Every page in light and dark: accessible, nothing wider than the screen down to 360 px, nothing the content policy stops.
import { expect, signIn, test, visit } from './hone';
import { checkAll as check } from './looks';

test('pages', async ({ page, hone, person }, info) => {
  if (info.project.name === 'phone') await page.setViewportSize({ width: 360, height: 780 });
  const named = (name: string) => name;
  await page.goto(hone.url);
  await expect(page.getByRole('heading', { name: 'Sign in' })).toBeVisible();
  await check(page, named('sign-in'));
  await signIn(page, hone, await person('operator'));
  await check(page, named('welcome'));

  await page.getByLabel('Message', { exact: true }).fill('# A title\n\nWith `code`, a [link](https://example.com), a list:\n\n- one\n- two\n\n```py\ndef hello(name):\n    return f"hello {name}"  # greets\n```\n\nMaths: $a^2 + b^2 = c^2$\n\n| a | b |\n|---|---|\n| 1 | 2 |');
  await page.getByLabel('Message', { exact: true }).press('Enter');
  await expect(page.getByRole('button', { name: 'Good answer' })).toBeVisible();
  await check(page, named('chat'));

  await visit(page, 'Compare');
  await check(page, named('ask'));
  await page.getByLabel('Prompt').fill('Which is better?');
  await page.getByLabel('Prompt').press('Enter');
  await expect(page.getByRole('article', { name: 'Answer D' }).getByRole('group', { name: /Place/ })).toBeVisible();
  await page.keyboard.press('2');
  await check(page, named('rank'));
  for (const key of ['1', '3', '3']) await page.keyboard.press(key);
  await page.keyboard.press('Control+Enter');
  await expect(page.getByRole('heading', { name: "Thank you, it's saved" })).toBeVisible();
  await check(page, named('reveal'));

  await visit(page, 'Operate');
  await expect(page.getByRole('region', { name: 'The loop' }).getByText('Base model')).toBeVisible();
  await check(page, named('operate'));
  await page.getByRole('link', { name: 'Policies' }).click();
  await expect(page.getByRole('region', { name: 'Policies' }).getByText('Served')).toBeVisible();
  await check(page, named('policies'));
});
