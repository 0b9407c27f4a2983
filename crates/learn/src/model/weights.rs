//! The frozen base weights: read from safetensors (f32, bf16, f16; one file or shards), kept once, row-major, as f32 or in a smaller format.

use super::ModelConfig;
use crate::LearnError;
use crate::backend::{Backend, Cpu};
use crate::kernels::rope::RopeTable;
use crate::kernels::stored::{Format, Stored, checksum};
use memmap2::Mmap;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The weights of one block. Projections that share an input lie in one matrix, so that one product serves them.
#[derive(Debug)]
pub(crate) struct Layer<B: Backend> {
    /// RMSNorm before attention, `(hidden,)`.
    pub(crate) attention_norm: B::Buffer,
    /// q, k, v one below the other, `(q_dim + 2 kv_dim, hidden)`.
    pub(crate) qkv: B::Matrix,
    /// Their biases (Qwen2), `(q_dim + 2 kv_dim,)`.
    pub(crate) qkv_bias: Option<B::Buffer>,
    /// Output projection, `(hidden, q_dim)`.
    pub(crate) o: B::Matrix,
    /// RMSNorm before the feed-forward layer, `(hidden,)`.
    pub(crate) ffn_norm: B::Buffer,
    /// Gate and up one below the other, `(2 ffn, hidden)`.
    pub(crate) gate_up: B::Matrix,
    /// `(hidden, ffn)`.
    pub(crate) down: B::Matrix,
}

/// A model's frozen weights on one device.
#[derive(Debug)]
pub(crate) struct Model<B: Backend> {
    pub(crate) on: B,
    pub(crate) config: ModelConfig,
    pub(crate) embedding: B::Matrix,
    pub(crate) layers: Vec<Layer<B>>,
    pub(crate) final_norm: B::Buffer,
    /// `None` when the head is tied to the embedding.
    pub(crate) head: Option<B::Matrix>,
    pub(crate) rope: B::Rope,
}

impl<B: Backend> Model<B> {
    /// The output head's weight, `(vocab, hidden)`.
    pub(crate) fn head_weight(&self) -> &B::Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

impl Model<Cpu> {
    fn checksums(&self) -> Vec<u64> {
        let Self { on: _, config: _, embedding, layers, final_norm, head, rope: _ } = self;
        let of_layer = |l: &'_ Layer<Cpu>| {
            let Layer { attention_norm, qkv, qkv_bias, o, ffn_norm, gate_up, down } = l;
            let bias: &[f32] = qkv_bias.as_deref().unwrap_or_default();
            let plain = [attention_norm, bias, ffn_norm].map(checksum);
            let [qkv, o, gate_up, down] = [qkv, o, gate_up, down].map(Stored::checksum);
            [plain[0], qkv, plain[1], o, plain[2], gate_up, down]
        };
        let ends = [embedding.checksum(), checksum(final_norm), head.as_ref().map_or(0, Stored::checksum)];
        ends.into_iter().chain(layers.iter().flat_map(of_layer)).collect()
    }
}

/// Where the weights are.
#[derive(Debug)]
pub(crate) enum Weights {
    /// In this machine's memory.
    Host(Model<Cpu>),
    /// On a GPU, and [`Base::checksums`] from before.
    #[cfg(feature = "cuda")]
    Cuda(Model<crate::backend::cuda::Cuda>, Vec<u64>),
}

/// A frozen base model. Shared by reference or in an `Arc`: every role (policy, reference, value, reward) uses this one copy.
#[derive(Debug)]
pub struct Base {
    pub(crate) weights: Weights,
}

impl Base {
    /// Reads a Hugging Face folder.
    ///
    /// # Errors
    /// When a file is missing or damaged, a tensor does not fit `config.json`, or the architecture is not supported.
    pub fn open(dir: &Path) -> Result<Self, LearnError> {
        Self::open_as(dir, Format::F32)
    }

