//! Policies: every version of the model, which of them is the champion, and how it came to be.

#[cfg(test)]
mod tests;

use super::columns::{json, json_or_null, text_enum};
use super::{StoreError, challenger, now};
use hone_domain::ids::{PolicyId, RunId};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde_json::Value;

text_enum! {
    /// What became of a policy.
    PolicyState {
        /// Trained, not (yet) promoted.
        Candidate = "candidate",
        /// The one that people talk to.
        Champion = "champion",
        /// Was the champion once.
        Retired = "retired",
        /// Didn't pass the gate.
        Rejected = "rejected",
    }
}

text_enum! {
    /// Why the champion changed.
    PromotionKind {
        /// The base model, when there was nothing else for it.
        Start = "start",
        /// A candidate became champion.
        Promote = "promote",
        /// An earlier champion came back.
        Rollback = "rollback",
    }
}

/// The row that stands for "an answer that came with an import": it was given by no policy of ours.
const IMPORTED: &str = "imported";

/// What a new policy is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPolicy {
    /// Its id, and the name of its folder.
    pub id: PolicyId,
    /// Name of the base model.
    pub base_name: String,
    /// Its adapter, relative to the data folder.
    pub adapter_dir: String,
    /// The champion that it was trained from.
    pub parent_id: Option<PolicyId>,
    /// The run that made it; none made one that was imported.
    pub run_id: Option<RunId>,
    /// The data.
    pub snapshot_sha256: Option<String>,
    /// The run's configuration.
    pub config: Value,
    /// The run's last figures.
    pub metrics: Value,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Policy {
    /// Its id.
    #[schema(value_type = String)]
    pub id: PolicyId,
    /// Name of the base model.
    pub base_name: String,
    /// Its adapter, relative to the data folder; the base policy has none.
    pub adapter_dir: Option<String>,
    /// The champion that it was trained from.
    #[schema(value_type = Option<String>)]
    pub parent_id: Option<PolicyId>,
    /// The run that made it.
    #[schema(value_type = Option<String>)]
    pub run_id: Option<RunId>,
    /// The data.
    pub snapshot_sha256: Option<String>,
    /// The run's configuration.
    #[schema(value_type = Object)]
    pub config: Value,
    /// The run's last figures.
    #[schema(value_type = Object)]
    pub metrics: Value,
    /// What the gate said, rule by rule.
    #[schema(value_type = Option<Object>)]
    pub gate_report: Option<Value>,
    /// How people's comparisons decided about it, where it was on trial.
    #[schema(value_type = Option<Object>)]
    pub trial: Option<Value>,
    /// What became of it.
    pub state: PolicyState,
    /// When it was made.
    pub created_at: String,
    /// When it last became champion.
    pub promoted_at: Option<String>,
}

/// A change of champion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Promotion {
    /// Who came.
    pub policy_id: PolicyId,
    /// The base of who came.
    pub base_name: String,
    /// Who went.
    pub previous_id: Option<PolicyId>,
    /// Why.
    pub kind: PromotionKind,
    /// Who did it.
    pub actor: String,
    /// When.
    pub at: String,
}

/// Makes a candidate. Making the same id again changes nothing.
///
/// # Errors
/// When the database can't.
pub fn create(c: &Connection, new: &NewPolicy) -> Result<(), StoreError> {
    let NewPolicy { id, base_name, adapter_dir, parent_id, run_id, snapshot_sha256, config, metrics } = new;
    c.execute(
        "insert into policies(id, base_name, adapter_dir, parent_id, run_id, snapshot_sha256, config_json, metrics_json,
                              state, created_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'candidate', ?9) on conflict do nothing",
        params![
            id.as_str(),
            base_name,
            adapter_dir,
            parent_id.as_ref().map(PolicyId::as_str),
            run_id.as_ref().map(RunId::as_str),
            snapshot_sha256,
            config.to_string(),
            metrics.to_string(),
            now()
        ],
    )?;
    Ok(())
}

