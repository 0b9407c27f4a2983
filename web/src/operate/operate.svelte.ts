// What the operator sees: jobs, policies and counts, and the running job live.
import { call, explain, open } from '../lib/api/client';
import type { Bounds, Curves, Job, JobKind, JobView, LogLine, Outlook, Policy, PolicyList, Shadow, Stats, Traffic } from '../lib/api/types';
import { add } from './chart';
import { isFinal } from './phases';

const refreshEveryMs = 4_000;
const reconnectAfterMs = 2_000;

class Operate {
  jobs = $state.raw<Job[]>([]);
  policies = $state.raw<PolicyList | null>(null);
  stats = $state.raw<Stats | null>(null);
  outlook = $state.raw<Outlook | null>(null);
  /** The job that is shown with its curves: the running one, or the last. */
  view = $state.raw<JobView | null>(null);
  loaded = $state(false);
  error = $state<string | null>(null);
  #watched: { id: string; abort: AbortController } | null = null;

  readonly running = $derived(this.jobs.findLast((j) => !isFinal(j.state)) ?? null);
  readonly champion = $derived(this.policies?.policies.find((p) => p.id === this.policies?.champion) ?? null);

  readonly challenger = $derived(this.policies?.policies.find((p) => p.id === this.policies?.challenger) ?? null);

  /** Loads everything and keeps it fresh until the returned function is called. */
  start(): () => void {
    void this.refresh();
    const timer = setInterval(() => document.visibilityState === 'visible' && void this.refresh(), refreshEveryMs);
    return () => {
      clearInterval(timer);
      this.#unwatch();
    };
  }

  async refresh(): Promise<void> {
    try {
      const [jobs, policies, stats, outlook] = await Promise.all([
        call<{ jobs: Job[] }>('/v1/jobs'),
        call<PolicyList>('/v1/policies'),
        call<Stats>('/v1/stats'),
        call<Outlook>('/v1/loop'),
      ]);
      this.jobs = jobs.jobs;
      this.policies = policies;
      this.stats = stats;
      this.outlook = outlook;
      this.error = null;
      await this.#show((this.running ?? this.jobs[0])?.id ?? null);
    } catch (error) {
      this.error = explain(error);
    }
    this.loaded = true;
  }

  /** Starts a job and shows it at once. */
  async create(kind: JobKind): Promise<void> {
    await call('/v1/jobs', { method: 'POST', body: { kind } });
    await this.refresh();
  }

  async cancel(id: string): Promise<void> {
    await call(`/v1/jobs/${id}/cancel`, { method: 'POST' });
    await this.refresh();
  }

  async promote(id: string): Promise<void> {
    await call(`/v1/policies/${id}/promote`, { method: 'POST' });
    await this.refresh();
  }

  async rollBack(): Promise<void> {
    await call('/v1/policies/rollback', { method: 'POST' });
    await this.refresh();
  }

  /** Stops everything that happens by itself. */
  async freeze(reason: string): Promise<void> {
    await call('/v1/loop/freeze', { method: 'PUT', body: { reason } });
    await this.refresh();
  }

  /** Lets it go on. */
  async thaw(): Promise<void> {
    await call('/v1/loop/freeze', { method: 'DELETE' });
    await this.refresh();
  }

  /** Tries a policy beside the champion, or changes what it gets; within bounds, people's rankings decide about it. */
  async challenge(policy: string, traffic: Traffic, trial: Bounds | null): Promise<void> {
    await call('/v1/policies/challenger', { method: 'PUT', body: { policy, ...traffic, ...(trial ? { trial } : {}) } });
    await this.refresh();
  }

  async endChallenge(): Promise<void> {
    await call('/v1/policies/challenger', { method: 'DELETE' });
    await this.refresh();
  }

  async shadows(id: string): Promise<Shadow[]> {
    return (await call<{ shadows: Shadow[] }>(`/v1/policies/${encodeURIComponent(id)}/shadows`)).shadows;
  }

  /** One policy with its gate report. */
  policy(id: string): Promise<Policy> {
    return call<Policy>(`/v1/policies/${encodeURIComponent(id)}`);
  }

  job(id: string): Promise<JobView> {
    return call<JobView>(`/v1/jobs/${id}`);
  }

  /** The last lines that a job's training processes wrote. */
  async log(id: string): Promise<LogLine[]> {
    return (await call<{ lines: LogLine[] }>(`/v1/jobs/${id}/log`)).lines;
  }

  async #show(id: string | null): Promise<void> {
    if (id === null || this.#watched?.id === id) return;
    if (this.view?.id === id && isFinal(this.view.state)) return;
    this.#unwatch();
    this.view = await this.job(id);
    if (!isFinal(this.view.state)) this.#watch(id);
  }

  #watch(id: string): void {
    const abort = new AbortController();
    this.#watched = { id, abort };
    void this.#follow(id, abort.signal);
  }

  #unwatch(): void {
    this.#watched?.abort.abort();
    this.#watched = null;
  }

  /** Follows a job's events; a connection that breaks is taken up again, with the curves fetched anew. */
  async #follow(id: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const { events } = await open(`/v1/jobs/${id}/events`, { signal });
        for await (const { data } of events) if (data !== '[DONE]') await this.#took(JSON.parse(data) as Job);
        this.view = await this.job(id);
        if (isFinal(this.view.state)) break;
      } catch {
        if (signal.aborted) return;
        await new Promise((done) => setTimeout(done, reconnectAfterMs));
      }
    }
    if (this.#watched?.id === id) this.#watched = null;
    await this.refresh();
  }

  async #took(job: Job): Promise<void> {
    if (this.view?.id !== job.id) return;
    const before = this.view;
    this.view = { ...before, ...job, phases: before.phases };
    this.jobs = this.jobs.map((j) => (j.id === job.id ? job : j));
    if (job.phase !== before.phase || !this.#grow(job)) this.view = await this.job(job.id);
  }

  /** Adds the newest figures to the curves of the phase they belong to; false when that phase isn't known yet. */
  #grow(job: Job): boolean {
    const { progress } = job;
    if (!progress || !this.view) return true;
    const at = this.view.phases.findLastIndex((p) => p.kind === job.phase);
    const phase = this.view.phases[at];
    if (!phase) return byRun.has(job.phase) === false;
    const curves: Curves = { ...phase.curves };
    for (const [name, value] of Object.entries(progress.metrics)) {
      curves[name] = add(curves[name] ?? [], [progress.step, value]) as [number, number][];
    }
    this.view = { ...this.view, phases: this.view.phases.with(at, { ...phase, curves }) };
    return true;
  }
}

/** Phases that are training runs and therefore have curves. */
const byRun = new Set<string>(['sft', 'reward', 'judge', 'ppo', 'evaluate']);

/** The one operator's state of the page. */
export const operate = new Operate();
