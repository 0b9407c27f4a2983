-- A challenge that decides itself by people's comparisons: its bounds; and what came of it, with the policy.
alter table challenger add column trial_json text;
alter table policies add column trial_json text;

-- Where there is a row, nothing happens by itself.
create table frozen (
  id integer primary key check (id = 1),
  reason text not null,
  actor text not null,
  at text not null
) strict;
