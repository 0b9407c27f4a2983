//! Attention on the device, packed or over caches: which kernels run on which tiles.

use super::Cuda;
use super::device::{Arg, Buffer, Device, Memory};
use super::layout::{Layout, TileSize, small, tile_sizes};
use crate::backend::Attended;
use crate::kernels::attention::Heads;
use std::sync::Arc;

/// The heads as the kernels take them: heads, kv_heads, dim, window, scale.
fn arguments(heads: Heads) -> [Arg; 5] {
    let scale = 1.0 / (heads.dim as f32).sqrt();
    [heads.heads.into(), heads.kv_heads.into(), heads.dim.into(), heads.window.unwrap_or(0).into(), scale.into()]
}

fn size_arguments(size: TileSize) -> [Arg; 2] {
    [size.rows.into(), size.step.into()]
}

/// Where the keys of all sequences begin, the distance of two of them in floats, and the block of the model.
struct Keys {
    at: u64,
    stride: usize,
    block: usize,
}

/// Attention of a packed batch to itself.
pub(crate) fn forward(device: &Arc<Device>, heads: Heads, qkv: &Buffer, layout: &Layout, o: &Buffer, l: &Buffer) {
    let keys = Keys { at: qkv.from(heads.q_dim()), stride: heads.qkv_dim(), block: 0 };
    let places = device.memory_of(&layout.places);
    attend(device, heads, qkv, (layout, &places), &keys, (o, l));
}

fn attend(
    device: &Arc<Device>,
    heads: Heads,
    qkv: &Buffer,
    (layout, places): (&Layout, &Memory),
    keys: &Keys,
    (o, l): (&Buffer, &Buffer),
) {
    let (size, _) = tile_sizes(heads.dim);
    let (tiles, count) = layout.query_tiles(size.rows);
    let pad = heads.dim + 1;
    let shared = (size.rows + 2 * size.step) * pad + size.rows * (size.step + 3);
    let place = [qkv.into(), heads.qkv_dim().into(), keys.at.into(), keys.stride.into(), keys.block.into()];
    let args = [
        &place[..],
        &[places.into(), (&tiles).into()],
        &arguments(heads),
        &[o.into(), l.into()],
        &size_arguments(size),
    ];
    device.launch("attention", (count, heads.heads), shared, &args.concat());
}

/// Sets `dqkv`.
pub(crate) fn backward(
    device: &Arc<Device>,
    heads: Heads,
    kept: &Attended<'_, Cuda>,
    layout: &Layout,
    d_o: &Buffer,
    dqkv: &Buffer,
) {
    let rows: usize = layout.places.iter().map(|p| p.queries as usize).sum();
    let means = device.buffer(rows * heads.heads);
    let args = [kept.o.into(), d_o.into(), heads.heads.into(), heads.dim.into(), (&means).into()];
    device.launch("attention_means", (rows, 1), 0, &args);
    let (_, size) = tile_sizes(heads.dim);
    let shared = 2 * (size.rows + size.step) * (heads.dim + 1) + 2 * size.rows * size.step;
    let places = device.memory_of(&layout.places);
    let first = [kept.qkv.into(), heads.qkv_dim().into(), (&places).into()];
    let gradients = [kept.l.into(), (&means).into(), d_o.into(), dqkv.into()];
    let rest = [&arguments(heads)[..], &gradients, &size_arguments(size)].concat();
    let (tiles, count) = layout.query_tiles(size.rows);
    let args = [&first[..], &[(&tiles).into()], &rest].concat();
    device.launch("attention_dq", (count, heads.heads), shared, &args);
    let (tiles, count, users) = layout.key_tiles(size.step);
    let args = [&first[..], &[(&tiles).into(), (&users).into()], &rest].concat();
    device.launch("attention_dkdv", (count, heads.kv_heads), shared, &args);
}

/// The keys (after rotation) and values of one sequence: by block of the model rows of both, `(capacity, 2 kv_dim)`.
#[derive(Debug)]
pub(crate) struct Cache {
    memory: Memory,
    kv_dim: usize,
    /// Tokens for which there is room.
    capacity: usize,
    /// Tokens so far, by block.
    filled: Vec<usize>,
}

impl Cache {
    pub(crate) fn new(device: &Arc<Device>, blocks: usize, kv_dim: usize, capacity: usize) -> Self {
        let bytes = blocks * capacity * 2 * kv_dim * size_of::<f32>();
        Self { memory: device.memory(bytes), kv_dim, capacity, filled: vec![0; blocks] }
    }

    fn block_bytes(&self) -> usize {
        self.capacity * 2 * self.kv_dim * size_of::<f32>()
    }

    /// Makes room for `tokens` tokens.
    fn reserve(&mut self, device: &Arc<Device>, tokens: usize) {
        if tokens <= self.capacity {
            return;
        }
        let mut larger = Self::new(device, self.filled.len(), self.kv_dim, tokens.max(2 * self.capacity));
        for (block, &filled) in self.filled.iter().enumerate() {
            let bytes = filled * 2 * self.kv_dim * size_of::<f32>();
            larger.memory.copy_from(&self.memory, block * self.block_bytes(), block * larger.block_bytes(), bytes);
        }
        larger.filled.clone_from(&self.filled);
        *self = larger;
    }
}

/// Appends the batch's keys and values to the caches, and attends to all in them.
pub(crate) fn cached(
    device: &Arc<Device>,
    heads: Heads,
    block: usize,
    qkv: &Buffer,
    layout: &Layout,
    caches: &mut [&mut Cache],
    (o, l): (&Buffer, &Buffer),
) {
    let mut places = layout.places.clone();
    for (place, cache) in places.iter_mut().zip(caches) {
        let tokens = cache.filled[block] + place.queries as usize;
        cache.reserve(device, tokens);
        cache.filled[block] = tokens;
        (place.base, place.block_bytes) = (cache.memory.at(), cache.block_bytes() as u64);
        (place.key_row, place.own) = (0, small(tokens));
    }
    let places = device.memory_of(&places);
    let keys = Keys { at: 0, stride: 2 * heads.kv_dim(), block };
    let args = [
        qkv.into(),
        heads.qkv_dim().into(),
        heads.q_dim().into(),
        keys.at.into(),
        keys.block.into(),
        keys.stride.into(),
        (&places).into(),
        (&layout.sequence_of).into(),
    ];
    let rows = layout.places.iter().map(|p| p.queries as usize).sum();
    device.launch("cache_append", (rows, 1), 0, &args);
    attend(device, heads, qkv, (layout, &places), &keys, (o, l));
}
