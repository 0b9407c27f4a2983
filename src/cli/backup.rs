//! `hone backup`: a consistent copy of the database, while the server runs or not.

use super::{CliError, Context};
use crate::store::backup;
use serde_json::json;
use std::path::PathBuf;

/// Where to.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The copy; it must not exist yet
    file: PathBuf,
}

/// Writes the copy.
///
/// # Errors
/// When the file is there already or can't be written.
pub fn run(Args { file }: Args, context: &Context) -> Result<(), CliError> {
    let target = file.clone();
    context.store()?.read_blocking(move |c| backup::write(c, &target))?;
    if context.json {
        println!("{}", json!({"database": file}));
    } else {
        println!(
            "{} is a copy of the database. To restore it, name it hone.db in a data folder; models/, snapshots/, runs/ and \
             policies/ never change once written, so copy them as they are.",
            file.display()
        );
    }
    Ok(())
}
