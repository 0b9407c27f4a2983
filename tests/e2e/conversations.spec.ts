// The conversations: kept on the server, found by their words, renamed, taken along, deleted with a way back; and many of them.
import { readFile } from 'node:fs/promises';
import { chatList, expect, say, signIn, test, type Hone } from './hone';

test('another browser finds the conversation, and goes on with it', async ({ page, hone, person, browser }) => {
  const key = await person('user');
  await signIn(page, hone, key);
  await say(page, 'Remember the whetstone');
  const other = await (await browser.newContext()).newPage();
  await signIn(other, hone, key);
  await (await chatList(other)).getByRole('link', { name: 'Remember the whetstone' }).click();
  await expect(other.getByRole('article', { name: 'Answer' })).toContainText('Remember the whetstone');
  await say(other, 'And the second thing');
  await other.context().close();
  // The first window goes on from what it knows; both ways are kept.
  await say(page, 'And a third');
  await page.reload();
  await expect(page.getByRole('article', { name: 'You' }).last()).toContainText('And a third');
  await expect(page.getByLabel('Version 2 of 2')).toBeVisible();
});

test('a conversation is found by what was said in it, with the keyboard', async ({ page, hone, person }) => {
  await signIn(page, hone, await person('user'));
  await say(page, 'Tell me of obsidian');
  await page.getByLabel('Message', { exact: true }).press('Escape');
  await page.keyboard.press('n');
  await say(page, 'Tell me of flint');
  await page.getByLabel('Message', { exact: true }).press('Escape');
  await page.keyboard.press('/');
  const list = page.locator('.list:visible');
  await list.getByLabel('Search chats').fill('OBSID');
  await expect(list.getByRole('link')).toHaveCount(1);
  await list.getByLabel('Search chats').press('Enter');
  await expect(page.getByRole('article', { name: 'Answer' })).toContainText('obsidian');
});

test('renaming, exporting, deleting and the way back', async ({ page, hone, person }, info) => {
  await signIn(page, hone, await person('user'));
  await say(page, 'A first name');
  const menu = async (item: string) => {
    await page.getByRole('button', { name: 'This chat', exact: true }).click();
    await page.getByRole('menuitem', { name: item }).click();
  };
  await menu('Rename');
  await page.getByLabel('Name of this chat').fill('Of stones: a talk');
  await page.getByLabel('Name of this chat').press('Enter');
  await expect(page.locator('header .title')).toHaveText('Of stones: a talk');

  for (const [item, ending] of [['Export as Markdown', 'md'], ['Export as JSON', 'json']] as const) {
    const saved = page.waitForEvent('download');
    await menu(item);
    const file = await saved;
    expect(file.suggestedFilename()).toBe(`of-stones-a-talk.${ending}`);
    const path = info.outputPath(file.suggestedFilename());
    await file.saveAs(path);
    const text = await readFile(path, 'utf8');
    expect(text).toContain('A first name');
    if (ending === 'json') expect(JSON.parse(text)).toMatchObject({ title: 'Of stones: a talk' });
  }

  await menu('Delete');
  await expect(page.getByRole('heading', { name: 'What would you like to know?' })).toBeVisible();
  await page.getByRole('button', { name: 'Undo' }).click();
  await expect(page.getByRole('article', { name: 'Answer' })).toContainText('A first name');
  await menu('Delete');
  // Leaving the page doesn't bring it back.
  await page.goto('about:blank');
  await page.goto(hone.url);
  await expect.poll(async () => ((await (await page.request.get(`${hone.url}/v1/conversations`)).json()) as { total: number }).total).toBe(0);
});

/** Puts many long conversations there, as a client would. */
async function fill(hone: Hone, key: string, chats: number, turns: number): Promise<void> {
  for (let c = 0; c < chats; c++) {
    const said = Array.from({ length: turns }, (_, t) => ({
      id: `t${t}`,
      parent: t === 0 ? null : `t${t - 1}`,
      role: t % 2 === 0 ? 'user' : 'assistant',
      content: t % 2 === 0 ? `Question ${t} of chat ${c}: why?` : `Because of **${t}**.\n\n- one\n- two\n\n\`\`\`js\nlet a = ${t};\n\`\`\``,
    }));
    const answer = await fetch(`${hone.url}/v1/conversations/many-${c}`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ revision: 0, title: `Chat number ${c}`, turns: said, shown: `t${turns - 1}` }),
    });
    if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  }
}

test('200 conversations of 200 messages are listed, found and read without waiting', async ({ page, hone, person }) => {
  const key = await person('user');
  await fill(hone, key, 200, 200);
  await signIn(page, hone, key);
  const list = await chatList(page);
  await expect(list.getByRole('link').first()).toHaveText('Chat number 199');
  await list.locator('.groups').evaluate((e) => e.scrollTo({ top: e.scrollHeight }));
  await expect(list.getByRole('link')).toHaveCount(200);

  const started = Date.now();
  await list.getByRole('link', { name: 'Chat number 7', exact: true }).click();
  await expect(page.locator('.turns article').last()).toBeInViewport();
  const opened = Date.now() - started;
  console.log(`a conversation of 200 messages opened in ${opened} ms`);
  expect(opened).toBeLessThan(2_000);
  await expect(page.locator('.turns article')).toHaveCount(200);
  await expect(page.locator('.turns article').last()).toBeInViewport();

  const typed = await page.evaluate(async () => {
    const area = document.querySelector('textarea');
    if (!area) throw new Error('no composer');
    const start = performance.now();
    for (const letter of 'quick enough to type') {
      area.value += letter;
      area.dispatchEvent(new InputEvent('input', { bubbles: true }));
      await new Promise((done) => requestAnimationFrame(done));
    }
    return (performance.now() - start) / 20;
  });
  console.log(`a key press took ${typed.toFixed(1)} ms`);
  expect(typed).toBeLessThan(150);

  await say(page, 'And one more');
  await expect(page.getByRole('article').last()).toBeInViewport();
  const again = await chatList(page);
  await again.getByLabel('Search chats').fill('of chat 123');
  await expect(again.getByRole('link')).toHaveCount(1);
});
