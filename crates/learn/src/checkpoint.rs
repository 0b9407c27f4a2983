//! Checkpoints: everything a run needs to go on as if it had never been interrupted, written atomically. Tensors go into one
//! safetensors file, the rest (step, RNG, data cursor, controllers) into one JSON file beside it. Uses `files` and `Params`.

use crate::LearnError;
use crate::files::{write_atomic, write_folder_atomic};
use crate::params::Params;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// Checkpoints that are kept; older ones are removed after a newer one is safely on disk.
const KEPT: usize = 2;
const TENSORS: &str = "tensors.safetensors";
const STATE: &str = "state.json";

/// What a run is made of. A checkpoint of another identity is refused: continuing it would be a run that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// sft, reward or ppo.
    pub kind: String,
    /// The base model: its name and shape.
    pub base: String,
    /// Hash of the settings.
    pub config: String,
    /// Hash of the data set.
    pub data: String,
    /// Hash of the adapters that the run starts from.
    pub init: String,
    /// The run's seed.
    pub seed: u64,
}

impl Identity {
    /// `None` where the two are the same, else what differs.
    fn difference(&self, other: &Self) -> Option<String> {
        let Self { kind, base, config, data, init, seed } = self;
        let pairs = [
            ("kind of training", kind, &other.kind),
            ("base model", base, &other.base),
            ("settings", config, &other.config),
            ("data set", data, &other.data),
            ("starting adapters", init, &other.init),
        ];
        let text = pairs.iter().find(|(_, a, b)| a != b).map(|(what, a, b)| format!("its {what}: {b} there, {a} here"));
        text.or_else(|| (*seed != other.seed).then(|| format!("its seed: {} there, {seed} here", other.seed)))
    }
}

/// Hex SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Hex SHA-256 of a value's JSON.
///
/// # Errors
/// When the value has no JSON form.
pub fn sha256_json(value: &impl Serialize) -> Result<String, LearnError> {
    serde_json::to_vec(value).map(|b| sha256(&b)).map_err(|e| LearnError::BadData { reason: e.to_string() })
}

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    dir: PathBuf,
    identity: Identity,
    best: Option<usize>,
}

/// A checkpoint as it was read.
#[derive(Debug)]
pub struct Loaded<S> {
    /// Steps (PPO: iterations) that were done.
    pub step: usize,
    /// The trainer's own state.
    pub state: S,
    path: PathBuf,
    tensors: Vec<u8>,
}

#[derive(Serialize)]
struct StateOut<'a, S> {
    step: usize,
    identity: &'a Identity,
    state: &'a S,
}

#[derive(Deserialize)]
struct StateIn<S> {
    step: usize,
    state: S,
}

#[derive(Deserialize)]
struct IdentityIn {
    identity: Identity,
}

impl Checkpoints {
    /// Those in `run_dir/checkpoints`, of a run with this identity.
    #[must_use]
    pub fn new(run_dir: &Path, identity: Identity) -> Self {
        Self { dir: run_dir.join("checkpoints"), identity, best: None }
    }

    /// Removes all of them: the run starts anew.
    ///
    /// # Errors
    /// When a folder can't be removed.
    pub fn clear(&self) -> Result<(), LearnError> {
        for (_, path) in self.list()? {
            fs::remove_dir_all(&path).map_err(LearnError::io(&path))?;
        }
        Ok(())
    }

    /// From now on the checkpoint of this step is kept, whatever its age: the best so far. The one that was best before isn't.
    pub fn keep_best(&mut self, step: usize) {
        self.best = Some(step);
    }

    /// Writes `step-NNNNNN`, then drops all but the newest [`KEPT`] and the best. Each of `tensors` is saved under its prefix.
    ///
    /// # Errors
    /// When the disk refuses, or a number isn't finite (training went wrong in the last step); the checkpoints before are whole then.
    pub fn save<S: Serialize>(&self, step: usize, state: &S, tensors: &[(&str, &Params)]) -> Result<(), LearnError> {
        if let Some((prefix, _)) = tensors.iter().find(|(_, params)| !params.all_finite()) {
            let what = format!("a weight in \"{prefix}\" after step {step}");
            return Err(self.blame(step, LearnError::NonFinite { what }));
        }
        let path = self.folder(step);
        let bad = |e: String| LearnError::CheckpointMismatch { path: path.clone(), reason: e };
        let mut views = Vec::new();
        for (prefix, params) in tensors {
            for p in params.iter() {
                let view = TensorView::new(Dtype::F32, p.shape.clone(), bytemuck::cast_slice(&p.data));
                views.push((format!("{prefix}/{}", p.name), view.map_err(|e| bad(e.to_string()))?));
            }
        }
        let bytes = safetensors::serialize(views, None).map_err(|e| bad(e.to_string()))?;
        let state = StateOut { step, identity: &self.identity, state };
        let json = serde_json::to_vec_pretty(&state).map_err(|e| bad(e.to_string()))?;
        write_folder_atomic(&path, |dir| {
            write_atomic(&dir.join(TENSORS), &bytes)?;
            write_atomic(&dir.join(STATE), &json)
        })?;
        let all = self.list()?;
        for (_, old) in all.iter().rev().skip(KEPT).filter(|(step, _)| Some(*step) != self.best) {
            fs::remove_dir_all(old).map_err(LearnError::io(old))?;
        }
        Ok(())
    }

