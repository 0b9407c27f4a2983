-- Runs of a further kind: the judge, a reward model that decides the gate and that nothing is optimised against. SQLite can't change a
-- check, so the table is made anew; nothing refers to it by key.
create table runs_new (
  id text primary key,
  kind text not null check (kind in ('sft', 'reward', 'judge', 'ppo', 'evaluate')),
  job_id text references jobs(id),
  state text not null check (state in ('running', 'succeeded', 'failed', 'cancelled')),
  base_name text not null,
  snapshot_sha256 text not null references snapshots(sha256),
  inputs_json text not null,             -- adapters it starts from
  config_json text not null,
  seed integer not null,
  artifact_dir text,
  artifact_sha256 text,
  metrics_json text,
  error text,
  created_at text not null,
  finished_at text
) strict;
insert into runs_new select id, kind, job_id, state, base_name, snapshot_sha256, inputs_json, config_json, seed, artifact_dir,
  artifact_sha256, metrics_json, error, created_at, finished_at from runs;
drop table runs;
alter table runs_new rename to runs;
