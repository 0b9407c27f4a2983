//! A person's own data: handing it out, and erasing it, with the names of everything that has learned from it.

use super::lineage::{self, Wanted};
use super::{Chat, ChatError};
use crate::store::personal::{self, Erased};
use crate::store::{Store, StoreError, audit, policies, runs, snapshots};
use hone_domain::ids::UserId;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What was erased, and what has learned from it before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Erasure {
    /// Rows removed from the database.
    pub erased: Erased,
    /// Frozen data sets that still hold something of it, by hash: files that an operator has to remove.
    pub snapshots: BTreeSet<String>,
    /// Training runs (reward models among them) that learned from it, or started from one that did.
    pub runs: BTreeSet<String>,
    /// Policies that learned from it, or descend from one that did.
    pub policies: BTreeSet<String>,
}

impl Chat {
    /// Everything hone keeps of a person.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn export(&self, user: UserId) -> Result<Value, ChatError> {
        Ok(self.store.read(move |c| personal::export(c, &user)).await?)
    }

    /// Erases it. The rows are gone from the disk when it returns.
    ///
    /// # Errors
    /// When the database fails or a snapshot can't be read; then nothing is erased.
    pub async fn erase(&self, user: UserId) -> Result<Erasure, ChatError> {
        let store = self.store.clone();
        let erasure = tokio::task::spawn_blocking(move || erase(&store, &user)).await;
        Ok(erasure.map_err(|_| StoreError::Closed)??)
    }
}

fn erase(store: &Store, user: &UserId) -> Result<Erasure, StoreError> {
    let id = user.clone();
    let read = move |c: &rusqlite::Connection| {
        let all = usize::MAX;
        Ok((personal::prompts(c, &id)?, snapshots::list(c, all)?, runs::list(c, all)?, policies::list(c)?))
    };
    let (prompts, all_snapshots, all_runs, all_policies) = store.read_blocking(read)?;
    let wanted = Wanted::Person { id: user.to_string(), prompts };
    let holding = lineage::holding(store.data_dir(), all_snapshots, &wanted)?;
    let holding: BTreeSet<String> = holding.into_iter().map(|used| used.sha256).collect();
    let (runs, policies) = lineage::descendants(&holding, &all_runs, &all_policies);
    let id = user.clone();
    let erased = store.write_blocking(move |tx| {
        let erased = personal::erase(tx, &id)?;
        audit::note(tx, id.as_str(), "me.erase", id.as_str(), &json!(erased))?;
        Ok(erased)
    })?;
    store.empty_log_blocking()?;
    Ok(Erasure { erased, snapshots: holding, runs, policies })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::policies::NewPolicy;
    use crate::store::runs::{NewRun, RunKind};
    use crate::store::users::{self, Role};
    use hone_domain::ids::{PolicyId, RunId};
    use hone_domain::{DataSet, Demonstration, Message, PromptItem, RankedPrompt, Ranking};

    fn record(store: &Store, sha256: &str, set: &DataSet) {
        std::fs::write(store.data_dir().join(sha256), serde_json::to_vec(set).expect("JSON")).expect("writes");
        let sha256 = sha256.to_owned();
        let recorded = store.write_blocking(move |tx| snapshots::record(tx, &sha256, &sha256, &json!({})));
        recorded.expect("records");
    }

    fn run(store: &Store, sha256: &str, inputs: Value) -> RunId {
        let new = NewRun {
            kind: RunKind::Reward,
            job_id: None,
            base_name: "tiny".into(),
            snapshot_sha256: sha256.into(),
            inputs,
            config: json!({}),
            seed: 1,
        };
        store.write_blocking(move |tx| runs::create(tx, &new)).expect("creates")
    }

    #[test]
    fn what_was_only_tested_on_a_person_or_judged_by_them_is_named_too() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("opens");
        let ann = store.write_blocking(|tx| users::create(tx, "ann", Role::User)).expect("adds").id;
        let ranked = RankedPrompt {
            messages: vec![Message::user("q")],
            candidates: vec!["a".into(), "b".into()],
            ranking: Ranking::from_ranks(&[0, 1]).expect("ranks"),
            quality: Vec::new(),
            flags: Vec::new(),
            labeler: ann.to_string(),
        };
        record(&store, "tested", &DataSet { held_out_rankings: vec![ranked.clone()], ..DataSet::default() });
        record(&store, "judged", &DataSet { judge_rankings: vec![ranked], ..DataSet::default() });
        let runs = [run(&store, "tested", json!({})), run(&store, "judged", json!({}))];
        let erasure = erase(&store, &ann).expect("erases");
        assert_eq!(erasure.snapshots, BTreeSet::from(["tested".to_owned(), "judged".to_owned()]));
        assert_eq!(erasure.runs, runs.map(|id| id.to_string()).into());
    }

    #[test]
    fn everything_that_learned_from_a_person_is_named() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("opens");
        let ann = store.write_blocking(|tx| users::create(tx, "ann", Role::User)).expect("adds").id;
        let messages = vec![Message::user("q")];
        let hers = Demonstration { messages: messages.clone(), ideal: "a".into(), labeler: ann.to_string() };
        record(&store, "hers", &DataSet { demonstrations: vec![hers], ..DataSet::default() });
        let theirs = PromptItem { messages: vec![Message::user("something else")] };
        record(&store, "theirs", &DataSet { prompts: vec![theirs], ..DataSet::default() });

        let first = run(&store, "hers", json!({}));
        let next = run(&store, "theirs", json!({"reward": format!("runs/{first}/artifact")}));
        let unrelated = run(&store, "theirs", json!({}));
        for (id, run_id) in [("pol_a", &next), ("pol_b", &unrelated)] {
            let new = NewPolicy {
                id: PolicyId::from_raw(id),
                base_name: "tiny".into(),
                adapter_dir: "a".into(),
                parent_id: None,
                run_id: Some(run_id.clone()),
                snapshot_sha256: Some("theirs".into()),
                config: json!({}),
                metrics: json!({}),
            };
            store.write_blocking(move |tx| policies::create(tx, &new)).expect("creates");
        }

        let erasure = erase(&store, &ann).expect("erases");
        assert_eq!(erasure.snapshots, BTreeSet::from(["hers".to_owned()]));
        assert_eq!(erasure.runs, BTreeSet::from([first.to_string(), next.to_string()]));
        assert_eq!(erasure.policies, BTreeSet::from(["pol_a".to_owned()]));
    }
}
