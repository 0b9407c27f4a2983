//! What a run of PPO keeps on disk so that nothing is lost: checkpoints between iterations, the rollout of the iteration under way,
//! and the best policy so far. Uses `checkpoint` and `files`.

use super::rollout::Episode;
use super::scale::Scale;
use crate::LearnError;
use crate::checkpoint::Identity;
use crate::files::write_atomic;
use crate::train::PpoConfig;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a checkpoint holds beside the tensors. Checkpoints lie between iterations; a rollout under way is in [`KeptRollout`].
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    pub(super) wall_seconds: f64,
    pub(super) rng: ChaCha8Rng,
    /// Prompts drawn so far: the data cursor.
    pub(super) prompts_drawn: usize,
    /// Examples of PPO-ptx drawn so far: its cursor.
    pub(super) ptx_drawn: usize,
    pub(super) kl_coef: f64,
    pub(super) policy_adam_step: u64,
    pub(super) value_adam_step: u64,
    /// Where a reward of 0 lies.
    pub(super) scale: Scale,
    /// Mean length of the first iteration's answers, tokens: what drift is measured from.
    pub(super) first_response_tokens: Option<f64>,
    /// The iteration (from 1) whose answers had the highest objective/rlhf_reward, and that figure.
    pub(super) best: Option<(usize, f64)>,
    /// KL went past `kl_stop_nats`: there is nothing left to do.
    pub(super) halted: bool,
    pub(super) metrics: BTreeMap<String, f64>,
}

impl State {
    /// Before the first iteration.
    pub(super) fn new(config: &PpoConfig, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(u64::MAX); // apart from the streams of weights and data orders
        Self {
            wall_seconds: 0.0,
            rng,
            prompts_drawn: 0,
            ptx_drawn: 0,
            kl_coef: config.kl_coef,
            policy_adam_step: 0,
            value_adam_step: 0,
            scale: Scale::default(),
            first_response_tokens: None,
            best: None,
            halted: false,
            metrics: BTreeMap::new(),
        }
    }
}

/// The rollout buffer: what an iteration drew and how it was judged, kept while it is learned from. Answering is the longest part of
/// an iteration on a CPU; a run that is killed in the update must not do it again.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptRollout {
    identity: Identity,
    /// Iterations that were done before it.
    pub(super) step: usize,
    /// As they were after drawing.
    pub(super) rng: ChaCha8Rng,
    pub(super) prompts_drawn: usize,
    pub(super) episodes: Vec<Episode>,
    /// How long answering and judging took.
    pub(super) seconds: (f64, f64),
}

/// The run's folder of checkpoints, for what lies beside them.
pub(super) struct Keeper {
    dir: PathBuf,
    identity: Identity,
}

impl Keeper {
    pub(super) fn new(run_dir: &Path, identity: Identity) -> Self {
        Self { dir: run_dir.join("checkpoints"), identity }
    }

    fn rollout_path(&self) -> PathBuf {
        self.dir.join("rollout.json")
    }

    /// The folder of the best policy.
    pub(super) fn best_dir(&self) -> PathBuf {
        self.dir.join("best")
    }

    /// Removes both: the run starts anew.
    pub(super) fn clear(&self) -> Result<(), LearnError> {
        let gone = |result: std::io::Result<()>, path: PathBuf| match result {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(LearnError::io(path)(e)),
            _ => Ok(()),
        };
        gone(fs::remove_file(self.rollout_path()), self.rollout_path())?;
        gone(fs::remove_dir_all(self.best_dir()), self.best_dir())
    }

    /// Writes the rollout of the iteration after `step`.
    pub(super) fn keep(
        &self,
        step: usize,
        state: &State,
        episodes: &[Episode],
        seconds: (f64, f64),
    ) -> Result<(), LearnError> {
        fs::create_dir_all(&self.dir).map_err(LearnError::io(&self.dir))?;
        let State { rng, prompts_drawn, .. } = state;
        let kept = KeptRollout {
            identity: self.identity.clone(),
            step,
            rng: rng.clone(),
            prompts_drawn: *prompts_drawn,
            episodes: episodes.to_vec(),
            seconds,
        };
        let json = serde_json::to_vec(&kept).map_err(|e| LearnError::BadData { reason: e.to_string() })?;
        write_atomic(&self.rollout_path(), &json)
    }

    /// The kept rollout, if it belongs to this run and to the iteration after `step`. One that can't be read is drawn again.
    pub(super) fn kept(&self, step: usize) -> Option<KeptRollout> {
        let json = fs::read(self.rollout_path()).ok()?;
        let kept: KeptRollout = serde_json::from_slice(&json).ok()?;
        (kept.identity == self.identity && kept.step == step).then_some(kept)
    }
}
