// What a model may write: code, maths, tables, and everything that an attacker would have it write.
import { expect, say, signIn, test } from './hone';
import { checkAll } from './looks';

test.beforeEach(async ({ page, hone, person }) => signIn(page, hone, await person('user')));

test('the server allows nothing inline: no script, no style, nothing from elsewhere', async ({ page, hone, context }) => {
  const answer = await page.request.get(hone.url);
  const policy = answer.headers()['content-security-policy'] ?? '';
  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain("script-src 'self';");
  expect(policy).toContain("style-src 'self';");
  expect(policy).toContain("base-uri 'none'");
  expect(policy).toContain("frame-ancestors 'none'");
  expect(policy).not.toMatch(/unsafe-|data:|blob:|\*/);
  // It isn't only said: the browser stops an inline script. (On a page of its own, as the fixture takes what is stopped for a fault.)
  const other = await context.newPage();
  await other.goto(hone.url);
  const ran = await other.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'window.ran = true';
    document.body.append(script);
    return 'ran' in window;
  });
  expect(ran).toBe(false);
});

test('code has colours and a copy button', async ({ page, context }) => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await say(page, '```python\ndef hone(edge):\n    return "sharp"  # done\n```\n\n```nosuchlanguage\nplain <b>text</b>\n```');
  const code = page.locator('.markdown .code');
  await expect(code).toHaveCount(2);
  await expect(code.first().locator('.bar')).toContainText('python');
  await expect(code.first().locator('.hljs-keyword').first()).toHaveText('def');
  const colour = (selector: string) => code.first().locator(selector).first().evaluate((e) => getComputedStyle(e).color);
  expect(await colour('.hljs-keyword')).not.toBe(await colour('code'));
  await expect(code.last().locator('code')).toHaveText(/plain <b>text<\/b>/);
  await code.first().getByRole('button', { name: 'Copy' }).click();
  await expect(code.first().getByRole('button', { name: 'Copied' })).toBeVisible();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe('def hone(edge):\n    return "sharp"  # done\n');
});

test('maths is set, in a line and on its own; a price is no formula', async ({ page }) => {
  await say(page, 'The mean is $\\bar{x} = \\frac{1}{n}\\sum_i x_i$ and costs $5 or $10.\n\n$$\n\\int_0^1 x^2 \\, dx = \\tfrac13\n$$\n\nBroken: $\\frac{1}{$');
  const answer = page.getByRole('article', { name: 'Answer' });
  await expect(answer.getByRole('math')).toHaveCount(2);
  await expect(answer.locator('p.maths .katex-display')).toBeVisible();
  await expect(answer).toContainText('costs $5 or $10');
  await expect(answer).toContainText('Broken: $\\frac{1}{$');
  const font = await answer.locator('.katex').first().evaluate(async (e) => {
    await document.fonts.ready;
    return [getComputedStyle(e).fontFamily, [...document.fonts].some((f) => f.family.includes('KaTeX') && f.status === 'loaded')];
  });
  expect(font[0]).toContain('KaTeX');
  expect(font[1]).toBe(true);
});

const hostile = `<script>window.hacked = 1</script>
<img src="x" onerror="window.hacked = 2">
<svg onload="window.hacked = 3"></svg>
<iframe srcdoc="<script>parent.hacked = 4</script>"></iframe>
<style>body { display: none }</style>
<base href="https://example.com/"><meta http-equiv="refresh" content="0;url=https://example.com">
<form action="https://example.com"><button>Sign in again</button></form>

[link](javascript:window.hacked=5) [data](data:text/html,<script>1</script>) ![pixel](https://example.com/p.png)
[spaced]( javascript:window.hacked=7) <javascript:window.hacked=8> [entity](&#106;avascript:window.hacked=9)

$\\href{javascript:window.hacked=10}{click}$ $\\includegraphics{https://example.com/x.png}$ $\\def\\x{\\x\\x}\\x$

\`\`\`"><img src=x onerror=window.hacked=6>
code
\`\`\`

abc\u202Edef \u2066isolated **unclosed`;

test("an answer's markup is harmless", async ({ page }) => {
  const outside: string[] = [];
  page.on('request', (r) => r.url().includes('example.com') && outside.push(r.url()));
  await say(page, hostile);
  const answer = page.getByRole('article', { name: 'Answer' });
  const text = answer.locator('.markdown');
  await expect(text).toContainText('window.hacked = 1');
  await expect(text.locator('script, img, svg, iframe, style, base, meta, form, [onerror], [onload]')).toHaveCount(0);
  for (const link of await answer.locator('a').all()) expect((await link.getAttribute('href')) ?? 'https:').toMatch(/^(https?|mailto):/);
  await expect(text).toContainText('abc\u25AFdef');
  expect(await page.evaluate(() => 'hacked' in window)).toBe(false);
  expect(outside).toEqual([]);
  await expect(page.getByLabel('Message', { exact: true })).toBeVisible();
  await checkAll(page, 'hostile');
});

test('a huge table, a huge word, a deep nest and an unclosed fence stay within the page', async ({ page }) => {
  const header = Array.from({ length: 40 }, (_, i) => `column ${i}`).join('|');
  const table = `|${header}|\n|${'-|'.repeat(40)}\n${`|${'cell|'.repeat(40)}\n`.repeat(120)}`;
  await say(page, `${table}\n\n${'word'.repeat(2000)}\n\n${'>'.repeat(300)} deep\n\n${'- '.repeat(60)}x\n\n\`\`\`js\nlet unclosed = 1;`);
  const answer = page.getByRole('article', { name: 'Answer' });
  await expect(answer.locator('.code')).toBeVisible();
  const wider = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(await wider()).toBe(0);
  const box = await answer.boundingBox();
  const table0 = await answer.locator('.table-scroll').boundingBox();
  expect(table0?.width ?? 1e9).toBeLessThanOrEqual((box?.width ?? 0) + 1);
  expect(table0?.height ?? 1e9).toBeLessThan(600);
  await expect(page.getByLabel('Message', { exact: true })).toBeInViewport();
});

test('an answer in a language written from the right stands on the right, beside one that does not', async ({ page }) => {
  await say(page, 'مرحبا بالعالم');
  expect(await page.getByRole('article', { name: 'Answer' }).locator('.markdown').evaluate((e) => getComputedStyle(e).direction)).toBe('rtl');
  await say(page, 'hello world');
  expect(await page.getByRole('article', { name: 'Answer' }).last().locator('.markdown').evaluate((e) => getComputedStyle(e).direction)).toBe('ltr');
});
