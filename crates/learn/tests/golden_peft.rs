//! Adapters that the PEFT library wrote (`golden_peft/make.py`), read by hone: the same logits and scores, before and after hone has
//! written them again.

use hone_learn::generate::Session;
use hone_learn::{Adapter, Base, Batch, Keep, Served, Workspace, forward, head};
use safetensors::SafeTensors;
use std::path::Path;

/// As in `golden_peft/make.py`.
const SEQUENCE: [u32; 7] = [1, 5, 9, 33, 2, 2, 17];
const TOLERANCE: f32 = 1e-3;

fn expected(dir: &Path) -> Vec<f32> {
    let bytes = std::fs::read(dir.join("expected.safetensors")).expect("expected");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let data = tensors.tensor("expected").expect("the tensor").data().to_vec();
    data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn furthest(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The logits of every position, `(tokens, vocab)`.
fn logits(base: &Base, adapter: Option<&Adapter>) -> Vec<f32> {
    let (mut session, mut ws) = (Session::new(base), Workspace::new());
    let served = adapter.map(|adapter| Served::new(base, adapter).expect("fits"));
    SEQUENCE
        .iter()
        .flat_map(|&token| session.prefill(base, served.as_ref(), &[token], &mut ws).expect("a step"))
        .collect()
}

/// The adapter as it was read, and as it is read again from what hone writes.
fn twice(dir: &Path, base: &Base) -> [Adapter; 2] {
    let first = Adapter::load(dir, base.config()).expect("reads PEFT's own folder");
    let home = tempfile::tempdir().expect("temp dir");
    first.save(&home.path().join("again"), "base").expect("writes");
    let again = Adapter::load(&home.path().join("again"), base.config()).expect("reads its own");
    [first, again]
}

#[test]
fn logits_equal_pefts() {
    for (name, base) in [("plain", "llama"), ("rslora", "qwen2")] {
        let dir = Path::new("tests/golden_peft").join(name);
        let base = Base::open(&Path::new("tests/golden").join(base)).expect("base");
        let expected = expected(&dir);
        assert!(
            furthest(&logits(&base, None), &expected) > 0.1,
            "{name}: an adapter that changes nothing proves nothing"
        );
        for adapter in twice(&dir, &base) {
            let off = furthest(&logits(&base, Some(&adapter)), &expected);
            assert!(off < TOLERANCE, "{name}: off by {off}");
        }
    }
}

#[test]
fn only_the_linears_that_have_matrices_are_adapted() {
    let base = Base::open(Path::new("tests/golden/qwen2")).expect("base");
    let adapter = Adapter::load(Path::new("tests/golden_peft/rslora"), base.config()).expect("reads");
    assert_eq!((adapter.config.targets, adapter.config.layers), (vec!["q_proj".into(), "down_proj".into()], 1));
}

#[test]
fn a_reward_models_score_equals_pefts() {
    let dir = Path::new("tests/golden_peft/reward");
    let base = Base::open(Path::new("tests/golden/llama")).expect("base");
    for adapter in twice(dir, &base) {
        let batch = Batch::pack(&[SEQUENCE]);
        let hidden = forward(&base, Some(&adapter), &batch, Keep::Nothing, &mut Workspace::new()).expect("forward");
        let head = adapter.score_weight().expect("modules_to_save is read");
        let off = furthest(&head::scores(&hidden, &[SEQUENCE.len() - 1], head), &expected(dir));
        assert!(off < TOLERANCE, "off by {off}");
    }
}
