//! Each migration on a database that is in use: half-way up, old rows in, then the rest of the way.

use super::*;
use hone_domain::ids::{ConversationId, JobId, RunId, UserId};

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

#[test]
fn runs_of_before_are_kept_and_there_may_be_judges() {
    let rows = "insert into snapshots(sha256, path, counts_json, created_at) values ('s', 'p', '{}', '2026-01-01T00:00:00.000000Z');
        insert into jobs(id, kind, state, params_json, reason, created_at)
          values ('job_1', 'cycle', 'running', '{}', 'ann', '2026-01-01T00:00:00.000000Z');
        insert into runs(id, kind, job_id, state, base_name, snapshot_sha256, inputs_json, config_json, seed, metrics_json, created_at)
          values ('run_1', 'reward', 'job_1', 'succeeded', 'x', 's', '{}', '{}', -1, '{\"a\":1}', '2026-01-01T00:00:00.000000Z');";
    let (_dir, c) = old(6, rows);
    let run = runs::get(&c, &RunId::from_raw("run_1")).expect("kept");
    assert_eq!(
        (run.kind, run.seed, run.job_id, &run.metrics.expect("kept")["a"]),
        (runs::RunKind::Reward, u64::MAX, Some(JobId::from_raw("job_1")), &serde_json::json!(1))
    );
    let new = runs::NewRun {
        kind: runs::RunKind::Judge,
        job_id: None,
        base_name: "x".into(),
        snapshot_sha256: "s".into(),
        inputs: serde_json::json!({}),
        config: serde_json::json!({}),
        seed: 1,
    };
    runs::create(&c, &new).expect("a judge");
}

const AT_THREE: &str = "
    insert into comparisons(id, user_id, messages_json, prompt_sha256, source, created_at)
      values ('cmp_1', 'user_1', '[{\"role\":\"user\",\"content\":\"p\"}]', 'x', 'live', '2026-01-01T00:00:00.000000Z');
    insert into completions(id, user_id, policy_id, comparison_id, position, messages_json, content, finish_reason, sampling_json,
                            prompt_tokens, completion_tokens, created_at)
      values ('cmpl_2', 'user_1', 'base_x', 'cmp_1', 0, '[]', 'a', 'stop', '{}', 1, 1, '2026-01-01T00:00:00.000000Z'),
             ('cmpl_3', 'user_1', 'base_x', 'cmp_1', 1, '[]', 'b', 'stop', '{}', 1, 1, '2026-01-01T00:00:00.000000Z');
    insert into rankings(comparison_id, user_id, ranks_json, created_at)
      values ('cmp_1', 'user_1', '[1,0]', '2026-01-01T00:00:00.000000Z');
    insert into demonstrations(id, user_id, messages_json, ideal, prompt_sha256, source, created_at)
      values ('demo_1', 'user_1', '[{\"role\":\"user\",\"content\":\"d\"}]', 'i', 'y', 'live', '2026-01-01T00:00:00.000000Z');";

#[test]
fn feedback_of_before_is_still_its_owners_and_learned_from() {
    let (_dir, c) = old(3, &format!("{AT_TWO}{AT_THREE}"));
    let ann = UserId::from_raw("user_1");
    let mine = comparisons::list(&c, &ann, false, 10).expect("lists");
    assert_eq!((mine.len(), mine[0].candidates.len(), mine[0].ranking.is_some()), (1, 2, true));
    assert_eq!(training_data::rankings(&c).expect("reads").len(), 1);
    let demonstrations = training_data::demonstrations(&c).expect("reads");
    assert_eq!(demonstrations[0].origin.sender.as_deref(), Some("user_1"), "the prompt is its writer's own");
    let seen = data_room::list(&c, &data_room::Filter::default(), 10, 0).expect("lists");
    let sources: Vec<_> = seen.items.iter().map(|item| item.source.as_str()).collect();
    assert_eq!((seen.total, sources.len()), (3, 3), "chat, comparison and demonstration: {sources:?}");
    assert_eq!(labeling::pick::fresh(&c, &UserId::from_raw("user_2"), "2030").expect("picks"), None, "it is ranked");
}
