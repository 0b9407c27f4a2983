//! Promotions, roll-backs and candidates, on a database in a temporary folder.

use super::super::{Store, runs, snapshots};
use super::*;

fn start_with_base(c: &Connection, base_name: &str) -> Result<Policy, StoreError> {
    let id = of_base(c, base_name)?.id;
    start(c, &id)
}

fn candidate(c: &Connection, name: &str) -> PolicyId {
    snapshots::record(c, "s", "snapshots/s.json", &Value::Null).expect("snapshot");
    let run_id = runs::create(
        c,
        &runs::NewRun {
            kind: runs::RunKind::Ppo,
            job_id: None,
            base_name: "tiny".into(),
            snapshot_sha256: "s".into(),
            inputs: Value::Null,
            config: Value::Null,
            seed: u64::MAX,
        },
    )
    .expect("run");
    let id = PolicyId::from_raw(name);
    let new = NewPolicy {
        id: id.clone(),
        base_name: "tiny".into(),
        adapter_dir: format!("policies/{name}/adapter"),
        parent_id: None,
        run_id: Some(run_id),
        snapshot_sha256: Some("s".into()),
        config: Value::Null,
        metrics: Value::Null,
    };
    create(c, &new).expect("policy");
    id
}

fn in_store<T: Send + 'static>(f: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static) -> T {
    let dir = tempfile::tempdir().expect("temp dir");
    Store::open(dir.path()).expect("opens").write_blocking(f).expect("works")
}

#[test]
fn rolling_back_twice_goes_two_champions_back() {
    in_store(|c| {
        let base = start_with_base(c, "tiny")?;
        let (a, b) = (candidate(c, "pol_a"), candidate(c, "pol_b"));
        promote(c, &a, "ada")?;
        promote(c, &b, "ada")?;
        assert_eq!(roll_back(c, "ada")?.id, a);
        assert_eq!(roll_back(c, "ada")?.id, base.id);
        assert!(matches!(roll_back(c, "ada"), Err(StoreError::Conflict(_))));
        promote(c, &b, "ada")?;
        assert_eq!(previous_champion(c)?, Some(base.id));
        let kinds: Vec<_> = promotions(c)?.iter().map(|p| p.kind.as_str()).collect();
        assert_eq!(kinds, ["start", "promote", "promote", "rollback", "rollback", "promote"]);
        Ok(())
    });
}

#[test]
fn another_base_has_its_own_line() {
    in_store(|c| {
        start_with_base(c, "tiny")?;
        let a = candidate(c, "pol_a");
        promote(c, &a, "ada")?;
        assert_eq!(start_with_base(c, "tiny")?.id, a, "the champion survives a restart");
        assert_eq!(start_with_base(c, "other")?.id, PolicyId::base("other"));
        assert!(matches!(roll_back(c, "ada"), Err(StoreError::Conflict(_))));
        assert!(matches!(promote(c, &a, "ada"), Err(StoreError::Conflict(_))));
        assert_eq!(start_with_base(c, "tiny")?.id, a, "and going to another base and back");
        assert_eq!(roll_back(c, "ada")?.id, PolicyId::base("tiny"));
        Ok(())
    });
}

#[test]
fn the_gate_rejects_candidates_but_never_the_champion() {
    in_store(|c| {
        start_with_base(c, "tiny")?;
        let a = candidate(c, "pol_a");
        keep_gate_report(c, &a, &serde_json::json!({"passed": false}), false)?;
        assert_eq!(get(c, &a)?.state, PolicyState::Rejected);
        promote(c, &a, "ada")?;
        keep_gate_report(c, &a, &serde_json::json!({"passed": false}), false)?;
        assert_eq!(get(c, &a)?.state, PolicyState::Champion);
        imported(c)?;
        assert_eq!(list(c)?.len(), 2, "the stand-in for imports isn't listed");
        Ok(())
    });
}
