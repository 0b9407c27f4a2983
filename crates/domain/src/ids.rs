//! Identifiers: one newtype per thing, so that a user's id can't be passed where a job's is meant.
//! An id is its prefix and a version-7 UUID: sortable by creation time, unguessable.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A fresh id.
            #[must_use]
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(format!(concat!($prefix, "_{}"), uuid::Uuid::now_v7().simple()))
            }

            /// Takes an id that came from outside or from the database. Any text is taken: an id that
            /// doesn't exist is found out by looking it up.
            #[must_use]
            pub fn from_raw(raw: impl Into<String>) -> Self {
                Self(raw.into())
            }

            /// The text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(/** A person who chats, labels or operates. */ UserId, "user");
id!(/** One logged answer. Chat answers and comparison candidates are both completions. */ CompletionId, "cmpl");
id!(/** One prompt answered k times, to be ranked. */ ComparisonId, "cmp");
id!(/** An ideal answer that a person wrote. */ DemonstrationId, "demo");
id!(/** A served or once-served version of the model. */ PolicyId, "pol");
id!(/** A queued, running or finished job. */ JobId, "job");
id!(/** One training run and its folder. */ RunId, "run");
id!(/** A chat kept for its owner. */ ConversationId, "conv");
id!(/** An item of the labeling queue in somebody's hands. */ TaskId, "task");

impl PolicyId {
    /// The policy that is the base model itself, without an adapter.
    #[must_use]
    pub fn base(base_name: &str) -> Self {
        Self(format!("base_{base_name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_their_prefix_and_differ() {
        let (a, b) = (JobId::new(), JobId::new());
        assert!(a.as_str().starts_with("job_"));
        assert_ne!(a, b);
        assert!(a < b, "ids sort by creation");
    }
}