    /// The same, with the matrices kept in another number format; norms and biases stay f32.
    ///
    /// # Errors
    /// As [`Base::open`].
    pub fn open_as(dir: &Path, format: Format) -> Result<Self, LearnError> {
        Self::open_laid_out(dir, Some(format), Layout::Rows)
    }

    /// The same for serving: whatever is computed beside a token changes it in no bit. With `None` the matrices are kept as they were
    /// published where that loses nothing: bf16 stays bf16, everything else becomes f32. Training on it works, but is slower.
    ///
    /// # Errors
    /// As [`Base::open`].
    pub fn open_to_serve(dir: &Path, format: Option<Format>) -> Result<Self, LearnError> {
        Self::open_laid_out(dir, format, Layout::Panels)
    }

    fn open_laid_out(dir: &Path, format: Option<Format>, layout: Layout) -> Result<Self, LearnError> {
        let config = ModelConfig::open(dir)?;
        let files = WeightFiles::open(dir)?;
        let shards = files.parse()?;
        if !config.qkv_bias && shards.find("model.layers.0.self_attn.q_proj.bias").is_some() {
            return Err(LearnError::UnsupportedArchitecture {
                found: config.model_type,
                reason: "its attention has biases, which only Qwen2's may".into(),
            });
        }
        let published = || if shards.matrices_are(Dtype::BF16) { Format::Bf16 } else { Format::F32 };
        let keep = Keep { format: format.unwrap_or_else(published), layout };
        Self::load(config, keep, &|name, shape| {
            let values = shards.load(dir, name, shape);
            files.forget();
            values
        })
    }

    /// A base of random weights in memory, for measurements: `config_json` is the text of a `config.json`.
    ///
    /// # Errors
    /// When the text names no architecture of the family.
    pub fn random(config_json: &str, rng: &mut ChaCha8Rng) -> Result<Self, LearnError> {
        let config = ModelConfig::parse(config_json, Path::new("config.json"))?;
        let rng = std::cell::RefCell::new(rng);
        Self::load(config, Keep { format: Format::F32, layout: Layout::Rows }, &|_, shape| {
            let bound = (3.0 / *shape.last().unwrap_or(&1) as f32).sqrt(); // variance 1 / fan-in
            let mut rng = rng.borrow_mut();
            Ok((0..shape.iter().product()).map(|_| rng.random_range(-bound..bound)).collect())
        })
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        match &self.weights {
            Weights::Host(model) => &model.config,
            #[cfg(feature = "cuda")]
            Weights::Cuda(model, _) => &model.config,
        }
    }

    /// The weights in this machine's memory.
    ///
    /// # Errors
    /// When they are on a GPU.
    pub(crate) fn host(&self) -> Result<&Model<Cpu>, LearnError> {
        match &self.weights {
            Weights::Host(model) => Ok(model),
            #[cfg(feature = "cuda")]
            Weights::Cuda(model, _) => {
                let reason = "it trains and rolls out; a session serves from a model in the machine's own memory";
                Err(LearnError::Device { device: model.on.name().to_owned(), reason: reason.into() })
            }
        }
    }

    /// A number for each tensor that changes with any of its values.
    pub(crate) fn checksums(&self) -> Vec<u64> {
        match &self.weights {
            Weights::Host(model) => model.checksums(),
            #[cfg(feature = "cuda")]
            Weights::Cuda(_, checksums) => checksums.clone(),
        }
    }

    fn load(config: ModelConfig, keep: Keep, load: &Load<'_>) -> Result<Self, LearnError> {
        let (h, v) = (config.hidden, config.vocab);
        let layers = (0..config.layers)
            .map(|i| Layer::load(&config, keep, &|name, shape| load(&format!("model.layers.{i}.{name}"), shape)))
            .collect::<Result<Vec<_>, _>>()?;
        let model = Model {
            on: Cpu,
            embedding: keep.matrix(load("model.embed_tokens.weight", &[v, h])?, h)?,
            layers,
            final_norm: load("model.norm.weight", &[h])?,
            head: if config.tied_embeddings { None } else { Some(keep.matrix(load("lm_head.weight", &[v, h])?, h)?) },
            rope: RopeTable::new(&config.rope_frequencies(), config.context),
            config,
        };
        Ok(Self { weights: Weights::Host(model) })
    }
}

