-- What operators look through: every prompt that may be learned from, with where it came from. Chats that aren't recorded are nobody's business.
create view data_items as
  select co.id as id,
         case when co.source = 'import' then 'import' when co.for_queue then 'queue' else 'comparison' end as source,
         co.user_id as sender_id, r.user_id as labeler_id, co.messages_json as messages_json,
         null as answer, (select count(*) from completions where comparison_id = co.id) as answers,
         r.comparison_id is not null as ranked, co.created_at as created_at
  from comparisons co left join rankings r on r.comparison_id = co.id
  union all
  select a.id, 'chat', a.user_id, null, a.messages_json, a.content, 1, 0, a.created_at
  from completions a left join conversations v on v.id = a.conversation_id
  where a.comparison_id is null and a.shadow_of is null and v.deleted_at is null and coalesce(v.recorded, 1)
  union all
  select d.id, 'demonstration', coalesce(d.prompt_from, d.user_id), d.user_id, d.messages_json, d.ideal, 1, 0, d.created_at
  from demonstrations d;

-- Audit entries are listed by time.
create index audit_by_at on audit(at);
