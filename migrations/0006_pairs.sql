-- A candidate that is a copy of an answer somebody had in a chat: "which of the two is better".
alter table completions add column copy_of text references completions(id) on delete set null;
create index completions_by_copy_of on completions(copy_of) where copy_of is not null;
