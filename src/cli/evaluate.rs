//! `hone evaluate --suite NAME --data FILE`: asks a policy the items of a benchmark, whether the server runs or not. A second call goes
//! on where the first one stopped, or answers at once.

use super::progress::Teller;
use super::train::{base_format, base_name, device, stop_on_signals};
use super::{CliError, Context};
use crate::config::Flags;
use crate::jobs::evaluate_suites::{Asked, ask, open};
use crate::jobs::{JobError, inputs};
use crate::store::{Store, StoreError, policies, runs};
use hone_domain::ids::{PolicyId, RunId};
use hone_learn::Base;
use hone_learn::LearnError;
use hone_learn::evaluate::suites::{self, Better, Change, Figure, SuiteResult};
use hone_learn::model::{Device, Format};
use hone_text::ChatTokenizer;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Which suite, and of which policy.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// docs/EVALUATION.md says what each measures and where its file comes from
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(suites::NAMES))]
    suite: String,
    /// The suite's file. (The data folder is named before the command, as in `hone --data DIR evaluate ...`, or by HONE_DATA)
    #[arg(long = "data", value_name = "FILE")]
    file: PathBuf,
    /// The policy: its id, a run, an adapter's folder, or "base" for the bare base model [default: the champion]
    #[arg(long, value_name = "ID")]
    policy: Option<String>,
    /// Compare with this policy, item by item; named like the other one
    #[arg(long, value_name = "ID")]
    against: Option<String>,
    /// For toxicity: a classifier's folder, as `hone classifier train` wrote it [default: evaluate.classifier in the settings, or hone's own]
    #[arg(long, value_name = "DIR")]
    classifier: Option<PathBuf>,
    /// Ask only so many items, drawn with the seed [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// What items are drawn with, and answers where there are any
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Base model of an adapter's folder or of "base": a name in the data folder [default: the champion's]
    #[arg(long)]
    base: Option<String>,
    /// How the base's matrices are kept in memory: f32, bf16 or q8_0
    #[arg(long, value_name = "FORMAT", default_value = "f32", value_parser = base_format)]
    base_format: Format,
    /// Where to compute: cpu, cuda (an NVIDIA GPU), or auto: a GPU where there is one
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = device)]
    device: Device,
}