/// The policy to start a server of this base with: its last champion, or the base itself, which gets its row here.
///
/// # Errors
/// When the database can't.
pub fn of_base(c: &Connection, base_name: &str) -> Result<Policy, StoreError> {
    if let Some(last) = line(c, base_name)?.last() {
        return get(c, last);
    }
    let id = PolicyId::base(base_name);
    c.execute(
        "insert into policies(id, base_name, state, created_at) values (?1, ?2, 'retired', ?3) on conflict do nothing",
        params![id.as_str(), base_name, now()],
    )?;
    get(c, &id)
}

/// Makes the policy that a server has started with the champion. For the champion itself this changes nothing.
///
/// # Errors
/// When there is none of this id.
pub fn start(c: &Connection, id: &PolicyId) -> Result<Policy, StoreError> {
    match champion(c)? {
        Some(old) if old.id == *id => Ok(old),
        old => crown(c, id, old.map(|p| p.id), PromotionKind::Start, "server"),
    }
}

/// One policy.
///
/// # Errors
/// When there is none of this id.
pub fn get(c: &Connection, id: &PolicyId) -> Result<Policy, StoreError> {
    let sql = "select * from policies where id = ?1 and id <> ?2";
    let found = c.query_row(sql, params![id.as_str(), IMPORTED], from_row).optional()?;
    found.ok_or_else(|| StoreError::NotFound { what: "policy", id: id.to_string() })
}

