// Starts the real server on a fresh data folder and signs people in. HONE_BIN names the binary; examples/tiny_base stands beside it.
import { test as base, expect, type Locator, type Page } from '@playwright/test';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { front } from './pages';

const binary = process.env['HONE_BIN'] ?? resolve(__dirname, '../../target/release/hone');
const tinyBase = join(dirname(binary), 'examples/tiny_base');
const run = promisify(execFile);

/** `echo` answers with the prompt; `native` is the real thing, on a tiny random base with rankings to learn from. */
export type Engine = 'echo' | 'native';

/** A running server. */
export interface Hone {
  /** Its address. */
  url: string;
  /** The sign-in URL that it printed. */
  signInUrl: string;
  /** Runs a command of the binary on the same data folder. */
  cli: (...args: string[]) => Promise<string>;
  /** Makes a person and gives their API key. */
  addPerson: (name: string, role: string) => Promise<string>;
}

/** The sign-in URL in what the server prints, waited for. */
function printed(server: ChildProcess): Promise<string> {
  let said = '';
  return new Promise((done, fail) => {
    const hear = (piece: Buffer): void => {
      said += piece.toString();
      const url = /https?:\/\/\S+#\/sign-in\?token=[^\s"]+/.exec(said)?.[0];
      if (url) done(url);
    };
    server.stdout?.on('data', hear);
    server.stderr?.on('data', hear);
    server.on('error', fail);
    server.on('exit', (code) => fail(new Error(`hone ended with ${code} before it printed its sign-in URL:\n${said}`)));
  });
}

async function start(data: string, engine: Engine, settings: Record<string, string>): Promise<{ hone: Hone; server: ChildProcess }> {
  const cli = async (...args: string[]): Promise<string> => (await run(binary, ['--data', data, ...args])).stdout;
  const base = engine === 'native' ? ['--base', 'tiny'] : [];
  if (engine === 'native') {
    await run(tinyBase, [join(data, 'models/tiny')]);
    await writeFile(join(data, 'rankings.jsonl'), rankings());
    await cli('data', 'import', join(data, 'rankings.jsonl'));
  }
  const server = spawn(binary, ['--data', data, 'serve', '--listen', '127.0.0.1:0', '--engine', engine, ...base], { env: { ...process.env, ...settings } });
  const signInUrl = await printed(server);
  const addPerson = async (name: string, role: string): Promise<string> =>
    (JSON.parse(await cli('user', 'add', name, '--role', role, '--json')) as { key: string }).key;
  return { hone: { url: new URL(signInUrl).origin, signInUrl, cli, addPerson }, server };
}

/** Enough rankings for a cycle: the long answer is always the better one. */
function rankings(): string {
  const line = (i: number) => ({ prompt: `question ${i}`, chosen: `yes, and here is why ${i}`, rejected: 'no' });
  return Array.from({ length: 40 }, (_, i) => JSON.stringify(line(i))).join('\n');
}

/** Signs a page in with an API key, as the sign-in form does. */
export async function signIn(page: Page, hone: Hone, key: string): Promise<void> {
  await page.goto(hone.url);
  await page.getByLabel('API key or sign-in URL').fill(key);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('navigation', { name: 'Pages' })).toBeVisible();
}

/** Says something in the chat, and waits for the whole answer. */
export async function say(page: Page, text: string): Promise<void> {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.getByLabel('Message', { exact: true }).press('Enter');
  await expect(page.getByRole('article', { name: /nswer/ }).last()).toHaveAttribute('aria-busy', 'false');
}

/** The list of conversations: in the rail where there is room, else opened. */
export async function chatList(page: Page): Promise<Locator> {
  const all = page.getByRole('button', { name: 'All chats' });
  if (await all.isVisible()) await all.click();
  return page.locator('.list:visible');
}

/** Goes to a page through the rail or the bottom bar. */
export async function visit(page: Page, name: 'Chat' | 'Compare' | 'Label' | 'Operate'): Promise<void> {
  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name, exact: true }).click();
}

let people = 0;

/** Tests with a server, and a page that must not show an error of its own. */
export const test = base.extend<{ person: (role: string) => Promise<string>; clean: void }, { hone: Hone; engine: Engine; settings: Record<string, string> }>({
  engine: ['echo', { scope: 'worker', option: true }],
  // As environment variables: HONE_...
  settings: [{}, { scope: 'worker', option: true }],
  hone: [
    async ({ engine, settings }, use) => {
      const data = await mkdtemp(join(tmpdir(), 'hone-e2e-'));
      const { hone, server } = await start(data, engine, settings);
      const pages = process.env['HONE_DIST'] ? await front(hone.url) : null;
      await use(pages ? { ...hone, url: pages.url, signInUrl: hone.signInUrl.replace(hone.url, pages.url) } : hone);
      pages?.close();
      const ended = new Promise((done) => server.once('exit', done));
      server.removeAllListeners('exit');
      server.once('exit', () => undefined);
      server.kill('SIGTERM');
      await Promise.race([ended, new Promise((done) => setTimeout(done, 5_000))]);
      server.kill('SIGKILL');
      await rm(data, { recursive: true, force: true });
    },
    { scope: 'worker' },
  ],
  person: async ({ hone }, use) => {
    await use((role) => hone.addPerson(`person-${process.pid}-${++people}`, role));
  },
  // Whatever a test does, the page must not break: no exception, nothing that the content policy had to stop.
  clean: [
    async ({ page }, use) => {
      const broken: string[] = [];
      page.on('pageerror', (error) => broken.push(error.message));
      page.on('console', (message) => {
        if (message.text().includes('Content Security Policy')) broken.push(message.text());
      });
      await use();
      expect(broken).toEqual([]);
    },
    { auto: true },
  ],
});

export { expect };
