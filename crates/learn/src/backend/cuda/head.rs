//! Selected log-probs on the device; the equations stand in `head`.

use super::Cuda;
use super::driver::THREADS;
use crate::kernels::matmul::Out;
use crate::model::Model;

/// Logits at once: 128 MB.
const CHUNK_VALUES: usize = 1 << 25;

/// What a row's pass over the vocabulary leaves, as `kernels.cu` keeps it: top, sum, weighted, target, rescale. NaN where the device
/// has failed.
pub(crate) type State = [f32; 5];

/// `x` is `(rows, hidden)`, `slope` likewise and set.
pub(crate) fn pass(
    model: &Model<Cuda>,
    x: &[f32],
    targets: &[u32],
    temperature: f32,
    slope: Option<&mut [f32]>,
) -> Vec<State> {
    let (device, matrix) = (&model.on.0, model.head_weight());
    let (rows, h, vocab) = (targets.len(), model.config.hidden, model.config.vocab);
    let targets: Vec<i32> = targets.iter().map(|&t| t.cast_signed()).collect();
    let (x, on_device) = (device.buffer_of(x), device.memory_of(&targets));
    let narrow = matrix.meeting(device, x.at(), rows * h);
    let from = matrix.column(narrow.as_ref(), x.at(), 0);
    let state = device.buffer(rows * 5);
    state.memory.zero(state.bytes());
    let chunk = (CHUNK_VALUES / rows.max(1)).clamp(1024, vocab.max(1024)).min(vocab);
    let (logits, d_x) = (device.buffer(rows * chunk), device.buffer(slope.as_ref().map_or(0, |_| rows * h)));
    d_x.memory.zero(d_x.bytes());
    for first in (0..vocab).step_by(chunk) {
        let n = chunk.min(vocab - first);
        matrix.pieces(device, first, first + n, |piece| {
            let to = (logits.from(piece.first - first), n);
            matrix.times(device, (from, rows), &piece, 1.0 / temperature, Out::Set, to);
        });
        let args = [(&logits).into(), n.into(), first.into(), (&on_device).into(), (&state).into()];
        device.launch("vocabulary_chunk", (rows, 1), THREADS as usize, &args);
        if slope.is_some() {
            let args = [(&d_x).into(), h.into(), state.from(4).into(), 5usize.into()];
            device.launch("scale_rows", (rows, 1), 0, &args);
            let narrow = matrix.meeting(device, logits.at(), rows * n);
            matrix.pieces(device, first, first + n, |piece| {
                let column = matrix.column(narrow.as_ref(), logits.at(), piece.first - first);
                matrix.back(device, (column, n), rows, &piece, Out::Add, d_x.at());
            });
        }
    }
    if let Some(slope) = slope {
        let mut rows_of_targets = device.buffer(rows * h);
        matrix.gather(device, &targets, &mut rows_of_targets);
        let args = [(&d_x).into(), h.into(), (&state).into(), (&rows_of_targets).into(), temperature.into()];
        device.launch("slope_end", (rows, 1), 0, &args);
        slope.copy_from_slice(&d_x.values());
    }
    state.values().chunks_exact(5).map(|s| [s[0], s[1], s[2], s[3], s[4]]).collect()
}