/// All policies, the newest first.
///
/// # Errors
/// When the database can't.
pub fn list(c: &Connection) -> Result<Vec<Policy>, StoreError> {
    let mut rows = c.prepare_cached("select * from policies where id <> ?1 order by created_at desc, id desc")?;
    let rows = rows.query_map([IMPORTED], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The policy that people talk to. None before the first start.
///
/// # Errors
/// When the database can't.
pub fn champion(c: &Connection) -> Result<Option<Policy>, StoreError> {
    Ok(c.query_row("select * from policies where state = 'champion'", [], from_row).optional()?)
}

/// Keeps what the gate said; a candidate that failed is rejected.
///
/// # Errors
/// When there is none of this id.
pub fn keep_gate_report(c: &Connection, id: &PolicyId, report: &Value, passed: bool) -> Result<(), StoreError> {
    let sql = "update policies set gate_report_json = ?2,
               state = case when state = 'candidate' and not ?3 then 'rejected' else state end where id = ?1";
    match c.execute(sql, params![id.as_str(), report.to_string(), passed])? {
        1 => Ok(()),
        _ => Err(StoreError::NotFound { what: "policy", id: id.to_string() }),
    }
}

/// Keeps how a policy's trial ended; one that people don't want is rejected.
///
/// # Errors
/// When there is none of this id.
pub fn keep_trial(c: &Connection, id: &PolicyId, trial: &Value, rejected: bool) -> Result<(), StoreError> {
    let sql = "update policies set trial_json = ?2,
               state = case when state = 'candidate' and ?3 then 'rejected' else state end where id = ?1";
    match c.execute(sql, params![id.as_str(), trial.to_string(), rejected])? {
        1 => Ok(()),
        _ => Err(StoreError::NotFound { what: "policy", id: id.to_string() }),
    }
}

/// Makes a policy the champion. For the champion itself this changes nothing.
///
/// # Errors
/// When there is none of this id, or it belongs to another base than the champion.
pub fn promote(c: &Connection, id: &PolicyId, actor: &str) -> Result<Policy, StoreError> {
    let policy = promotable(c, id)?;
    match champion(c)? {
        Some(old) if old.id == policy.id => Ok(policy),
        old => crown(c, id, old.map(|p| p.id), PromotionKind::Promote, actor),
    }
}

/// A policy that may become champion: one of the base that is served.
///
/// # Errors
/// When there is none of this id, or it belongs to another base than the champion.
pub fn promotable(c: &Connection, id: &PolicyId) -> Result<Policy, StoreError> {
    let policy = get(c, id)?;
    match champion(c)? {
        Some(old) if old.base_name != policy.base_name => Err(StoreError::Conflict(format!(
            "policy {id} belongs to the base {}, the server runs {}: start it with --base {}",
            policy.base_name, old.base_name, policy.base_name
        ))),
        _ => Ok(policy),
    }
}

/// Goes back to the champion before this one; doing it again goes further back.
///
/// # Errors
/// When there is no earlier champion of this base.
pub fn roll_back(c: &Connection, actor: &str) -> Result<Policy, StoreError> {
    let back = previous_champion(c)?;
    let back = back.ok_or_else(|| StoreError::Conflict("there is no earlier champion to go back to".into()))?;
    let old = champion(c)?.map(|p| p.id);
    crown(c, &back, old, PromotionKind::Rollback, actor)
}

/// Which policy a roll-back would bring back: the champion before this one, of the same base.
///
/// # Errors
/// When the database can't.
pub fn previous_champion(c: &Connection) -> Result<Option<PolicyId>, StoreError> {
    let Some(champion) = champion(c)? else { return Ok(None) };
    let mut line = line(c, &champion.base_name)?;
    line.pop();
    Ok(line.pop())
}

/// The champions of a base that a roll-back leads through, the present (or last) one at the end. Serving another base in between
/// changes nothing.
fn line(c: &Connection, base_name: &str) -> Result<Vec<PolicyId>, StoreError> {
    let mut line: Vec<PolicyId> = Vec::new();
    for step in promotions(c)?.into_iter().filter(|step| step.base_name == base_name) {
        match step.kind {
            PromotionKind::Start if line.last() == Some(&step.policy_id) => {}
            PromotionKind::Start => line = vec![step.policy_id],
            PromotionKind::Promote => line.push(step.policy_id),
            PromotionKind::Rollback => {
                line.pop();
            }
        }
    }
    Ok(line)
}

/// Every change of champion, the oldest first.
///
/// # Errors
/// When the database can't.
pub fn promotions(c: &Connection) -> Result<Vec<Promotion>, StoreError> {
    let mut rows = c.prepare_cached(
        "select policy_id, base_name, previous_id, kind, actor, at
         from promotions join policies on policies.id = policy_id order by promotions.id",
    )?;
    let rows = rows.query_map([], |row| {
        Ok(Promotion {
            policy_id: PolicyId::from_raw(row.get::<_, String>(0)?),
            base_name: row.get(1)?,
            previous_id: row.get::<_, Option<String>>(2)?.map(PolicyId::from_raw),
            kind: row.get(3)?,
            actor: row.get(4)?,
            at: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The stand-in policy that imported answers name; made when it is first needed.
pub(super) fn imported(c: &Connection) -> Result<PolicyId, StoreError> {
    c.execute(
        "insert into policies(id, base_name, state, created_at) values (?1, '', 'retired', ?2) on conflict do nothing",
        params![IMPORTED, now()],
    )?;
    Ok(PolicyId::from_raw(IMPORTED))
}

/// The one place where the champion changes: old out, new in, one line in the history. The caller's transaction makes it one step.
fn crown(
    c: &Connection,
    id: &PolicyId,
    old: Option<PolicyId>,
    kind: PromotionKind,
    actor: &str,
) -> Result<Policy, StoreError> {
    let at = now();
    c.execute("update policies set state = 'retired' where state = 'champion'", [])?;
    c.execute("update policies set state = 'champion', promoted_at = ?2 where id = ?1", params![id.as_str(), at])?;
    let old = old.as_ref().map(PolicyId::as_str);
    c.execute(
        "insert into promotions(policy_id, previous_id, kind, actor, at) values (?1, ?2, ?3, ?4, ?5)",
        params![id.as_str(), old, kind, actor, at],
    )?;
    challenger::end_of(c, id)?;
    get(c, id)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Policy> {
    Ok(Policy {
        id: PolicyId::from_raw(row.get::<_, String>("id")?),
        base_name: row.get("base_name")?,
        adapter_dir: row.get("adapter_dir")?,
        parent_id: row.get::<_, Option<String>>("parent_id")?.map(PolicyId::from_raw),
        run_id: row.get::<_, Option<String>>("run_id")?.map(RunId::from_raw),
        snapshot_sha256: row.get("snapshot_sha256")?,
        config: json(row, "config_json")?,
        metrics: json(row, "metrics_json")?,
        gate_report: json_or_null(row, "gate_report_json")?,
        trial: json_or_null(row, "trial_json")?,
        state: row.get("state")?,
        created_at: row.get("created_at")?,
        promoted_at: row.get("promoted_at")?,
    })
}
