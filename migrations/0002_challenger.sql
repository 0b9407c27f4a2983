-- The challenger, where there is one: a policy that some of the traffic gets.
create table challenger (
  id integer primary key check (id = 1),
  policy_id text not null references policies(id),
  traffic_json text not null,
  actor text not null,
  at text not null
) strict;

-- The challenger's answer to the same prompt as another answer, which nobody was shown.
alter table completions add column shadow_of text references completions(id) on delete cascade;
create index completions_by_shadow_of on completions(shadow_of);
