//! Each migration on a database that is in use: half-way up, old rows in, then the rest of the way.

use super::*;
use hone_domain::ids::{ConversationId, UserId};

/// A database of the version that had so many steps, with rows of that time.
fn old(steps: usize, rows: &str) -> (tempfile::TempDir, Connection) {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut connection = connect(&dir.path().join("hone.db"), false).expect("opens");
    migrations().to_version(&mut connection, steps).expect("goes half-way");
    connection.execute_batch(rows).expect("takes the rows of its time");
    migrations().to_latest(&mut connection).expect("goes on");
    let problems: i64 =
        connection.query_row("select count(*) from pragma_foreign_key_check", [], |row| row.get(0)).expect("checks");
    assert_eq!(problems, 0);
    (dir, connection)
}

const AT_TWO: &str = "
    insert into users(id, name, role, created_at) values ('user_1', 'ann', 'user', '2026-01-01T00:00:00.000000Z');
    insert into policies(id, base_name, state, created_at) values ('base_x', 'x', 'champion', '2026-01-01T00:00:00.000000Z');
    insert into conversations(id, user_id, title, created_at, updated_at)
      values ('conv_1', 'user_1', 'old', '2026-01-01T00:00:00.000000Z', '2026-01-02T00:00:00.000000Z');
    insert into completions(id, user_id, policy_id, conversation_id, messages_json, content, finish_reason, sampling_json,
                            prompt_tokens, completion_tokens, created_at)
      values ('cmpl_1', 'user_1', 'base_x', 'conv_1', '[{\"role\":\"user\",\"content\":\"q\"}]', 'a', 'stop', '{}', 1, 1,
              '2026-01-01T00:00:00.000000Z');";

#[test]
fn conversations_of_before_are_kept_ones() {
    let (_dir, c) = old(2, AT_TWO);
    let ann = UserId::from_raw("user_1");
    let page = conversations::list(&c, &ann, "", 10, 0).expect("lists");
    assert_eq!((page.total, page.items[0].title.as_str(), page.items[0].revision), (1, "old", 1));
    let kept = conversations::owned(&c, &ConversationId::from_raw("conv_1"), &ann).expect("reads");
    assert!(kept.document.turns.is_empty() && kept.entry.record);
    assert_eq!(training_data::prompts(&c).expect("reads").len(), 1, "still learned from");
}