/// How matrices lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Row after row, for both directions of a training pass.
    Rows,
    /// In panels, for serving.
    Panels,
}

/// How matrices are kept.
#[derive(Debug, Clone, Copy)]
struct Keep {
    format: Format,
    layout: Layout,
}

impl Keep {
    /// A matrix of rows of `cols` values.
    fn matrix(self, values: Vec<f32>, cols: usize) -> Result<Stored, LearnError> {
        let stored = Stored::new(values, cols, self.format);
        match self.layout {
            Layout::Rows => Ok(stored),
            Layout::Panels => stored.packed(cols).map_err(|source| LearnError::NoMemory { source }),
        }
    }
}

type Load<'a> = dyn Fn(&str, &[usize]) -> Result<Vec<f32>, LearnError> + 'a;

impl Layer<Cpu> {
    fn load(c: &ModelConfig, keep: Keep, load: &Load<'_>) -> Result<Self, LearnError> {
        let (h, q, kv) = (c.hidden, c.q_dim(), c.kv_dim());
        let stack = |parts: &[(&str, Vec<usize>)]| -> Result<Vec<f32>, LearnError> {
            let mut all = Vec::with_capacity(parts.iter().map(|(_, s)| s.iter().product::<usize>()).sum());
            for (name, shape) in parts {
                all.extend_from_slice(&load(name, shape)?);
            }
            Ok(all)
        };
        let matrix = |parts: &[(&str, Vec<usize>)]| keep.matrix(stack(parts)?, parts[0].1[1]);
        let qkv_bias = if c.qkv_bias {
            let parts = [
                ("self_attn.q_proj.bias", vec![q]),
                ("self_attn.k_proj.bias", vec![kv]),
                ("self_attn.v_proj.bias", vec![kv]),
            ];
            Some(stack(&parts)?)
        } else {
            None
        };
        Ok(Self {
            attention_norm: load("input_layernorm.weight", &[h])?,
            qkv: matrix(&[
                ("self_attn.q_proj.weight", vec![q, h]),
                ("self_attn.k_proj.weight", vec![kv, h]),
                ("self_attn.v_proj.weight", vec![kv, h]),
            ])?,
            qkv_bias,
            o: matrix(&[("self_attn.o_proj.weight", vec![h, q])])?,
            ffn_norm: load("post_attention_layernorm.weight", &[h])?,
            gate_up: matrix(&[("mlp.gate_proj.weight", vec![c.ffn, h]), ("mlp.up_proj.weight", vec![c.ffn, h])])?,
            down: matrix(&[("mlp.down_proj.weight", vec![h, c.ffn])])?,
        })
    }
}

/// The mapped safetensors files of a model folder.
pub(crate) struct WeightFiles {
    files: Vec<(PathBuf, Mmap)>,
}

