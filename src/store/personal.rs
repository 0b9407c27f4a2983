//! What hone keeps of one person: all of it at once, and its removal. Reads and deletes from every table with a person's content.

use super::{StoreError, now};
use hone_domain::Message;
use hone_domain::ids::UserId;
use rusqlite::{Connection, params};
use serde::Serialize;
use serde_json::Value;
use std::collections::HashSet;

/// Everything that a person has said here and been answered, as JSON by kind.
///
/// # Errors
/// When the database can't.
pub fn export(c: &Connection, user: &UserId) -> Result<Value, StoreError> {
    let sql = "select json_object(
      'exported_at', ?2,
      'user', (select json_object('id', id, 'name', name, 'role', role, 'created_at', created_at) from users where id = ?1),
      'conversations', (select json_group_array(json_object('id', id, 'title', title, 'record', json(iif(recorded, 'true', 'false')),
         'document', json(document_json), 'created_at', created_at, 'updated_at', updated_at) order by created_at)
         from conversations where user_id = ?1 and deleted_at is null),
      'completions', (select json_group_array(json_object('id', id, 'comparison', comparison_id, 'shadow_of', shadow_of,
         -- Blind until it is ranked.
         'policy', case when comparison_id is null or comparison_id in (select comparison_id from rankings) then policy_id end,
         'messages', json(messages_json), 'content', content, 'finish_reason', finish_reason,
         'tools', json(tools_json), 'sampling', json(sampling_json), 'created_at', created_at) order by created_at) from completions where user_id = ?1),
      'rankings', (select json_group_array(json_object('comparison', comparison_id, 'ranks', json(ranks_json),
         'labels', json(labels_json), 'comment', comment, 'created_at', created_at) order by created_at)
         from rankings where user_id = ?1),
      'judgements', (select json_group_array(json_object('comparison', comparison_id, 'ranks', json(ranks_json),
         'labels', json(labels_json), 'comment', comment, 'created_at', created_at) order by created_at)
         from judgements where user_id = ?1),
      'prompts', (select json_group_array(json_object('id', id, 'messages', json(messages_json), 'created_at', created_at)
         order by created_at) from labeling_prompts where user_id = ?1),
      'ratings', (select json_group_array(json_object('completion', completion_id, 'thumb', thumb, 'tags', json(tags_json),
         'comment', comment, 'created_at', created_at) order by created_at) from ratings where user_id = ?1),
      'demonstrations', (select json_group_array(json_object('id', id, 'messages', json(messages_json), 'ideal', ideal,
         'created_at', created_at) order by created_at) from demonstrations where user_id = ?1))";
    let text: String = c.query_row(sql, params![user.as_str(), now()], |row| row.get(0))?;
    Ok(serde_json::from_str(&text)?)
}

/// Every prompt that came from a person.
///
/// # Errors
/// When the database can't.
pub fn prompts(c: &Connection, user: &UserId) -> Result<HashSet<Vec<Message>>, StoreError> {
    let sql = "select messages_json from comparisons where user_id = ?1
               union select messages_json from completions where user_id = ?1
               union select messages_json from labeling_prompts where user_id = ?1
               union select messages_json from demonstrations where user_id = ?1 or prompt_from = ?1";
    let mut rows = c.prepare(sql)?;
    let texts: Vec<String> = rows.query_map([user.as_str()], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(texts.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?)
}

/// How many rows were removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Erased {
    /// Answers, candidates included.
    pub completions: usize,
    /// Comparisons.
    pub comparisons: usize,
    /// Rankings, those of others on this person's comparisons included.
    pub rankings: usize,
    /// Thumbs.
    pub ratings: usize,
    /// Further opinions in the labeling queue, those of others on this person's prompts included.
    pub judgements: usize,
    /// Prompts written for the queue.
    pub prompts: usize,
    /// Ideal answers, those that others wrote for this person's prompts included.
    pub demonstrations: usize,
    /// Conversations.
    pub conversations: usize,
}

/// Removes all of it. The account and its keys stay.
///
/// # Errors
/// When the database can't.
pub fn erase(tx: &Connection, user: &UserId) -> Result<Erased, StoreError> {
    let delete = |sql: &str| tx.execute(sql, [user.as_str()]);
    let ratings = "delete from ratings where user_id = ?1
                   or completion_id in (select id from completions where user_id = ?1)";
    let rankings = "delete from rankings where user_id = ?1
                    or comparison_id in (select id from comparisons where user_id = ?1)";
    let judgements = "delete from judgements where user_id = ?1
                      or comparison_id in (select id from comparisons where user_id = ?1)";
    let exclusions = "delete from exclusions where item_id in (
                        select id from completions where user_id = ?1 union select id from comparisons where user_id = ?1
                        union select id from demonstrations where user_id = ?1 or prompt_from = ?1)";
    delete(exclusions)?;
    // In the order of the foreign keys.
    let judgements = delete(judgements)?;
    delete("delete from labeling_tasks where user_id = ?1 or prompt_from = ?1")?;
    let erased = Erased {
        judgements,
        prompts: delete("delete from labeling_prompts where user_id = ?1")?,
        ratings: delete(ratings)?,
        rankings: delete(rankings)?,
        completions: delete("delete from completions where user_id = ?1")?,
        comparisons: delete("delete from comparisons where user_id = ?1")?,
        demonstrations: delete("delete from demonstrations where user_id = ?1 or prompt_from = ?1")?,
        conversations: delete("delete from conversations where user_id = ?1")?,
    };
    Ok(erased)
}
