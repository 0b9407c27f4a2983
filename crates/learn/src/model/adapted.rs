//! An adapter's parameters, found once per training pass, or once per served policy, and laid out as the linears need them.

use super::weights::Model;
use super::{Base, ModelConfig};
use crate::backend::{Backend, Cpu, Placed};
use crate::kernels::linear::{Adapters, Part, PartGrads};
use crate::lora::{a_name, b_name, linear_shape};
use crate::{Adapter, LearnError, Params};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// The four matrices of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// q, k and v.
    Qkv,
    /// The output projection of attention.
    O,
    /// Gate and up.
    GateUp,
    /// The output projection of the feed-forward layer.
    Down,
}

/// Which targets lie in each matrix, one below the other, by [`Place`].
const STACKED: [&[&str]; 4] = [&["q_proj", "k_proj", "v_proj"], &["o_proj"], &["gate_proj", "up_proj"], &["down_proj"]];

/// The adapters of one block.
#[derive(Debug)]
pub(crate) struct LayerAdapters<'a, B: Backend> {
    layer: usize,
    linears: [Option<B::Adapters<'a>>; 4],
    targets: [Vec<&'static str>; 4],
}

/// The adapters of every block; `None` where a block has none.
pub(crate) type ModelAdapters<'a, B> = Vec<Option<LayerAdapters<'a, B>>>;

/// Gradients by parameter name.
pub(crate) type Slots<'a> = HashMap<&'a str, &'a mut [f32]>;

impl<'a, B: Backend> LayerAdapters<'a, B> {
    pub(crate) fn of(&self, at: Place) -> Option<&B::Adapters<'a>> {
        self.linears[at as usize].as_ref()
    }

    /// The gradients of one linear's adapters, taken out of `slots`.
    pub(crate) fn grads<'g>(&self, at: Place, slots: &mut Slots<'g>) -> Vec<PartGrads<'g, f32>> {
        let mut take = |name: String| slots.remove(name.as_str()).unwrap_or_else(|| panic!("no gradient for {name}"));
        let targets = &self.targets[at as usize];
        targets.iter().map(|t| PartGrads { da: take(a_name(self.layer, t)), db: take(b_name(self.layer, t)) }).collect()
    }
}

/// Finds every block's adapters; without an adapter no block has any.
///
/// # Errors
/// When the adapter was made for a model of another shape.
pub(crate) fn resolve<'a, B: Backend>(
    model: &Model<B>,
    adapter: Option<&'a Adapter>,
) -> Result<ModelAdapters<'a, B>, LearnError> {
    let layers = model.config.layers;
    let Some(adapter) = adapter else { return Ok((0..layers).map(|_| None).collect()) };
    (0..layers).map(|layer| resolve_layer(model, adapter, layer)).collect()
}

fn resolve_layer<'a, B: Backend>(
    model: &Model<B>,
    adapter: &'a Adapter,
    layer: usize,
) -> Result<Option<LayerAdapters<'a, B>>, LearnError> {
    let config: &ModelConfig = &model.config;
    let mut found = LayerAdapters { layer, linears: Default::default(), targets: Default::default() };
    let r = adapter.config.r;
    for (group, targets) in STACKED.iter().enumerate() {
        let (mut col, mut parts, mut all_a) = (0, Vec::new(), Vec::new());
        for target in *targets {
            let (out, ins) = linear_shape(config, target);
            let a = tensor(&adapter.params, a_name(layer, target), &[r, ins])?;
            let b = tensor(&adapter.params, b_name(layer, target), &[out, r])?;
            if let (Some(a), Some(b)) = (a, b) {
                all_a.push(a);
                parts.push(Part { col, out, b: Cow::Borrowed(b) });
                found.targets[group].push(target);
            }
            col += out;
        }
        if let Some(first) = all_a.first() {
            let a = if all_a.len() == 1 { Cow::Borrowed(*first) } else { Cow::Owned(all_a.concat()) };
            let adapters = Adapters { a, parts, r, scale: adapter.config.scale() };
            found.linears[group] = Some(model.on.adapters(adapters));
        }
    }
    Ok(found.linears.iter().any(Option::is_some).then_some(found))
}

/// A policy's adapter as passes of a server need it: laid out once, when the policy is loaded.
#[derive(Debug)]
pub struct Served {
    layers: Vec<[Option<Adapters<'static, f32>>; 4]>,
}

impl Served {
    /// Lays out an adapter for this base.
    ///
    /// # Errors
    /// When the adapter was made for a model of another shape, or the base is not in this machine's memory.
    pub fn new(base: &Base, adapter: &Adapter) -> Result<Self, LearnError> {
        let own = |placed: Vec<Placed<'_>>| placed.into_iter().next().map(|placed| placed.adapters.into_owned());
        let layers = resolve(base.host()?, Some(adapter))?.into_iter();
        let layers = layers.map(|layer| layer.map_or_else(Default::default, |l| l.linears.map(|of| of.and_then(own))));
        Ok(Self { layers: layers.collect() })
    }
}

/// The adapters of several policies, each for its rows of a pass, as one.
pub(crate) fn each_for_its_rows<'a>(layers: usize, policies: &[(Range<usize>, &'a Served)]) -> ModelAdapters<'a, Cpu> {
    let none = |layer| LayerAdapters { layer, linears: Default::default(), targets: Default::default() };
    let mut all: ModelAdapters<'a, Cpu> = (0..layers).map(|layer| Some(none(layer))).collect();
    for (rows, served) in policies {
        for (to, linears) in all.iter_mut().flatten().zip(&served.layers) {
            for (to, adapters) in to.linears.iter_mut().zip(linears) {
                let placed = adapters.iter().map(|a| Placed { rows: rows.clone(), adapters: a.borrowed() });
                placed.for_each(|placed| to.get_or_insert_default().push(placed));
            }
        }
    }
    all
}

fn tensor<'a>(params: &'a Params, name: String, shape: &[usize]) -> Result<Option<&'a [f32]>, LearnError> {
    match params.get(&name) {
        None => Ok(None),
        Some(p) if p.shape == shape => Ok(Some(&p.data)),
        Some(p) => Err(LearnError::ShapeMismatch { what: name, expected: shape.to_vec(), found: p.shape.clone() }),
    }
}