    /// The newest checkpoint, if there is any.
    ///
    /// # Errors
    /// When it belongs to another run, or can't be read.
    pub fn load_last<S: DeserializeOwned>(&self) -> Result<Option<Loaded<S>>, LearnError> {
        self.list()?.pop().map(|(_, path)| self.read(path)).transpose()
    }

    /// The checkpoint of one step.
    ///
    /// # Errors
    /// When it is gone, belongs to another run, or can't be read.
    pub fn load<S: DeserializeOwned>(&self, step: usize) -> Result<Loaded<S>, LearnError> {
        self.read(self.folder(step))
    }

    /// Whether there is one of this step.
    #[must_use]
    pub fn has(&self, step: usize) -> bool {
        self.folder(step).exists()
    }

    fn folder(&self, step: usize) -> PathBuf {
        self.dir.join(format!("step-{step:06}"))
    }

    fn read<S: DeserializeOwned>(&self, path: PathBuf) -> Result<Loaded<S>, LearnError> {
        let read = |name: &str| fs::read(path.join(name)).map_err(LearnError::io(path.join(name)));
        let json = read(STATE)?;
        let bad = |reason: String| LearnError::CheckpointMismatch { path: path.clone(), reason };
        let damaged =
            |e: serde_json::Error| bad(format!("it is damaged ({e}); remove it to go back to the one before"));
        // The identity first: another kind's state would fail to parse, with a less helpful message.
        let theirs = serde_json::from_slice::<IdentityIn>(&json).map_err(damaged)?.identity;
        if let Some(what) = self.identity.difference(&theirs) {
            return Err(bad(format!("it belongs to another run, which differs in {what}; start a new run instead")));
        }
        let StateIn { step, state } = serde_json::from_slice(&json).map_err(damaged)?;
        Ok(Loaded { step, state, tensors: read(TENSORS)?, path })
    }

    /// Completes the message about a number that isn't finite and that the weights after `step` gave. A checkpoint of those weights
    /// isn't good: it is removed, so that a resumed run goes on from the last good one. Other errors stay as they are.
    #[must_use]
    pub fn blame(&self, step: usize, error: LearnError) -> LearnError {
        let LearnError::NonFinite { what } = error else { return error };
        match self.remove(step).and_then(|()| self.list()) {
            Err(e) => e,
            Ok(good) => LearnError::NonFinite {
                what: match good.last() {
                    Some((step, _)) => format!("{what}, the last good checkpoint being step {step},"),
                    None => format!("{what}, without a good checkpoint before it,"),
                },
            },
        }
    }

    /// Removes a checkpoint, if it exists; half-removed it is out of sight already.
    fn remove(&self, step: usize) -> Result<(), LearnError> {
        let path = self.folder(step);
        if !self.has(step) {
            return Ok(());
        }
        let hidden = self.dir.join(".removed");
        let _ = fs::remove_dir_all(&hidden); // left by a killed process
        fs::rename(&path, &hidden).and_then(|()| fs::remove_dir_all(&hidden)).map_err(LearnError::io(&path))
    }

    /// All checkpoints, oldest first.
    fn list(&self) -> Result<Vec<(usize, PathBuf)>, LearnError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(LearnError::io(&self.dir))?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry.map_err(LearnError::io(&self.dir))?;
            let step = entry.file_name().to_string_lossy().strip_prefix("step-").and_then(|n| n.parse().ok());
            all.extend(step.map(|s| (s, entry.path())));
        }
        all.sort();
        Ok(all)
    }
}

