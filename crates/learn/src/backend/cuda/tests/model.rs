//! Whole passes: what a model says, its gradients and its rollouts, on the device and on the CPU.

use super::{assert_close, devices};
use crate::generate::{GenerateConfig, generate};
use crate::head::selected_logprobs_with_slope;
use crate::model::{Dropout, Format, How, forward_with, trunk};
use crate::tiny::{self, TinySpec};
use crate::{Adapter, Base, Batch, Keep, LoraConfig, Params, Workspace, backward};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

struct World {
    home: tempfile::TempDir,
    adapter: Adapter,
    batch: Batch,
}

fn world() -> World {
    let home = tempfile::tempdir().expect("temp dir");
    tiny::write(home.path(), &TinySpec::default()).expect("tiny");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let base = Base::open(home.path()).expect("base");
    let mut adapter = Adapter::new(base.config(), LoraConfig::default(), false, &mut rng).expect("adapter");
    adapter
        .params
        .iter_mut()
        .for_each(|p| p.data.iter_mut().enumerate().for_each(|(i, x)| *x += ((i % 7) as f32 - 3.0) * 0.01));
    let mut batch = Batch::pack(&[vec![1u32, 5, 9, 2, 7]]);
    let prompt = batch.push(&[3, 4, 5, 6], None);
    batch.push(&[7, 8], Some(prompt));
    batch.push(&[9], Some(prompt));
    World { home, adapter, batch }
}

/// Hidden states, log-probs and entropies, and the adapter's gradients.
type Said = (Vec<f32>, Vec<f32>, Params);

fn run(world: &World, base: &Base, keep: Keep, dropout: bool, ws: &mut Workspace) -> Said {
    let World { adapter, batch, .. } = world;
    let dropout = dropout.then(|| Dropout::new(0.2, 3, 1, batch, &[0, 1, 2, 3]));
    let hidden = forward_with(base, Some(adapter), batch, How { keep, dropout, from: None }, ws).expect("forward");
    let (rows, targets) = ([0, 3, 8, 11], [5, 7, 8, 2]);
    let (found, slope) = selected_logprobs_with_slope(base, &hidden, &rows, &targets, 0.8);
    let mut d_hidden = vec![0.0; hidden.len()];
    crate::head::add_slope(&slope, &rows, &[1.0, -0.5, 0.25, 2.0], &mut d_hidden);
    let mut grads = adapter.params.zeros_like();
    backward(base, adapter, batch, ws, &d_hidden, &mut grads).expect("backward");
    let said = (hidden.clone(), [found.logprob, found.entropy].concat(), grads);
    ws.give(hidden);
    said
}

fn assert_same(expected: &Said, found: &Said, tolerance: f32) {
    assert_close("hidden", &expected.0, &found.0, tolerance);
    assert_close("log-probs", &expected.1, &found.1, tolerance);
    for (e, f) in expected.2.iter().zip(found.2.iter()) {
        assert!(e.data.iter().any(|x| *x != 0.0), "{}", e.name);
        assert_close(&e.name, &e.data, &f.data, 10.0 * tolerance);
    }
}

#[test]
fn forward_and_backward_in_every_way_of_keeping() {
    let world = world();
    for (format, tolerance) in [(Format::F32, 5e-6), (Format::Bf16, 2e-2), (Format::Q8, 2e-2)] {
        let open = || Base::open_as(world.home.path(), format).expect("base");
        for cuda in devices() {
            let (base, on_device) = (open(), open().on_opened(&cuda).expect("on the device"));
            assert_eq!(base.checksums(), on_device.checksums());
            let mut ws = Workspace::new(); // one for all: buffers are used again
            for (keep, dropout) in [(Keep::Activations, false), (Keep::Recompute, false), (Keep::Activations, true)] {
                let expected = run(&world, &base, keep, dropout, &mut Workspace::new());
                assert_same(&expected, &run(&world, &on_device, keep, dropout, &mut ws), tolerance);
            }
        }
    }
}

#[test]
fn a_pass_from_a_trunk() {
    let world = world();
    let World { batch, .. } = &world;
    let base = Base::open(world.home.path()).expect("base");
    let upper = LoraConfig { layers: 1, ..LoraConfig::default() };
    let adapter = Adapter::new(base.config(), upper, false, &mut ChaCha8Rng::seed_from_u64(2)).expect("adapter");
    let said = |base: &Base, ws: &mut Workspace| {
        let rows = trunk(base, batch, 1, ws).expect("trunk");
        let how = How { keep: Keep::Nothing, dropout: None, from: Some((1, &rows)) };
        let hidden = forward_with(base, Some(&adapter), batch, how, ws).expect("forward");
        [rows, hidden].concat()
    };
    let expected = said(&base, &mut Workspace::new());
    for cuda in devices() {
        let on_device = Base::open(world.home.path()).expect("base").on_opened(&cuda).expect("on the device");
        assert_close("trunk and what follows", &expected, &said(&on_device, &mut Workspace::new()), 5e-6);
    }
}

#[test]
fn rollouts_draw_the_same_tokens() {
    let world = world();
    let base = Base::open(world.home.path()).expect("base");
    let prompts = vec![vec![1, 2, 3], vec![9; 20], vec![7]];
    let config = GenerateConfig { max_new_tokens: 12, temperature: 0.7, top_p: 1.0, eos_ids: vec![5] };
    let answers = |base: &Base| {
        generate(base, Some(&world.adapter), &prompts, &config, &mut ChaCha8Rng::seed_from_u64(4)).expect("answers")
    };
    let expected = answers(&base);
    for cuda in devices() {
        let on_device = Base::open(world.home.path()).expect("base").on_opened(&cuda).expect("on the device");
        for (e, f) in expected.iter().zip(answers(&on_device)) {
            assert_eq!(e.tokens, f.tokens);
            assert_close("log-probs", &e.logprobs, &f.logprobs, 1e-5);
        }
    }
}

/// The golden models have what the tiny one lacks: biases on q, k and v, and a window.
#[test]
fn biases_and_a_window() {
    let batch = Batch::pack(&[(0..30u32).map(|i| i * 7 % 40).collect::<Vec<_>>(), vec![3, 4]]);
    for model in ["qwen2", "qwen2_window", "mistral_window"] {
        let dir = std::path::Path::new("tests/golden").join(model);
        let said =
            |base: &Base| crate::forward(base, None, &batch, Keep::Nothing, &mut Workspace::new()).expect("forward");
        let expected = said(&Base::open(&dir).expect("base"));
        for cuda in devices() {
            let on_device = Base::open(&dir).expect("base").on_opened(&cuda).expect("on the device");
            assert_close(model, &expected, &said(&on_device), 5e-6);
        }
    }
}

#[test]
fn a_session_says_that_it_needs_the_base_here() {
    let world = world();
    let base = Base::open(world.home.path()).expect("base").on_opened(&super::emulator::cuda()).expect("on the device");
    let mut session = crate::generate::Session::new(&base);
    let said = session.prefill(&base, None, &[1], &mut Workspace::new()).expect_err("refused").to_string();
    assert!(said.contains("memory"), "{said}");
}