impl WeightFiles {
    /// Maps `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    pub(crate) fn open(dir: &Path) -> Result<Self, LearnError> {
        let index = dir.join("model.safetensors.index.json");
        let single = dir.join("model.safetensors");
        let paths = if single.exists() || !index.exists() { vec![single] } else { shard_paths(dir, &index)? };
        let map = |path: PathBuf| {
            let file = File::open(&path).map_err(LearnError::io(&path))?;
            // SAFETY: the file is only read; hone never changes a weight file in place (new ones are renamed into place), so
            // the mapping does not change under us.
            #[allow(unsafe_code)]
            let map = unsafe { Mmap::map(&file) }.map_err(LearnError::io(&path))?;
            Ok((path, map))
        };
        Ok(Self { files: paths.into_iter().map(map).collect::<Result<_, LearnError>>()? })
    }

    /// Gives back the memory of what was read so far; it is read again where it is needed again.
    fn forget(&self) {
        #[cfg(unix)]
        for (_, map) in &self.files {
            // SAFETY: the mapping is of a file and never written to, so its pages come back as they were.
            #[allow(unsafe_code)]
            let forgotten = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            if let Err(error) = forgotten {
                tracing::debug!(%error, "the pages of a weight file stay in memory while it is read");
            }
        }
    }

    /// Reads the headers.
    pub(crate) fn parse(&self) -> Result<Shards<'_>, LearnError> {
        let parse = |(path, map): &'_ (PathBuf, Mmap)| -> Result<(), LearnError> {
            let reason = |e| format!("its safetensors header is damaged ({e}); import the model again");
            SafeTensors::read_metadata(map)
                .map(|_| ())
                .map_err(|e| LearnError::BadModel { path: path.clone(), reason: reason(e) })
        };
        self.files.iter().try_for_each(parse)?;
        let tensors = self.files.iter().filter_map(|(_, map)| SafeTensors::deserialize(map).ok()).collect();
        Ok(Shards { tensors })
    }
}

fn shard_paths(dir: &Path, index: &Path) -> Result<Vec<PathBuf>, LearnError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(index).map_err(LearnError::io(index))?;
    let parsed: Index = serde_json::from_str(&text).map_err(|e| LearnError::BadModel {
        path: index.to_path_buf(),
        reason: format!("it is not a shard index: {e}"),
    })?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    // A shard is a file of this folder; a name that leads elsewhere is not followed.
    let outside = names.iter().find(|n| Path::new(n).file_name() != Some(n.as_ref()));
    match outside {
        Some(name) => Err(LearnError::BadModel {
            path: index.to_path_buf(),
            reason: format!("the shard {name} lies outside of the model folder"),
        }),
        None => Ok(names.into_iter().map(|n| dir.join(n)).collect()),
    }
}

/// The tensors of all files of a model.
pub(crate) struct Shards<'a> {
    tensors: Vec<SafeTensors<'a>>,
}

impl<'a> Shards<'a> {
    pub(crate) fn find(&self, name: &str) -> Option<TensorView<'a>> {
        self.tensors.iter().find_map(|t| t.tensor(name).ok())
    }

    /// Every tensor's name, sorted.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.tensors.iter().flat_map(|t| t.names()).map(ToOwned::to_owned).collect()
    }

    /// Whether all matrices are of this type.
    fn matrices_are(&self, dtype: Dtype) -> bool {
        let tensors = self.tensors.iter().flat_map(SafeTensors::tensors);
        tensors.filter(|(_, view)| view.shape().len() == 2).all(|(_, view)| view.dtype() == dtype)
    }

    fn load(&self, dir: &Path, name: &str, shape: &[usize]) -> Result<Vec<f32>, LearnError> {
        let bad = |reason: String| LearnError::BadModel { path: dir.to_path_buf(), reason };
        let view =
            self.find(name).ok_or_else(|| bad(format!("the tensor {name} is missing; import the model again")))?;
        if view.shape() != shape {
            let what = format!("{name} in {}", dir.display());
            return Err(LearnError::ShapeMismatch { what, expected: shape.to_vec(), found: view.shape().to_vec() });
        }
        to_f32(&view).map_err(bad)
    }
}

/// The values of a tensor as f32.
///
/// # Errors
/// When its type is not f32, bf16 or f16.
pub(crate) fn to_f32(view: &TensorView<'_>) -> Result<Vec<f32>, String> {
    let data = view.data();
    let pairs = || data.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match view.dtype() {
        Dtype::F32 => Ok(data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
        Dtype::BF16 => Ok(pairs().map(|bits| half::bf16::from_bits(bits).to_f32()).collect()),
        Dtype::F16 => Ok(pairs().map(|bits| half::f16::from_bits(bits).to_f32()).collect()),
        other => Err(format!("weights of type {other:?} can't be read; convert them to F32, BF16 or F16")),
    }
}