impl<S> Loaded<S> {
    /// Puts the tensors that were saved under `prefix` into `params`, whose layout they must have.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn restore(&self, prefix: &str, params: &mut Params) -> Result<(), LearnError> {
        let bad = |reason: String| LearnError::CheckpointMismatch { path: self.path.clone(), reason };
        let file = SafeTensors::deserialize(&self.tensors).map_err(|e| bad(e.to_string()))?;
        for p in params.iter_mut() {
            let name = format!("{prefix}/{}", p.name);
            let view = file.tensor(&name).map_err(|_| bad(format!("it has no tensor {name}")))?;
            if view.shape() != p.shape || view.dtype() != Dtype::F32 {
                return Err(bad(format!("its tensor {name} has shape {:?}, not {:?}", view.shape(), p.shape)));
            }
            for (x, bytes) in p.data.iter_mut().zip(view.data().chunks_exact(4)) {
                *x = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let [kind, base, config, data, init] = ["sft", "b", "c", "d", "i"].map(str::to_owned);
        Identity { kind, base, config, data, init, seed: 1 }
    }

    fn params(x: f32) -> Params {
        let mut p = Params::new();
        p.push("w", vec![2], vec![x, -x]);
        p
    }

    #[test]
    fn the_newest_comes_back_and_two_are_kept() {
        let home = tempfile::tempdir().expect("temp dir");
        let all = Checkpoints::new(home.path(), identity());
        assert!(all.load_last::<u64>().expect("none yet").is_none());
        for step in 1..=3 {
            all.save(step, &(step * 10), &[("w", &params(step as f32)), ("m", &params(0.5))]).expect("saves");
        }
        let steps: Vec<usize> = all.list().expect("list").iter().map(|(s, _)| *s).collect();
        assert_eq!(steps, [2, 3]);
        let last = all.load_last::<usize>().expect("reads").expect("there");
        let mut w = params(0.0);
        last.restore("w", &mut w).expect("fits");
        assert_eq!((last.step, last.state, w), (3, 30, params(3.0)));
        assert!(last.restore("v", &mut params(0.0)).is_err(), "nothing was saved as v");
        all.clear().expect("clears");
        assert!(all.load_last::<u64>().expect("none left").is_none());
    }

    #[test]
    fn a_checkpoint_that_gives_numbers_that_are_not_finite_goes_and_the_one_before_is_named() {
        let home = tempfile::tempdir().expect("temp dir");
        let all = Checkpoints::new(home.path(), identity());
        (1..=2).for_each(|step| all.save(step, &0, &[("w", &params(1.0))]).expect("saves"));
        let seen = || LearnError::NonFinite { what: "the loss".into() };
        assert!(
            all.blame(3, seen()).to_string().contains("the last good checkpoint being step 2"),
            "3 was never written"
        );
        assert!(all.blame(2, seen()).to_string().contains("the last good checkpoint being step 1"));
        assert!(matches!(all.blame(1, LearnError::Stopped), LearnError::Stopped));
        assert_eq!(all.load_last::<u64>().expect("reads").expect("there").step, 1);
        assert!(all.blame(1, seen()).to_string().contains("without a good checkpoint"));
    }

    #[test]
    fn weights_that_are_not_finite_are_never_kept() {
        let home = tempfile::tempdir().expect("temp dir");
        let all = Checkpoints::new(home.path(), identity());
        all.save(1, &0, &[("w", &params(1.0))]).expect("saves");
        let refused = all.save(2, &0, &[("m", &params(0.0)), ("w", &params(f32::NAN))]).expect_err("not a number");
        assert!(refused.to_string().contains("\"w\" after step 2, the last good checkpoint being step 1"), "{refused}");
        assert_eq!(all.load_last::<u64>().expect("reads").expect("there").step, 1);
    }

    #[test]
    fn numbers_of_the_state_come_back_to_the_last_bit() {
        let home = tempfile::tempdir().expect("temp dir");
        // Parsed the fast way, one in ten or so of such numbers comes back as its neighbour.
        let state: Vec<f64> = (1..500).map(|i| (f64::from(i) * 0.618).sin().powi(5) / 3.0).collect();
        let all = Checkpoints::new(home.path(), identity());
        all.save(1, &state, &[]).expect("saves");
        let last = all.load_last::<Vec<f64>>().expect("reads").expect("there");
        assert!(last.state.iter().zip(&state).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    #[test]
    fn the_best_is_kept_however_old_it_is() {
        let home = tempfile::tempdir().expect("temp dir");
        let mut all = Checkpoints::new(home.path(), identity());
        let save =
            |all: &Checkpoints, step: usize| all.save(step, &step, &[("w", &params(step as f32))]).expect("saves");
        let steps = |all: &Checkpoints| all.list().expect("list").iter().map(|(s, _)| *s).collect::<Vec<_>>();
        all.keep_best(1);
        (1..=4).for_each(|step| save(&all, step));
        assert_eq!(steps(&all), [1, 3, 4]);
        let mut w = params(0.0);
        all.load::<usize>(1).expect("there").restore("w", &mut w).expect("fits");
        assert_eq!(w, params(1.0));
        all.keep_best(5);
        save(&all, 5);
        assert_eq!(steps(&all), [4, 5], "another one is the best now");
        assert!(all.load::<usize>(1).is_err());
    }

    #[test]
    fn a_checkpoint_of_another_run_is_refused_with_the_reason() {
        let home = tempfile::tempdir().expect("temp dir");
        Checkpoints::new(home.path(), identity()).save(1, &0, &[("w", &params(1.0))]).expect("saves");
        let reason = |change: fn(&mut Identity)| {
            let mut other = identity();
            change(&mut other);
            let error = Checkpoints::new(home.path(), other).load_last::<u64>().expect_err("refused");
            error.to_string()
        };
        assert!(reason(|i| i.data = "x".into()).contains("data set"));
        assert!(reason(|i| i.base = "x".into()).contains("base model"));
        assert!(reason(|i| i.config = "x".into()).contains("settings"));
        assert!(reason(|i| i.seed = 2).contains("seed"));
    }
}
