//! The model against PyTorch: logits, log-probs, entropies and gradients of tiny models of each family, made by `golden/make.py`.

use hone_learn::{Adapter, Base, Batch, Keep, Params, Workspace, backward, forward, head};
use safetensors::SafeTensors;
use std::path::Path;

/// As in `golden/make.py`.
const TEMPERATURE: f32 = 0.7;
const SEQUENCES: [&[u32]; 2] = [&[1, 5, 9, 33, 2, 2, 17], &[4, 39, 0, 8, 8]];

struct Golden {
    base: Base,
    adapter: Adapter,
    expected: Vec<u8>,
}

impl Golden {
    fn open(name: &str) -> Self {
        // Cargo runs tests in the package's folder. A path that is compiled in may be another clone's, if they share a target.
        let dir = Path::new("tests/golden").join(name);
        let base = Base::open(&dir).expect("base");
        let adapter = Adapter::load(&dir, base.config()).expect("adapter");
        Self { base, adapter, expected: std::fs::read(dir.join("expected.safetensors")).expect("expected") }
    }

    fn get(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.expected).expect("safetensors");
        let data = tensors.tensor(name).expect(name).data().to_vec();
        data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    /// Both sequences' values, one after the other.
    fn both(&self, name: &str) -> Vec<f32> {
        (0..2).flat_map(|i| self.get(&format!("{name}.{i}"))).collect()
    }
}

fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{what}[{i}]: {a} is not {b}");
    }
}

/// Rows that predict a following token, and those tokens.
fn next_tokens(batch: &Batch) -> (Vec<usize>, Vec<u32>) {
    let rows: Vec<usize> = (0..batch.sequences()).flat_map(|s| batch.range(s).take(batch.range(s).len() - 1)).collect();
    let targets = rows.iter().map(|r| batch.tokens[r + 1]).collect();
    (rows, targets)
}

fn check(name: &str, keep: Keep) {
    let g = Golden::open(name);
    let (batch, mut ws) = (Batch::pack(&SEQUENCES), Workspace::new());
    let hidden = forward(&g.base, Some(&g.adapter), &batch, keep, &mut ws).expect("forward");
    assert_close("hidden", &hidden, &g.both("hidden"), 1e-4);

    let (rows, targets) = next_tokens(&batch);
    let (found, slope) = head::selected_logprobs_with_slope(&g.base, &hidden, &rows, &targets, TEMPERATURE);
    assert_close("logprobs", &found.logprob, &g.both("logprobs"), 1e-4);
    assert_close("entropy", &found.entropy, &g.both("entropy"), 1e-4);

    let last: Vec<usize> = (0..batch.sequences()).map(|s| batch.range(s).end - 1).collect();
    let weight = g.adapter.score_weight().expect("score head");
    assert_close("score", &head::scores(&hidden, &last, weight), &g.both("score"), 1e-4);

    let mut grads = g.adapter.params.zeros_like();
    let (mut d_hidden, mut d_weight) = (vec![0.0; hidden.len()], vec![0.0; weight.len()]);
    head::add_slope(&slope, &rows, &g.both("weight"), &mut d_hidden);
    head::scores_backward(&hidden, &last, weight, &[0.3, 0.3], &mut d_hidden, &mut d_weight);
    backward(&g.base, &g.adapter, &batch, &mut ws, &d_hidden, &mut grads).expect("backward");
    grads.get_mut("score.weight").expect("score").data.copy_from_slice(&d_weight);
    check_gradients(&g, &grads);
}

fn check_gradients(g: &Golden, grads: &Params) {
    assert_eq!(grads.len(), 2 * 7 * 2 + 1);
    for p in grads.iter() {
        let expected = g.get(&format!("grad.{}", p.name));
        assert!(expected.iter().any(|x| x.abs() > 1e-3), "{}: a gradient of zero proves nothing", p.name);
        assert_close(&p.name, &p.data, &expected, 1e-4);
    }
}

#[test]
fn llama_with_stretched_rope_and_its_own_head_width() {
    check("llama", Keep::Activations);
    check("llama", Keep::Recompute);
}

#[test]
fn qwen2_with_biases_a_tied_head_and_bf16_shards() {
    check("qwen2", Keep::Activations);
    check("qwen2", Keep::Recompute);
}

#[test]
fn llama_with_divided_rope_and_a_tied_head() {
    check("llama_linear", Keep::Activations);
    check("llama_linear", Keep::Recompute);
}

#[test]
fn mistral_with_its_own_head_width() {
    check("mistral", Keep::Activations);
    check("mistral", Keep::Recompute);
}

#[test]
fn windows_that_are_shorter_than_the_sequence_in_every_block_or_in_the_upper_one() {
    for name in ["mistral_window", "qwen2_window"] {
        check(name, Keep::Activations);
        check(name, Keep::Recompute);
    }
}

#[test]
fn logits_of_a_session() {
    for name in ["llama", "llama_linear", "mistral", "mistral_window", "qwen2", "qwen2_window"] {
        let g = Golden::open(name);
        let served = hone_learn::Served::new(&g.base, &g.adapter).expect("fits");
        for (i, tokens) in SEQUENCES.iter().enumerate() {
            let expected = g.get(&format!("logits.{i}"));
            let (mut session, mut ws) = (hone_learn::generate::Session::new(&g.base), Workspace::new());
            // Two tokens at once, then one by one.
            let mut logits = session.prefill(&g.base, Some(&served), &tokens[..2], &mut ws).expect("prefill");
            for (t, row) in expected.chunks_exact(40).enumerate().skip(1) {
                assert_close("logits", &logits, row, 1e-4);
                if let Some(&token) = tokens.get(t + 1) {
                    logits = session.prefill(&g.base, Some(&served), &[token], &mut ws).expect("step");
                }
            }
        }
    }
}