/// A policy that was named: what to call it, its base, and its adapter's folder.
struct Named {
    name: String,
    base: String,
    adapter: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// When something named isn't there, the file is wrong, or it is stopped by a signal.
pub fn run(args: Args, context: &Context) -> Result<(), CliError> {
    let data = std::fs::read(&args.file).map_err(|e| {
        CliError::Usage(format!("can't read {}: {e}; docs/EVALUATION.md says where to get it", args.file.display()))
    })?;
    let store = context.store()?;
    let policy = named(&store, args.policy.as_deref(), args.base.as_ref())?;
    let against = args.against.as_deref().map(|name| named(&store, Some(name), args.base.as_ref())).transpose()?;
    if let Some(other) = against.as_ref().filter(|other| other.base != policy.base) {
        let text = format!("{} is on {}, {} on {}", policy.name, policy.base, other.name, other.base);
        return Err(CliError::Usage(format!("only policies on one base can be compared item by item: {text}")));
    }
    let dir = store.data_dir().join("models").join(&policy.base);
    let tokenizer = ChatTokenizer::open(&dir).map_err(|e| CliError::Failed(e.to_string()))?;
    let base = Base::open_as(&dir, args.base_format).and_then(|base| base.on(args.device)).map_err(JobError::from)?;
    let classifier = args.classifier.or(context.settings(&Flags::default())?.config.evaluate.classifier);
    let suite =
        open(&args.suite, &data, &tokenizer, base.config().context, classifier.as_deref()).map_err(wrong_use)?;
    let folder = store.data_dir().join("evaluations");
    let limit = args.limit.map(|n| n as usize);
    let asked = Asked { base: &base, tokenizer: &tokenizer, seed: args.seed, limit, folder: &folder };
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(&stop);
    let mut teller = Teller::new(context.json);
    let mut found = |policy: &Named| {
        let adapter = policy.adapter.as_deref();
        ask(suite.as_ref(), &data, adapter, asked, &mut |progress| teller.tell(progress), &stop)
    };
    let result = found(&policy).and_then(|new| Ok((against.as_ref().map(&mut found).transpose()?, new)));
    teller.finish();
    let (old, new) = result.map_err(|e| match e {
        JobError::Learn(LearnError::Stopped) => {
            CliError::Failed("stopped; the same command goes on with what is left".into())
        }
        e => e.into(),
    })?;
    let compare = |old: &SuiteResult| suites::compare(suite.about().figures, old, &new);
    let changes = old.as_ref().map(compare).transpose().map_err(JobError::from)?;
    print(&policy, against.as_ref(), &new, changes.as_deref(), context.json);
    Ok(())
}

/// Wrong data is wrong use.
fn wrong_use(e: LearnError) -> CliError {
    match e {
        LearnError::BadSuite { .. } | LearnError::BadClassifier { .. } => CliError::Usage(e.to_string()),
        e => JobError::from(e).into(),
    }
}

fn named(store: &Store, name: Option<&str>, base: Option<&String>) -> Result<Named, CliError> {
    let under = |dir: Option<PathBuf>| dir.map(|dir| store.data_dir().join(dir));
    let policy = match name {
        None => store.read_blocking(policies::champion)?,
        Some(id) if id.starts_with("pol_") || id.starts_with("base_") => {
            let id = PolicyId::from_raw(id);
            Some(store.read_blocking(move |c| policies::get(c, &id))?)
        }
        Some(_) => None,
    };
    if let Some(policy) = policy {
        let adapter = under(policy.adapter_dir.map(PathBuf::from));
        return Ok(Named { name: policy.id.to_string(), base: policy.base_name, adapter });
    }
    let Some(name) = name.filter(|name| *name != "base") else {
        return Ok(Named { name: "base".to_owned(), base: base_name(store, base.cloned())?, adapter: None });
    };
    let (text, run) = (name.to_owned(), name.starts_with("run_").then(|| RunId::from_raw(name)));
    let found = store.read_blocking(move |c| {
        let of_run = run.map(|id| runs::get(c, &id)).transpose()?;
        Ok::<_, StoreError>((inputs::named(c, &text), of_run.map(|run| run.base_name)))
    })?;
    let (adapter, of_run) = found;
    let base = of_run.map_or_else(|| base_name(store, base.cloned()), Ok)?;
    Ok(Named { name: name.to_owned(), base, adapter: under(Some(adapter?)) })
}

fn print(policy: &Named, against: Option<&Named>, found: &SuiteResult, changes: Option<&[Change]>, as_json: bool) {
    let SuiteResult { suite, version, data_sha256, seed, limit, scored_by, figures, items } = found;
    let n = items.len();
    if as_json {
        let mut line = json!({
            "suite": suite, "version": version, "data_sha256": data_sha256, "seed": seed, "limit": limit, "items": n,
            "policy": policy.name, "base": policy.base, "figures": figures,
        });
        if let Some(by) = scored_by {
            line["scored_by"] = json!(by);
        }
        if let (Some(against), Some(changes)) = (against, changes) {
            line["against"] = json!(against.name);
            line["changes"] = json!(changes);
        }
        println!("{line}");
        return;
    }
    println!("{suite} (version {version}) on {}, {n} items", policy.name);
    if let Some(by) = scored_by {
        println!("scored by {} (SHA-256 {})", by.version, by.sha256);
    }
    for Figure { name, estimate, n, better, .. } in figures {
        let better = match better {
            Better::Higher => ", higher is better",
            Better::Lower => ", lower is better",
            Better::Half => ", nearer to 0.5 is better",
            Better::Neutral => "",
        };
        println!("  {name:<34} {:>9.4}  ({:.4} to {:.4}, n = {n}{better})", estimate.mean, estimate.low, estimate.high);
    }
    let (Some(against), Some(changes)) = (against, changes) else { return };
    println!("against {}, item by item:", against.name);
    for Change { name, difference, n, .. } in changes {
        let (mean, low, high) = (difference.mean, difference.low, difference.high);
        println!("  {name:<34} {mean:>+9.4}  ({low:+.4} to {high:+.4}, n = {n})");
    }
}
