import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { label } from './label.svelte';

const task = (n: number, kind = 'rank') => ({
  id: `task_${n}`, kind, messages: [{ role: 'user', content: `q${n}` }], lease_until: '2099-01-01T00:00:00Z',
  candidates: kind === 'rank' ? [{ id: 'c1', content: 'one' }, { id: 'c2', content: 'two' }] : [],
});

/** A queue of these tasks; what is done to them is noted. */
function serve(tasks: object[]): string[] {
  const done: string[] = [];
  const fetch = (path: string, init: RequestInit = {}): Promise<Response> => {
    const json = (body: unknown, status = 200) => Promise.resolve(new Response(JSON.stringify(body), { status }));
    if (path.startsWith('/v1/labeling/next')) return json({ task: tasks[0] ?? null });
    if (path.endsWith('/undo')) return done.pop() ? json(task(1)) : json({ error: { message: 'nothing to take back', code: 'conflict' } }, 409);
    if (init.method !== 'POST') return json({}, 404);
    if (path.includes('task_gone')) return tasks.shift(), json({ error: { message: 'its lease has ended', code: 'conflict' } }, 409);
    tasks.shift();
    done.push(`${path.split('/').slice(-2).join(' ')} ${String(init.body)}`);
    return json({ id: 'x' });
  };
  vi.stubGlobal('fetch', vi.fn(fetch));
  return done;
}

let person = 0;
beforeEach(() => localStorage.clear());
afterEach(() => vi.unstubAllGlobals());

async function open(): Promise<void> {
  label.kind = 'rank';
  label.openFor(`p${++person}`);
  await vi.waitFor(() => expect(label.loading).toBe(false));
}

it('goes from task to task, skips with a reason, and tells when there are no more', async () => {
  const done = serve([task(1), task(2), task(3)]);
  await open();
  label.ranker.place('c1', 2);
  expect(label.sendable).toBe(false);
  label.ranker.place('c2', 1);
  await label.send();
  expect(label.now?.task.id).toBe('task_2');
  expect(label.now?.places).toEqual({});
  await label.skip('too long');
  expect(label.now?.task.id).toBe('task_3');
  label.ranker.setNone(true);
  await label.send();
  expect([label.now, label.empty, label.sitting]).toEqual([null, true, 2]);
  expect(done).toEqual([
    'task_1 ranking {"ranking":[["c2"],["c1"]]}',
    'task_2 skip {"reason":"too long"}',
    'task_3 ranking {"ranking":[],"not_rankable":true}',
  ]);
});

it('shows what is taken back as it was', async () => {
  serve([task(1), task(2)]);
  await open();
  label.ranker.place('c1', 1);
  label.ranker.place('c2', 1);
  // Asked for while the next task is on its way, as who is fast does.
  const sent = label.send();
  await label.takeBack();
  await sent;
  expect(label.now).toMatchObject({ task: { id: 'task_1' }, places: { c1: 1, c2: 1 } });
  expect(label.ranker.open).toBe(true);
  await label.takeBack();
  expect(label.error).toContain('Nothing to take back');
});

it('finds half a task again, and goes on when a lease has ended', async () => {
  serve([task(1)]);
  await open();
  label.ranker.place('c2', 1);
  label.keep();
  const mine = `p${person}`;
  label.openFor('somebody else');
  await vi.waitFor(() => expect(label.loading).toBe(false));
  expect(label.now?.places).toEqual({});
  label.openFor(mine);
  await vi.waitFor(() => expect(label.now?.places).toEqual({ c2: 1 }));

  serve([{ ...task(1), id: 'task_gone' }, task(2)]);
  await open();
  label.ranker.place('c1', 1);
  label.ranker.place('c2', 2);
  await label.send();
  expect(label.error).toContain('lease has ended');
  expect(label.now?.task.id).toBe('task_2');
});
