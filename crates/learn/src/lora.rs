//! LoRA adapters: their settings, their parameters by PEFT name, and their PEFT folder on disk. No arithmetic on activations.

use crate::files::{write_atomic, write_folder_atomic};
use crate::model::ModelConfig;
use crate::{LearnError, Params, peft};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::path::Path;

/// The linears of a block that can carry an adapter, in the order in which parameters are kept.
pub const TARGETS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// The name of the scalar head's weight, `[1, hidden]`; of an ensemble's n heads `[n, hidden]`.
pub const SCORE_WEIGHT: &str = "score.weight";

/// PEFT writes `modules_to_save` under this prefix; read as well as the plain name.
const PEFT_PREFIX: &str = "base_model.model.";

/// Settings of a low-rank adapter: `y = x W^T + (alpha / r) (x A^T) B^T` (Hu et al. 2021, arXiv 2106.09685).
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// The rank.
    pub r: usize,
    /// The scale is `alpha / r`.
    pub alpha: f32,
    /// Which linears carry an adapter; names from [`TARGETS`].
    pub targets: Vec<String>,
    /// The first block that carries adapters; the blocks below it are frozen.
    pub layers: usize,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { r: 16, alpha: 32.0, targets: TARGETS.map(str::to_owned).to_vec(), layers: 0 }
    }
}

impl LoraConfig {
    /// `alpha / r`.
    pub fn scale(&self) -> f32 {
        self.alpha / self.r as f32
    }

    fn check(&self, model: &ModelConfig) -> Result<(), LearnError> {
        let bad = |name: &str, reason: String| Err(LearnError::BadConfig { name: name.into(), reason });
        if self.r == 0 || !self.alpha.is_finite() {
            return bad("lora.r", "the rank must be at least 1 and alpha finite".into());
        }
        if let Some(unknown) = self.targets.iter().find(|t| !TARGETS.contains(&t.as_str())) {
            return bad("lora.targets", format!("{unknown} is not one of {}", TARGETS.join(", ")));
        }
        if self.targets.is_empty() || self.layers >= model.layers {
            return bad("lora.layers", format!("no linear of the model's {} blocks would be trained", model.layers));
        }
        Ok(())
    }
}

/// The PEFT path of a linear in a block, without `.lora_A.weight`.
pub fn peft_path(layer: usize, target: &str) -> String {
    let part = if matches!(target, "q_proj" | "k_proj" | "v_proj" | "o_proj") { "self_attn" } else { "mlp" };
    format!("{PEFT_PREFIX}model.layers.{layer}.{part}.{target}")
}

/// The name of an adapter's first matrix, `[r, in]`.
pub fn a_name(layer: usize, target: &str) -> String {
    format!("{}.lora_A.weight", peft_path(layer, target))
}

/// The name of an adapter's second matrix, `[out, r]`.
pub fn b_name(layer: usize, target: &str) -> String {
    format!("{}.lora_B.weight", peft_path(layer, target))
}

/// `(out, in)` of a linear.
pub fn linear_shape(model: &ModelConfig, target: &str) -> (usize, usize) {
    match target {
        "q_proj" => (model.q_dim(), model.hidden),
        "k_proj" | "v_proj" => (model.kv_dim(), model.hidden),
        "o_proj" => (model.hidden, model.q_dim()),
        "gate_proj" | "up_proj" => (model.ffn, model.hidden),
        _ => (model.hidden, model.ffn),
    }
}

/// Trainable parameters on top of a frozen base: LoRA matrices, and for a reward or value model a scalar head.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// Rank, scale and targets.
    pub config: LoraConfig,
    /// The matrices by PEFT name, and optionally [`SCORE_WEIGHT`].
    pub params: Params,
}

