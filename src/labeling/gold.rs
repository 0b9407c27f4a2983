//! Gold questions: an operator says how a comparison is to be ranked, and labelers are measured by it without being told.

use super::agreement::Agreement;
use super::{Labeling, LabelingError};
use crate::chat::comparison::{self, Verdict};
use crate::store::comparisons::Candidate;
use crate::store::judgements::{self, Measured};
use crate::store::{StoreError, audit, comparisons, gold};
use hone_domain::ids::ComparisonId;
use hone_domain::{Message, Ranking};
use rusqlite::Connection;
use serde_json::json;

/// A gold question as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldQuestion {
    /// The comparison.
    pub comparison: ComparisonId,
    /// How it is to be ranked: tiers of candidate ids, best first.
    pub tiers: Vec<Vec<String>>,
    /// The prompt.
    pub messages: Vec<Message>,
    /// Its answers: id and text, as they were first shown.
    pub answers: Vec<(String, String)>,
    /// Who said so.
    pub actor: String,
    /// When.
    pub at: String,
    /// How each labeler did on it, the newest first.
    pub results: Vec<GoldResult>,
}

/// How a labeler did on a gold question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldResult {
    /// Who, by id.
    pub user: String,
    /// And by name.
    pub name: String,
    /// How they ranked it, as the question's own tiers; none where they found that its answers can't be ranked.
    pub tiers: Option<Vec<Vec<String>>>,
    /// With what is expected, in pairs of answers.
    pub agreement: Agreement,
    /// When.
    pub at: String,
}

/// Tiers of candidate ids, best first.
fn tiers(ranking: &Ranking, candidates: &[Candidate]) -> Vec<Vec<String>> {
    let mut tiers = vec![Vec::new(); ranking.ranks().len()];
    for (rank, candidate) in ranking.ranks().iter().zip(candidates) {
        tiers[usize::from(*rank)].push(candidate.id.to_string());
    }
    tiers.retain(|tier| !tier.is_empty());
    tiers
}

fn question(c: &Connection, gold: gold::Gold) -> Result<GoldQuestion, StoreError> {
    let (comparison, _) = comparisons::any(c, &gold.comparison)?;
    let candidates = &comparison.candidates;
    let result = |Measured { user, name, ranking, at }: Measured| GoldResult {
        agreement: ranking.as_ref().map(|said| Agreement::of(said, &gold.expected)).unwrap_or_default(),
        tiers: ranking.map(|said| tiers(&said, candidates)),
        user,
        name,
        at,
    };
    Ok(GoldQuestion {
        results: judgements::of_gold(c, &gold.comparison)?.into_iter().map(result).collect(),
        tiers: tiers(&gold.expected, candidates),
        answers: candidates.iter().map(|c| (c.id.to_string(), c.content.clone())).collect(),
        messages: comparison.messages,
        comparison: gold.comparison,
        actor: gold.actor,
        at: gold.at,
    })
}

impl Labeling {
    /// All gold questions, the newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn gold(&self) -> Result<Vec<GoldQuestion>, LabelingError> {
        let read = |c: &Connection| gold::list(c)?.into_iter().map(|gold| question(c, gold)).collect();
        Ok(self.store.read(read).await?)
    }

    /// Makes a comparison a gold question; without tiers, with the ranking that it has.
    ///
    /// # Errors
    /// When there is no such comparison, the tiers don't fit, or there are none.
    pub async fn set_gold(
        &self,
        id: ComparisonId,
        tiers: Vec<Vec<String>>,
        actor: String,
    ) -> Result<(), LabelingError> {
        let of = id.clone();
        let (stored, _) = self.store.read(move |c| comparisons::any(c, &of)).await?;
        let expected = if tiers.is_empty() {
            stored.ranking.and_then(|ranking| ranking.ranking).ok_or_else(|| {
                StoreError::Conflict(format!(
                    "comparison {id} has no ranking: rank it first, or send the expected `ranking`"
                ))
            })?
        } else {
            let ids: Vec<&str> = stored.candidates.iter().map(|c| c.id.as_str()).collect();
            let checked = comparison::checked(&ids, Verdict { tiers, ..Verdict::default() })?.ranking;
            checked.ok_or_else(|| StoreError::Conflict("a gold question needs a ranking".into()))?
        };
        let write = move |tx: &Connection| {
            gold::set(tx, &id, &expected, &actor)?;
            audit::note(tx, &actor, "labeling.gold", id.as_str(), &json!({"ranks": expected}))
        };
        Ok(self.store.write(write).await?)
    }

    /// Makes a gold question an ordinary comparison again.
    ///
    /// # Errors
    /// When it isn't one.
    pub async fn unset_gold(&self, id: ComparisonId, actor: String) -> Result<(), LabelingError> {
        let write = move |tx: &Connection| {
            gold::unset(tx, &id)?;
            audit::note(tx, &actor, "labeling.ungold", id.as_str(), &json!({}))
        };
        Ok(self.store.write(write).await?)
    }
}
