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
