-- The first house. Append-only: a change to the schema is a new file. Times are RFC 3339 UTC text; JSON columns say so.

create table users (
  id text primary key,
  name text not null unique,
  role text not null check (role in ('user', 'labeler', 'operator', 'admin')),
  created_at text not null,
  revoked_at text
) strict;

-- API keys and browser sessions. Only a SHA-256 of the secret is kept: it is 32 random bytes, so no slow hash is needed.
create table credentials (
  secret_sha256 text primary key,
  user_id text not null references users(id),
  kind text not null check (kind in ('api_key', 'sign_in', 'session')),
  created_at text not null,
  expires_at text,
  revoked_at text
) strict;
create index credentials_by_user on credentials(user_id);

-- Every version of the model. The base policy has no adapter.
create table policies (
  id text primary key,
  base_name text not null,
  adapter_dir text,                      -- relative to the data folder
  parent_id text references policies(id),
  run_id text,
  snapshot_sha256 text,
  config_json text not null default '{}',
  metrics_json text not null default '{}',
  gate_report_json text,
  state text not null check (state in ('candidate', 'champion', 'retired', 'rejected')),
  created_at text not null,
  promoted_at text
) strict;
create unique index one_champion on policies(state) where state = 'champion';

-- Every promotion and roll-back, in order: the way back.
create table promotions (
  id integer primary key,
  policy_id text not null references policies(id),
  previous_id text references policies(id),
  kind text not null check (kind in ('start', 'promote', 'rollback')),
  actor text not null,
  at text not null
) strict;

create table conversations (
  id text primary key,
  user_id text not null references users(id),
  title text not null,
  created_at text not null,
  updated_at text not null,
  deleted_at text
) strict;
create index conversations_by_user on conversations(user_id, updated_at);

-- Every logged answer: chat answers (comparison_id null) and candidates.
create table completions (
  id text primary key,
  user_id text not null references users(id),
  policy_id text not null references policies(id),
  conversation_id text references conversations(id),
  comparison_id text references comparisons(id),
  position integer,                      -- a candidate's place as shown
  messages_json text not null,
  content text not null,
  finish_reason text not null,
  sampling_json text not null,
  prompt_tokens integer not null,
  completion_tokens integer not null,
  created_at text not null
) strict;
create index completions_by_user on completions(user_id, created_at);
create index completions_by_comparison on completions(comparison_id);
create index completions_by_conversation on completions(conversation_id);

create table comparisons (
  id text primary key,
  user_id text not null references users(id),
  messages_json text not null,
  prompt_sha256 text not null,
  source text not null check (source in ('live', 'import')),
  created_at text not null
) strict;
create index comparisons_by_user on comparisons(user_id, created_at);

create table rankings (
  comparison_id text primary key references comparisons(id),
  user_id text not null references users(id),
  ranks_json text not null,              -- tier of each candidate by position, 0 = best; null text 'null' when not rankable
  not_rankable integer not null default 0 check (not_rankable in (0, 1)),
  labels_json text,
  comment text,
  created_at text not null
) strict;
create index rankings_by_user on rankings(user_id, created_at);

create table ratings (
  completion_id text primary key references completions(id),
  user_id text not null references users(id),
  thumb text not null check (thumb in ('up', 'down')),
  tags_json text not null default '[]',
  comment text,
  created_at text not null
) strict;

create table demonstrations (
  id text primary key,
  user_id text not null references users(id),
  messages_json text not null,
  ideal text not null,
  prompt_sha256 text not null,
  source text not null check (source in ('live', 'import', 'ranking')),
  created_at text not null
) strict;
create index demonstrations_by_user on demonstrations(user_id, created_at);

create table snapshots (
  sha256 text primary key,
  path text not null,                    -- relative to the data folder
  counts_json text not null,
  created_at text not null
) strict;

-- A training run: one kind, one folder.
create table runs (
  id text primary key,
  kind text not null check (kind in ('sft', 'reward', 'ppo', 'evaluate')),
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

create table jobs (
  id text primary key,
  kind text not null check (kind in ('sft', 'reward', 'ppo', 'evaluate', 'cycle')),
  state text not null check (state in ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'rejected')),
  phase text not null default 'queued',
  params_json text not null default '{}',
  work_json text not null default '{}',  -- what the phases done so far have produced
  progress_json text,
  reason text not null,                  -- who or what started it: a user's name, 'schedule', 'threshold'
  error text,
  lease_until text,
  cancel_requested integer not null default 0,
  created_at text not null,
  started_at text,
  finished_at text
) strict;
create index jobs_by_state on jobs(state, created_at);

create table audit (
  id integer primary key,
  at text not null,
  actor text not null,
  action text not null,
  object text not null,
  detail_json text not null default '{}'
) strict;
