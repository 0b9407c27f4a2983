//! Which classifier scores: the one that is built into hone, or a folder of the user's own. Reading and scoring is `learn`'s.

use hone_learn::LearnError;
use hone_learn::classify::Classifier;
use std::path::{Path, PathBuf};

/// hone's own, as `hone classifier train` wrote it; NOTICE beside its folder says of what, and how it is made again.
const CARD: &[u8] = include_bytes!("../models/classifier/toxicity-1/classifier.json");
const WEIGHTS: &[u8] = include_bytes!("../models/classifier/toxicity-1/weights.i8");

/// The classifier in `folder`, or hone's own.
///
/// # Errors
/// When the folder is missing or damaged; the message names the file.
pub fn open(folder: Option<&Path>) -> Result<Classifier, LearnError> {
    match folder {
        Some(folder) => Classifier::load(folder),
        None => Classifier::from_bytes(CARD, WEIGHTS)
            .map_err(|reason| LearnError::BadClassifier { path: PathBuf::from("hone's own classifier"), reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_one_tells_the_crudest_from_the_mildest() {
        let own = open(None).expect("it is part of the binary");
        assert_eq!(own.card().version, "toxicity-1");
        let (rude, mild) = (own.score("You are a stupid fucking idiot."), own.score("The train leaves at nine."));
        assert!(rude > 0.9 && mild < 0.3, "{rude} {mild}");
        let figures = own.card().held_out.as_ref().and_then(|m| m.auc).expect("its figures are in it");
        assert!(figures.low > 0.9, "{figures:?}");
    }
}
