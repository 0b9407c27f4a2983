//! The text beside the tasks: what an operator wrote, else the configured file, else hone's own.

use super::{Labeling, LabelingError};
use crate::store::{audit, texts};
use serde::Serialize;
use serde_json::json;

const NAME: &str = "guidelines";
const OWN: &str = include_str!("guidelines.md");
/// Characters of the text.
const CHARS_MAX: usize = 100_000;

/// The guidelines and where they are from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Guidelines {
    /// Markdown.
    pub text: String,
    /// `operator`, `file` (labeling.guidelines) or `default`.
    pub source: &'static str,
    /// Who wrote it, where an operator did.
    pub by: Option<String>,
    /// When.
    pub at: Option<String>,
}

impl Labeling {
    /// The guidelines as they are now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn guidelines(&self) -> Result<Guidelines, LabelingError> {
        if let Some(texts::Text { text, actor, at }) = self.store.read(|c| texts::get(c, NAME)).await? {
            return Ok(Guidelines { text, source: "operator", by: Some(actor), at: Some(at) });
        }
        let (text, source) = self.guidelines_file.as_deref().map_or((OWN, "default"), |text| (text, "file"));
        Ok(Guidelines { text: text.to_owned(), source, by: None, at: None })
    }

    /// Writes the guidelines; an empty text goes back to the file's, or hone's own.
    ///
    /// # Errors
    /// When it is too long, or the database fails.
    pub async fn write_guidelines(&self, text: String, actor: String) -> Result<Guidelines, LabelingError> {
        if text.chars().count() > CHARS_MAX {
            let message = format!("the guidelines may have {CHARS_MAX} characters: nobody reads more");
            return Err(LabelingError::Answer { param: "text", message });
        }
        let write = move |tx: &rusqlite::Connection| {
            texts::put(tx, NAME, &text, &actor)?;
            audit::note(tx, &actor, "labeling.guidelines", NAME, &json!({"characters": text.chars().count()}))
        };
        self.store.write(write).await?;
        self.guidelines().await
    }
}
