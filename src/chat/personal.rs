//! A person's own data: handing it out, and erasing it, with the names of everything that has learned from it.

use super::{Chat, ChatError};
use crate::store::personal::{self, Erased};
use crate::store::policies::Policy;
use crate::store::runs::Run;
use crate::store::snapshots::Snapshot;
use crate::store::{Store, StoreError, audit, policies, runs, snapshots};
use hone_domain::ids::UserId;
use hone_domain::{DataSet, Message};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashSet};
use std::io::BufReader;
use std::path::Path;

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
    let mut holding = BTreeSet::new();
    for snapshot in all_snapshots {
        if holds(store.data_dir(), &snapshot, user, &prompts)? {
            holding.insert(snapshot.sha256);
        }
    }
    let (runs, policies) = descendants(&holding, &all_runs, &all_policies);
    let id = user.clone();
    let erased = store.write_blocking(move |tx| {
        let erased = personal::erase(tx, &id)?;
        audit::note(tx, id.as_str(), "me.erase", id.as_str(), &json!(erased))?;
        Ok(erased)
    })?;
    store.empty_log_blocking()?;
    Ok(Erasure { erased, snapshots: holding, runs, policies })
}

fn holds(data: &Path, snapshot: &Snapshot, user: &UserId, prompts: &HashSet<Vec<Message>>) -> Result<bool, StoreError> {
    let file = match std::fs::File::open(data.join(&snapshot.path)) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(StoreError::Json(serde_json::Error::io(e))),
    };
    let set: DataSet = serde_json::from_reader(BufReader::new(file))?;
    let demonstrations = set.demonstrations.iter().chain(&set.held_out_demonstrations);
    let rankings = set.rankings.iter().chain(&set.held_out_rankings).chain(&set.judge_rankings);
    let alone = set.prompts.iter().chain(&set.held_out_prompts);
    let mut labelers = demonstrations.clone().map(|d| &d.labeler).chain(rankings.clone().map(|r| &r.labeler));
    let mut messages =
        demonstrations.map(|d| &d.messages).chain(rankings.map(|r| &r.messages)).chain(alone.map(|p| &p.messages));
    Ok(labelers.any(|labeler| labeler == user.as_str()) || messages.any(|m| prompts.contains(m)))
}

/// Runs and policies that come from these snapshots, at once or through another run or policy.
fn descendants(
    snapshots: &BTreeSet<String>,
    runs: &[Run],
    policies: &[Policy],
) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut reached_runs, mut reached_policies) = (BTreeSet::<String>::new(), BTreeSet::<String>::new());
    loop {
        let before = (reached_runs.len(), reached_policies.len());
        for run in runs {
            // Inputs name folders, which carry the id of the run or policy they belong to.
            let inputs = run.inputs.to_string();
            let from = |ids: &BTreeSet<String>| ids.iter().any(|id| inputs.contains(id));
            if snapshots.contains(&run.snapshot_sha256) || from(&reached_runs) || from(&reached_policies) {
                reached_runs.insert(run.id.to_string());
            }
        }
        for policy in policies {
            let reached = |ids: &BTreeSet<String>, id: Option<&str>| id.is_some_and(|id| ids.contains(id));
            if reached(snapshots, policy.snapshot_sha256.as_deref())
                || reached(&reached_runs, policy.run_id.as_ref().map(|id| id.as_str()))
                || reached(&reached_policies, policy.parent_id.as_ref().map(|id| id.as_str()))
            {
                reached_policies.insert(policy.id.to_string());
            }
        }
        if before == (reached_runs.len(), reached_policies.len()) {
            return (reached_runs, reached_policies);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::policies::NewPolicy;
    use crate::store::runs::{NewRun, RunKind};
    use crate::store::users::{self, Role};
    use hone_domain::ids::{PolicyId, RunId};
    use hone_domain::{Demonstration, PromptItem};

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
