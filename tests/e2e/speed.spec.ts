// How soon one can write: the page with everything that it loads, from a server on this machine.
import { expect, say, signIn, test } from './hone';

test('the chat can be used within a second, and the first load is small', async ({ page, hone, person }) => {
  await signIn(page, hone, await person('user'));
  await say(page, 'Something to come back to');
  const network = await page.context().newCDPSession(page);
  await network.send('Network.enable');
  await network.send('Network.setCacheDisabled', { cacheDisabled: true });
  let bytes = 0;
  network.on('Network.loadingFinished', ({ encodedDataLength }) => (bytes += encodedDataLength));
  const times: number[] = [];
  for (let i = 0; i < 3; i++) {
    bytes = 0;
    await page.goto('about:blank');
    await page.goto(hone.url);
    await page.getByLabel('Message', { exact: true }).waitFor();
    times.push(await page.evaluate(() => performance.now()));
  }
  const best = Math.min(...times);
  console.log(`usable after ${times.map((t) => `${Math.round(t)} ms`).join(', ')}; ${Math.round(bytes / 1000)} kB`);
  // The best of three: others work on this machine too.
  expect(best).toBeLessThan(1_000);
  expect(bytes).toBeLessThan(250_000);
});

/** An answer as long ones are: words, a list, code, a formula, a table. */
const answerOf = (i: number): string =>
  `## Step ${i}\n\nThe **whetstone** is wet before the edge is set, and $x_{${i}}^2 + 1$ says how far. ${'Then it is turned and drawn again. '.repeat(8)}\n\n` +
  `1. first\n2. second with \`code\`\n\n\`\`\`rust\nfn step_${i}(x: u32) -> u32 {\n    // ${'turn '.repeat(6)}\n    x.wrapping_mul(${i}) + 1\n}\n\`\`\`\n\n` +
  `| a | b |\n|---|---|\n| ${i} | ${i * 2} |\n\n$$\\sum_{k=1}^{${i}} \\frac{1}{k^2}$$`;

test('a conversation of 200 messages opens at its end at once, and all of it is there soon', async ({ page, hone, person }) => {
  const key = await person('user');
  const turns = Array.from({ length: 200 }, (_, i) => ({
    id: `t${i}`,
    parent: i === 0 ? null : `t${i - 1}`,
    role: i % 2 === 0 ? 'user' : 'assistant',
    content: i % 2 === 0 ? `And what is step ${i}?` : answerOf(i),
  }));
  const kept = await page.request.put(`${hone.url}/v1/conversations/long`, {
    headers: { authorization: `Bearer ${key}` },
    data: { revision: 0, title: 'A long one', record: true, shown: 't199', turns },
  });
  expect(kept.ok(), await kept.text()).toBe(true);
  await signIn(page, hone, key);
  // As on a machine of a quarter of this one's speed.
  const devices = await page.context().newCDPSession(page);
  await devices.send('Emulation.setCPUThrottlingRate', { rate: 4 });
  await page.evaluate(() => {
    Object.assign(window, { longestMs: 0 });
    const watch = (list: PerformanceObserverEntryList): void =>
      list.getEntries().forEach(({ duration }) => Object.assign(window, { longestMs: Math.max((window as unknown as Watched).longestMs, duration) }));
    new PerformanceObserver(watch).observe({ type: 'longtask' });
  });
  const articles = page.locator('.turns article');
  const opened = await page.evaluate(async () => {
    const began = performance.now();
    location.hash = '#/chat/long';
    while (!document.querySelector('.turns article')) await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
    const opened = { ms: performance.now() - began, articles: document.querySelectorAll('.turns article').length };
    // Waited for in here: asking from outside would be work of the page's, too.
    while (document.querySelector('.turns[aria-busy=true]')) await new Promise((done) => setTimeout(done, 50));
    return { ...opened, wholeMs: performance.now() - began, longestMs: (window as unknown as Watched).longestMs };
  });
  const ms = Object.entries(opened).map(([name, value]) => `${name} ${Math.round(value)}`);
  console.log(`a conversation of 200 messages at a quarter of the speed: ${ms.join(', ')}`);
  await expect(articles.last()).toContainText('Step 199');
  await expect(articles.last()).toBeInViewport();
  await expect(articles).toHaveCount(200);
  // Its end first, not everything at once; and no moment in which a key would wait for long (1.3 s when it was everything).
  expect(opened.articles).toBeLessThan(40);
  expect(opened.longestMs).toBeLessThan(1_000);
  // The beginning is in the page: found by the browser's search, and reached with the keyboard.
  await expect(articles.first()).toContainText('And what is step 0?');
  await articles.first().scrollIntoViewIfNeeded();
  await expect(articles.first()).toBeInViewport();
});

interface Watched {
  longestMs: number;
}