impl Adapter {
    /// A fresh adapter that changes nothing: A is uniform in `±1/sqrt(in)` (Kaiming with a = sqrt 5, as PEFT), B and the
    /// scalar head are zero.
    ///
    /// # Errors
    /// When the settings don't fit the model.
    pub fn new(
        model: &ModelConfig,
        mut config: LoraConfig,
        with_score_head: bool,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self, LearnError> {
        config.check(model)?;
        config.targets.sort_by_key(|t| TARGETS.iter().position(|x| x == t)); // one order, whoever wrote the list
        config.targets.dedup();
        let mut params = Params::new();
        for layer in config.layers..model.layers {
            for target in &config.targets {
                let (out, inputs) = linear_shape(model, target);
                let bound = 1.0 / (inputs as f32).sqrt();
                let a = (0..config.r * inputs).map(|_| rng.random_range(-bound..bound)).collect();
                params.push(a_name(layer, target), vec![config.r, inputs], a);
                params.push(b_name(layer, target), vec![out, config.r], vec![0.0; out * config.r]);
            }
        }
        if with_score_head {
            params.push(SCORE_WEIGHT, vec![1, model.hidden], vec![0.0; model.hidden]);
        }
        Ok(Self { config, params })
    }

    /// The first block that it touches; the number of blocks where it touches none.
    pub fn first_block(&self, model: &ModelConfig) -> usize {
        let touched = |layer: &usize| TARGETS.iter().any(|t| self.params.get(&a_name(*layer, t)).is_some());
        (0..model.layers).find(touched).unwrap_or(model.layers)
    }

    /// The scalar head's weight, `(hidden,)`, or that of n heads, `(n, hidden)`, when there is one.
    pub fn score_weight(&self) -> Option<&[f32]> {
        self.params.get(SCORE_WEIGHT).map(|p| p.data.as_slice())
    }

    /// Reads a PEFT folder and checks it against the model.
    ///
    /// # Errors
    /// When a file is missing or damaged, or a tensor does not fit the model.
    pub fn load(dir: &Path, model: &ModelConfig) -> Result<Self, LearnError> {
        let mut config = peft::read_config(dir)?;
        let path = dir.join("adapter_model.safetensors");
        let bytes = std::fs::read(&path).map_err(LearnError::io(&path))?;
        let bad = |reason: String| LearnError::BadAdapter { path: path.clone(), reason };
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| bad(format!("{e}; copy it again")))?;
        let mut params = Params::new();
        config.layers = model.layers;
        let mut take = |name: String, shape: Vec<usize>| -> Result<bool, LearnError> {
            let Ok(view) = tensors.tensor(&name).or_else(|_| tensors.tensor(&format!("{PEFT_PREFIX}{name}"))) else {
                return Ok(false);
            };
            if view.shape() != shape {
                return Err(LearnError::ShapeMismatch { what: name, expected: shape, found: view.shape().to_vec() });
            }
            params.push(name, shape, crate::model::to_f32(&view).map_err(&bad)?);
            Ok(true)
        };
        let (mut taken, mut found) = (0, [false; TARGETS.len()]);
        for layer in 0..model.layers {
            for (at, target) in TARGETS.into_iter().enumerate() {
                let (out, inputs) = linear_shape(model, target);
                let a = take(a_name(layer, target), vec![config.r, inputs])?;
                if a != take(b_name(layer, target), vec![out, config.r])? {
                    return Err(bad(format!("{} has only one of lora_A and lora_B", peft_path(layer, target))));
                }
                if a {
                    config.layers = config.layers.min(layer);
                    found[at] = true;
                    taken += 2;
                }
            }
        }
        let score = tensors.tensor(SCORE_WEIGHT).or_else(|_| tensors.tensor(&format!("{PEFT_PREFIX}{SCORE_WEIGHT}")));
        let heads = score.ok().and_then(|view| view.shape().first().copied()).unwrap_or_default().max(1);
        taken += usize::from(take(SCORE_WEIGHT.to_owned(), vec![heads, model.hidden])?);
        if taken != tensors.len() {
            let is_strange = |name: &&str| {
                let plain = name.strip_prefix(PEFT_PREFIX).unwrap_or(name);
                params.get(name).is_none() && params.get(plain).is_none()
            };
            let stranger = tensors.names().into_iter().find(is_strange).unwrap_or_default().to_owned();
            let n = tensors.len();
            return Err(bad(format!("only {taken} of its {n} tensors belong to this base model; {stranger} doesn't")));
        }
        config.targets = TARGETS.iter().zip(found).filter(|(_, f)| *f).map(|(t, _)| (*t).to_owned()).collect();
        config.check(model)?;
        Ok(Self { config, params })
    }

    /// The blocks that carry matrices.
    fn blocks(&self) -> Vec<usize> {
        let carries = |layer: &usize| self.config.targets.iter().any(|t| self.params.get(&a_name(*layer, t)).is_some());
        (self.config.layers..).take_while(carries).collect()
    }

    /// Writes a PEFT folder, atomically; `base` is what other software will look for as the base model: a folder or a name.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn save(&self, dir: &Path, base: &str) -> Result<(), LearnError> {
        let bad =
            |e: safetensors::SafeTensorError| LearnError::BadAdapter { path: dir.to_path_buf(), reason: e.to_string() };
        let views = self
            .params
            .iter()
            .map(|p| {
                let view = TensorView::new(Dtype::F32, p.shape.clone(), bytemuck::cast_slice(&p.data)).map_err(bad)?;
                Ok((p.name.as_str(), view))
            })
            .collect::<Result<Vec<_>, LearnError>>()?;
        let bytes =
            safetensors::serialize(views, Some([("format".to_owned(), "pt".to_owned())].into())).map_err(bad)?;
        write_folder_atomic(dir, |d| {
            write_atomic(&d.join("adapter_model.safetensors"), &bytes)?;
            peft::write_config(d, &self.config, &self.blocks(), base)
        })
    }
}
