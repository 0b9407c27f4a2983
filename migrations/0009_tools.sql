-- The functions that were offered with a prompt and called in its answer. Such turns aren't texts alone: they are kept, never learned from.
alter table completions add column tools_json text;

-- Answers in chats whose prompts may be learned from, ranked and looked through: texts that are recorded and not deleted.
create view chat_answers as
  select a.id, a.user_id, a.messages_json, a.content, a.created_at
  from completions a left join conversations v on v.id = a.conversation_id
  where a.comparison_id is null and a.shadow_of is null and a.tools_json is null and v.deleted_at is null and coalesce(v.recorded, 1);

-- As it was, over these.
drop view data_items;
create view data_items as
  select co.id as id,
         case when co.source = 'import' then 'import' when co.for_queue then 'queue' else 'comparison' end as source,
         co.user_id as sender_id, r.user_id as labeler_id, co.messages_json as messages_json,
         null as answer, (select count(*) from completions where comparison_id = co.id) as answers,
         r.comparison_id is not null as ranked, co.created_at as created_at
  from comparisons co left join rankings r on r.comparison_id = co.id
  union all
  select id, 'chat', user_id, null, messages_json, content, 1, 0, created_at from chat_answers
  union all
  select d.id, 'demonstration', coalesce(d.prompt_from, d.user_id), d.user_id, d.messages_json, d.ideal, 1, 0, d.created_at
  from demonstrations d;
