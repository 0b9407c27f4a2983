// The way in and out.
import { expect, signIn, test } from './hone';

test('the printed URL signs in, and its token leaves the address', async ({ page, hone }) => {
  await page.goto(hone.signInUrl);
  await expect(page.getByRole('heading', { name: 'What would you like to know?' })).toBeVisible();
  expect(page.url()).not.toContain('token');
  await page.reload();
  await expect(page.getByRole('navigation', { name: 'Pages' })).toBeVisible();
});

test('a wrong key is refused in words; the right one lets in; signing out lets nobody in', async ({ page, hone, person }) => {
  await page.goto(hone.url);
  await page.getByLabel('API key or sign-in URL').fill('hone_wrong');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('alert')).toContainText(/isn't good|sign-in/);
  await signIn(page, hone, await person('user'));
  await page.getByTitle('Account and appearance').locator('visible=true').click();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await expect(page.getByRole('heading', { name: 'Sign in' })).toBeVisible();
  await page.reload();
  await expect(page.getByRole('heading', { name: 'Sign in' })).toBeVisible();
});

test('a user is not shown the operator page', async ({ page, hone, person }) => {
  await signIn(page, hone, await person('user'));
  await expect(page.getByRole('link', { name: 'Operate' })).toHaveCount(0);
  await page.goto(`${hone.url}/#/operate`);
  await expect(page.getByText('This page is for operators.')).toBeVisible();
});
