//! How a batch lies, in the device's memory: what the attention kernels need to know of each sequence and tile.

use super::device::{Device, Memory};
use crate::backend::Lay;
use std::sync::Arc;

/// A sequence as the kernels see it; `Sequence` in kernels.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
pub(crate) struct Place {
    /// Where its keys begin, from where the keys of all do.
    pub(crate) base: u64,
    /// The distance of two blocks of the model in its keys.
    pub(crate) block_bytes: u64,
    pub(crate) query_row: i32,
    pub(crate) queries: i32,
    /// The row of its own first key.
    pub(crate) key_row: i32,
    pub(crate) own: i32,
    pub(crate) prefix_row: i32,
    pub(crate) prefix: i32,
}

/// Rows of a tile, and keys that are looked at together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileSize {
    pub(crate) rows: usize,
    pub(crate) step: usize,
}

/// The widest head that the kernels have room for.
pub(crate) const DIM_MAX: usize = 256;

/// Tiles of the forward and of the backward kernels. Shared memory holds 12,288 floats on every GPU, and a thread keeps 16 values of
/// a tile's result, so that a tile has at most 2,048.
pub(crate) fn tile_sizes(dim: usize) -> (TileSize, TileSize) {
    if dim <= DIM_MAX / 2 {
        (TileSize { rows: 16, step: 32 }, TileSize { rows: 16, step: 16 })
    } else {
        (TileSize { rows: 8, step: 16 }, TileSize { rows: 8, step: 8 })
    }
}

/// A packed batch on the device.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) positions: Memory,
    pub(crate) places: Vec<Place>,
    /// The sequence of each row, `(tokens,)`.
    pub(crate) sequence_of: Memory,
    device: Arc<Device>,
    prefixes: Vec<Option<usize>>,
}

impl Layout {
    pub(crate) fn new(device: &Arc<Device>, lay: Lay<'_>) -> Self {
        let starts = lay.packing.starts;
        let len = |s: usize| small(starts[s + 1] - starts[s]);
        let place = |(s, prefix): (usize, &Option<usize>)| Place {
            base: 0,
            block_bytes: 0,
            query_row: small(starts[s]),
            queries: len(s),
            key_row: small(starts[s]),
            own: len(s),
            prefix_row: prefix.map_or(0, |p| small(starts[p])),
            prefix: prefix.map_or(0, len),
        };
        let prefixes = lay.packing.prefixes.to_vec();
        let places: Vec<Place> = prefixes.iter().enumerate().map(place).collect();
        let rows = |(s, place): (usize, &Place)| std::iter::repeat_n(small(s), place.queries as usize);
        let sequence_of: Vec<i32> = places.iter().enumerate().flat_map(rows).collect();
        let positions: Vec<i32> = lay.positions.iter().map(|&p| small(p)).collect();
        Self {
            positions: device.memory_of(&positions),
            sequence_of: device.memory_of(&sequence_of),
            places,
            device: device.clone(),
            prefixes,
        }
    }

    /// Tiles of `rows` queries: (sequence, first row); and their number.
    pub(crate) fn query_tiles(&self, rows: usize) -> (Memory, usize) {
        let tiles: Vec<[i32; 2]> = (0..)
            .zip(&self.places)
            .flat_map(|(s, p)| (p.query_row..p.query_row + p.queries).step_by(rows).map(move |row| [s, row]))
            .collect();
        (self.device.memory_of(&tiles), tiles.len())
    }

    /// Tiles of `step` own keys: (sequence, first key, first user, end of users); their number; and the users.
    pub(crate) fn key_tiles(&self, step: usize) -> (Memory, usize, Memory) {
        let (mut tiles, mut users): (Vec<[i32; 4]>, Vec<i32>) = (Vec::new(), Vec::new());
        for (s, place) in self.places.iter().enumerate() {
            let first = small(users.len());
            users.push(small(s));
            users.extend((0..).zip(&self.prefixes).filter(|(_, prefix)| **prefix == Some(s)).map(|(u, _)| u));
            let end = small(users.len());
            tiles.extend((0..place.own).step_by(step).map(|key| [small(s), key, first, end]));
        }
        (self.device.memory_of(&tiles), tiles.len(), self.device.memory_of(&users))
    }
}

/// Rows of a batch, far below 2^31.
pub(crate) fn small(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
