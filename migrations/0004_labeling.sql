-- The labeling queue: tasks that are leased to labelers, second opinions, gold questions, and what may not be learned from.

-- Made for the queue from user_id's prompt; user_id isn't shown it.
alter table comparisons add column for_queue integer not null default 0 check (for_queue in (0, 1));
create index comparisons_by_prompt on comparisons(prompt_sha256);
create index comparisons_for_queue on comparisons(created_at) where for_queue = 1;

-- Whose prompt a demonstration answers, where that isn't its writer's own; and the comparison beside which it was written.
alter table demonstrations add column prompt_from text references users(id);
alter table demonstrations add column comparison_id text references comparisons(id) on delete set null;

-- Prompts that labelers wrote for the queue.
create table labeling_prompts (
  id text primary key,
  user_id text not null references users(id),
  messages_json text not null,
  refused text,                          -- why the model can't answer it
  created_at text not null
) strict;
create index labeling_prompts_by_user on labeling_prompts(user_id);

create table labeling_tasks (
  id text primary key,
  user_id text not null references users(id),
  kind text not null check (kind in ('rank', 'demonstrate')),
  purpose text not null check (purpose in ('new', 'gold', 'repeat', 'overlap')),
  comparison_id text references comparisons(id) on delete cascade,
  prompt_from text not null references users(id),
  messages_json text not null,
  order_json text not null,              -- the candidates' places in the order shown
  state text not null check (state in ('leased', 'done', 'skipped', 'expired')),
  lease_until text not null,
  skip_reason text,
  demonstration_id text references demonstrations(id) on delete set null,
  created_at text not null,
  finished_at text
) strict;
create index labeling_tasks_by_user on labeling_tasks(user_id, state, finished_at);
create index labeling_tasks_by_comparison on labeling_tasks(comparison_id, state);
create index labeling_tasks_by_lease on labeling_tasks(lease_until) where state = 'leased';

-- Further opinions on a comparison: of gold questions, of repeated items, of other labelers. They measure people and are never trained on.
create table judgements (
  task_id text primary key references labeling_tasks(id) on delete cascade,
  comparison_id text not null references comparisons(id) on delete cascade,
  user_id text not null references users(id),
  purpose text not null check (purpose in ('gold', 'repeat', 'overlap')),
  ranks_json text not null,              -- as in rankings
  labels_json text,
  comment text,
  created_at text not null
) strict;
create index judgements_by_comparison on judgements(comparison_id);
create index judgements_by_user on judgements(user_id);

-- Comparisons whose ranking is known, to measure labelers by.
create table gold (
  comparison_id text primary key references comparisons(id) on delete cascade,
  ranks_json text not null,
  actor text not null,
  at text not null
) strict;

-- What may not be learned from: the id of a logged answer, a comparison, a demonstration, or a person (then all that is theirs).
create table exclusions (
  item_id text primary key,
  reason text not null,
  actor text not null,
  at text not null
) strict;

-- Texts that operators write: 'guidelines'.
create table texts (
  name text primary key,
  text text not null,
  actor text not null,
  at text not null
) strict;
