//! Properties of the model as a whole, on a tiny random base: packing, keeping, merging, generating, saving.

use hone_learn::generate::{GenerateConfig, generate};
use hone_learn::head::{selected_logprobs, selected_logprobs_backward};
use hone_learn::model::{Dropout, How, forward_with, trunk};
use hone_learn::tiny::TinySpec;
use hone_learn::{Adapter, Base, Batch, Keep, LearnError, LoraConfig, Params, Workspace, backward, forward};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use tempfile::TempDir;

struct Fixture {
    home: TempDir,
    base: Base,
    adapter: Adapter,
}

impl Fixture {
    fn dir(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }
}

/// A base, and an adapter whose B is not zero and whose alpha is not r.
fn fixture() -> Fixture {
    let home = tempfile::tempdir().expect("temp dir");
    hone_learn::tiny::write(&home.path().join("base"), &TinySpec { seed: 3, ..TinySpec::default() }).expect("tiny");
    let base = Base::open(&home.path().join("base")).expect("base");
    let adapter = random_adapter(&base, LoraConfig { r: 4, alpha: 10.0, ..LoraConfig::default() });
    Fixture { home, base, adapter }
}

fn random_adapter(base: &Base, config: LoraConfig) -> Adapter {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut adapter = Adapter::new(base.config(), config, true, &mut rng).expect("adapter");
    for p in adapter.params.iter_mut().filter(|p| !p.name.contains("lora_A")) {
        p.data.iter_mut().for_each(|x| *x = rng.random_range(-0.3..0.3));
    }
    adapter
}

fn tokens(base: &Base, n: usize, seed: u64) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(0..base.config().vocab as u32)).collect()
}

fn hidden(base: &Base, adapter: Option<&Adapter>, sequences: &[Vec<u32>]) -> Vec<f32> {
    forward(base, adapter, &Batch::pack(sequences), Keep::Nothing, &mut Workspace::new()).expect("forward")
}

fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "[{i}]: {a} is not {b}");
    }
}

/// Mean log-prob of every next token, and its gradients.
fn loss_and_grads(f: &Fixture, adapter: &Adapter, batch: &Batch, keep: Keep, ws: &mut Workspace) -> (f64, Params) {
    dropping_loss_and_grads(f, adapter, batch, None, keep, ws)
}

fn dropping_loss_and_grads(
    f: &Fixture,
    adapter: &Adapter,
    batch: &Batch,
    dropout: Option<Dropout>,
    keep: Keep,
    ws: &mut Workspace,
) -> (f64, Params) {
    let hidden = forward_with(&f.base, Some(adapter), batch, How { keep, dropout, from: None }, ws).expect("forward");
    let rows: Vec<usize> = (0..batch.sequences()).flat_map(|s| batch.range(s).take(batch.range(s).len() - 1)).collect();
    let targets: Vec<u32> = rows.iter().map(|r| batch.tokens[r + 1]).collect();
    let found = selected_logprobs(&f.base, &hidden, &rows, &targets, 1.0);
    let mut grads = adapter.params.zeros_like();
    let mut d_hidden = vec![0.0; hidden.len()];
    let d = vec![1.0 / rows.len() as f32; rows.len()];
    selected_logprobs_backward(&f.base, &hidden, &rows, &targets, 1.0, &d, &mut d_hidden);
    ws.give(hidden);
    if keep != Keep::Nothing {
        backward(&f.base, adapter, batch, ws, &d_hidden, &mut grads).expect("backward");
    }
    let mean = found.logprob.iter().map(|&x| f64::from(x)).sum::<f64>() / rows.len() as f64;
    (mean, grads)
}

#[test]
fn a_sequence_does_not_see_its_neighbours() {
    let f = fixture();
    let (a, b) = (tokens(&f.base, 70, 1), tokens(&f.base, 9, 2));
    let alone = [
        hidden(&f.base, Some(&f.adapter), std::slice::from_ref(&a)),
        hidden(&f.base, Some(&f.adapter), std::slice::from_ref(&b)),
    ]
    .concat();
    assert_close(&hidden(&f.base, Some(&f.adapter), &[a, vec![], b]), &alone, 1e-5);
}

#[test]
fn the_gradient_of_a_pack_is_the_sum_of_its_sequences_gradients() {
    let f = fixture();
    let sequences = [tokens(&f.base, 33, 1), tokens(&f.base, 2, 2), tokens(&f.base, 17, 3)];
    let of = |some: &[Vec<u32>]| {
        let (_, grads) = loss_and_grads(&f, &f.adapter, &Batch::pack(some), Keep::Activations, &mut Workspace::new());
        let rows: usize = some.iter().map(|s| s.len() - 1).sum();
        (grads, rows as f32) // the loss is a mean over rows
    };
    let (together, rows) = of(&sequences);
    let alone = sequences.each_ref().map(|s| of(std::slice::from_ref(s)));
    for (i, whole) in together.iter().enumerate().filter(|(_, p)| p.name.contains("lora")) {
        let mut sum = vec![0.0; whole.data.len()];
        for (grads, mine) in &alone {
            let part = grads.iter().nth(i).expect("same layout");
            sum.iter_mut().zip(&part.data).for_each(|(s, g)| *s += g * mine / rows);
        }
        let largest = sum.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let apart = sum.iter().zip(&whole.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest > 1e-4 && apart < 1e-4 * largest, "{}: {apart} apart of {largest}", whole.name);
    }
}

#[test]
fn recomputing_gives_the_gradients_of_keeping_and_buffers_can_be_reused() {
    let f = fixture();
    let mut ws = Workspace::new();
    let large = Batch::pack(&[tokens(&f.base, 40, 1), tokens(&f.base, 30, 2)]);
    let small = Batch::pack(&[tokens(&f.base, 12, 3)]);
    for batch in [&large, &small, &large] {
        let (_, kept) = loss_and_grads(&f, &f.adapter, batch, Keep::Activations, &mut ws);
        let (_, recomputed) = loss_and_grads(&f, &f.adapter, batch, Keep::Recompute, &mut ws);
        let (_, fresh) = loss_and_grads(&f, &f.adapter, batch, Keep::Activations, &mut Workspace::new());
        for ((a, b), c) in kept.iter().zip(recomputed.iter()).zip(fresh.iter()) {
            assert_close(&b.data, &a.data, 1e-5);
            assert_eq!(a.data, c.data, "{}: old contents of a buffer leak into a result", a.name);
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences_and_reach_every_parameter() {
    finite_differences(|_| None);
}

#[test]
fn gradients_with_dropout_agree_with_finite_differences_under_the_same_mask() {
    finite_differences(|batch| Some(Dropout::new(0.2, 1, 4, batch, &[8, 3])));
}

fn finite_differences(dropout: impl Fn(&Batch) -> Option<Dropout>) {
    let f = fixture();
    let batch = Batch::pack(&[tokens(&f.base, 20, 1), tokens(&f.base, 11, 2)]);
    let run = |adapter: &Adapter, keep| {
        dropping_loss_and_grads(&f, adapter, &batch, dropout(&batch), keep, &mut Workspace::new())
    };
    let (_, grads) = run(&f.adapter, Keep::Activations);
    for (i, p) in grads.iter().enumerate().filter(|(_, p)| p.name.contains("lora")) {
        assert!(p.data.iter().all(|x| x.is_finite()) && p.data.iter().any(|x| *x != 0.0), "{}", p.name);
        // Along the gradient the loss rises by its squared length: the best signal that f32 differences can give.
        let length = p.data.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let at = |step: f64| {
            let mut moved = f.adapter.clone();
            let param = moved.params.iter_mut().nth(i).expect("same layout");
            param.data.iter_mut().zip(&p.data).for_each(|(x, g)| *x += (step / length) as f32 * g);
            run(&moved, Keep::Nothing).0
        };
        let step = 0.005;
        let slope = (at(step) - at(-step)) / (2.0 * step);
        assert!(length > 0.02 && (slope - length).abs() < 0.01 * length + 1e-4, "{}: {slope} is not {length}", p.name);
    }
}

#[test]
fn dropped_values_are_the_same_when_recomputed_and_change_the_loss_little() {
    let f = fixture();
    let batch = Batch::pack(&[tokens(&f.base, 20, 1), tokens(&f.base, 11, 2)]);
    let run = |rate: f32, step, keep| {
        let dropout = Dropout::new(rate, 1, step, &batch, &[8, 3]);
        dropping_loss_and_grads(&f, &f.adapter, &batch, Some(dropout), keep, &mut Workspace::new())
    };
    let ((kept, a), (recomputed, b)) = (run(0.2, 4, Keep::Activations), run(0.2, 4, Keep::Recompute));
    assert_eq!(kept, recomputed);
    a.iter().zip(b.iter()).for_each(|(a, b)| assert_close(&b.data, &a.data, 1e-5));
    let plain = loss_and_grads(&f, &f.adapter, &batch, Keep::Nothing, &mut Workspace::new()).0;
    assert!((run(0.0, 4, Keep::Nothing).0 - plain).abs() < 1e-6, "a rate of 0 is no dropout");
    assert_ne!(run(0.2, 5, Keep::Nothing).0, kept, "another step drops others");
    let mean = (0..40).map(|step| run(0.02, step, Keep::Nothing).0).sum::<f64>() / 40.0;
    assert!((mean - plain).abs() < 0.05 * plain.abs(), "{mean} around {plain}");
}

#[test]
fn frozen_lower_blocks_get_no_adapter_and_the_upper_gradients_stay() {
    let f = fixture();
    let mut config = f.adapter.config.clone();
    config.layers = 1;
    config.targets = vec!["v_proj".into(), "down_proj".into()];
    let upper = random_adapter(&f.base, config);
    let batch = Batch::pack(&[tokens(&f.base, 15, 1)]);
    let (_, kept) = loss_and_grads(&f, &upper, &batch, Keep::Activations, &mut Workspace::new());
    let (_, recomputed) = loss_and_grads(&f, &upper, &batch, Keep::Recompute, &mut Workspace::new());
    assert_eq!(kept.len(), 5, "two linears of one block, and the score head");
    for (a, b) in kept.iter().zip(recomputed.iter()).filter(|(a, _)| a.name.contains("lora")) {
        assert!(a.name.contains("layers.1.") && a.data.iter().any(|x| *x != 0.0), "{}", a.name);
        assert_close(&b.data, &a.data, 1e-5);
    }
}

#[test]
fn the_adapter_and_the_merged_model_are_one_function() {
    let f = fixture();
    let merge = |out: &str| {
        hone_learn::merge::write_merged(&f.dir("base"), &f.dir("adapter"), &f.dir(out)).expect("merge");
        std::fs::read(f.dir(out).join("model.safetensors")).expect("weights")
    };
    f.adapter.save(&f.dir("adapter"), "tiny").expect("save");
    assert_eq!(merge("merged"), merge("again"), "the same bytes each time");
    let merged = Base::open(&f.dir("merged")).expect("merged");
    let sequences = [tokens(&f.base, 30, 1)];
    let adapted = hidden(&f.base, Some(&f.adapter), &sequences);
    assert_close(&hidden(&merged, None, &sequences), &adapted, 1e-4);
    let plain = hidden(&f.base, None, &sequences);
    assert!(adapted.iter().zip(&plain).any(|(a, b)| (a - b).abs() > 0.1), "the adapter changes something");
    for name in ["tokenizer.json", "tokenizer_config.json", "config.json"] {
        assert!(f.dir("merged").join(name).exists(), "{name}");
    }
}

#[test]
fn adapters_survive_saving_and_bad_ones_are_refused() {
    let f = fixture();
    f.adapter.save(&f.dir("adapter"), "tiny").expect("save");
    assert_eq!(Adapter::load(&f.dir("adapter"), f.base.config()).expect("load"), f.adapter);
    let mut other = f.base.config().clone();
    other.layers = 1;
    let error = Adapter::load(&f.dir("adapter"), &other).expect_err("too many layers");
    assert!(matches!(error, LearnError::BadAdapter { .. }), "{error}");
    other = f.base.config().clone();
    other.ffn = 10;
    let error = Adapter::load(&f.dir("adapter"), &other).expect_err("another width");
    assert!(matches!(error, LearnError::ShapeMismatch { .. }), "{error}");
    let weights = f.dir("adapter").join("adapter_model.safetensors");
    std::fs::write(&weights, &std::fs::read(&weights).expect("read")[..100]).expect("truncate");
    assert!(Adapter::load(&f.dir("adapter"), f.base.config()).is_err(), "half a file");
    assert!(Adapter::load(Path::new("/nowhere"), f.base.config()).is_err());
}

#[test]
fn generated_logprobs_are_those_of_the_forward_pass() {
    let f = fixture();
    let prompts: Vec<Vec<u32>> = (0..5).map(|i| tokens(&f.base, 3 + 7 * i as usize, i)).collect();
    for (temperature, top_p) in [(1.0, 1.0), (0.7, 0.8), (0.0, 1.0)] {
        let config = GenerateConfig { max_new_tokens: 24, temperature, top_p, eos_ids: vec![5, 40, 41] };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let answers = generate(&f.base, Some(&f.adapter), &prompts, &config, &mut rng).expect("generate");
        for (prompt, answer) in prompts.iter().zip(&answers) {
            let all = [prompt.as_slice(), &answer.tokens].concat();
            let hidden = hidden(&f.base, Some(&f.adapter), std::slice::from_ref(&all));
            let rows: Vec<usize> = (prompt.len() - 1..all.len() - 1).collect();
            let scale = if temperature == 0.0 { 1.0 } else { temperature };
            let expected = selected_logprobs(&f.base, &hidden, &rows, &answer.tokens, scale);
            assert_close(&answer.logprobs, &expected.logprob, 1e-4);
            let end = answer.tokens.last().is_some_and(|t| config.eos_ids.contains(t));
            assert_eq!(answer.ended, end);
            assert!(end || answer.tokens.len() == 24, "an answer ends by EOS or by its length");
        }
        assert!(temperature == 0.0 || answers.iter().any(|a| a.tokens.len() < 24), "some rows leave early");
    }
}

#[test]
fn the_batch_does_not_change_an_answer() {
    let f = fixture();
    let prompts: Vec<Vec<u32>> = (0..4).map(|i| tokens(&f.base, 5, i)).collect();
    let config = GenerateConfig { max_new_tokens: 16, temperature: 1.0, top_p: 1.0, eos_ids: vec![] };
    let run = |prompts: &[Vec<u32>]| {
        generate(&f.base, None, prompts, &config, &mut ChaCha8Rng::seed_from_u64(9)).expect("generate")
    };
    let (all, first) = (run(&prompts), run(&prompts[..2]));
    assert_eq!(all[0].tokens, first[0].tokens);
    assert_eq!(all[1].tokens, first[1].tokens);
    let twins = run(&[prompts[0].clone(), prompts[0].clone()]);
    assert_ne!(twins[0].tokens, twins[1].tokens, "the same prompt twice gives two answers");
}

#[test]
fn the_tiny_tokenizer_speaks_every_printable_character() {
    let f = fixture();
    let tokenizer = hone_text::ChatTokenizer::open(&f.dir("base")).expect("tokenizer");
    assert_eq!(tokenizer.vocab_size(), f.base.config().vocab);
    let text: String = std::iter::once('\n').chain(' '..='~').collect();
    let tokens = tokenizer.encode_text(&text, false).expect("encode");
    assert_eq!(tokens.len(), text.len(), "one token per character");
    assert_eq!(tokenizer.decode(&tokens), text);
    let prompt = tokenizer.encode_prompt(&[hone_domain::Message::user("Hi")]).expect("prompt");
    let (start, end) = (4, 5);
    assert_eq!(prompt.iter().filter(|t| **t == start).count(), 2, "the person's turn and the answer's");
    assert_eq!(prompt.iter().filter(|t| **t == end).count(), 1, "special tokens are parsed");
    assert_eq!(tokenizer.encode_answer("a").expect("answer").last(), Some(&end));
    assert_eq!(tokenizer.eos_ids(), [end]);
}

#[test]
fn bad_input_is_an_error() {
    let f = fixture();
    let run =
        |sequence: Vec<u32>| forward(&f.base, None, &Batch::pack(&[sequence]), Keep::Nothing, &mut Workspace::new());
    assert!(matches!(run(vec![1, 9999]), Err(LearnError::TokenOutOfRange { token: 9999, .. })));
    assert!(matches!(run(vec![1; 257]), Err(LearnError::TooLong { found: 257, context: 256 })));
    let config = GenerateConfig { max_new_tokens: 16, temperature: 1.0, top_p: 1.0, eos_ids: vec![] };
    let ask = |prompt: Vec<u32>| generate(&f.base, None, &[prompt], &config, &mut ChaCha8Rng::seed_from_u64(0));
    assert!(ask(vec![]).is_err() && ask(vec![1; 256]).is_err());
    assert_eq!(ask(vec![1; 250]).expect("cut short")[0].tokens.len(), 7, "the context ends the answer");
    std::fs::remove_file(f.dir("base").join("model.safetensors")).expect("remove");
    assert!(matches!(Base::open(&f.dir("base")), Err(LearnError::Io { .. })));
}

#[test]
fn completions_that_share_their_prompt_are_as_if_each_had_its_own() {
    let f = fixture();
    let (prompt, completions) = (tokens(&f.base, 9, 1), [5, 1, 70].map(|n| tokens(&f.base, n, n as u64)));
    let whole: Vec<Vec<u32>> = completions.iter().map(|c| [prompt.clone(), c.clone()].concat()).collect();
    let apart = Batch::pack(&whole);
    let mut shared = Batch::pack(std::slice::from_ref(&prompt));
    completions.iter().for_each(|c| {
        shared.push(c, Some(0));
    });
    // The last row of each completion, as where a reward is read.
    let lasts = |batch: &Batch, first: usize| (first..first + 3).map(|s| batch.range(s).end - 1).collect::<Vec<_>>();
    let run = |batch: &Batch, rows: &[usize]| {
        let ws = &mut Workspace::new();
        let hidden = forward(&f.base, Some(&f.adapter), batch, Keep::Activations, ws).expect("forward");
        let width = f.base.config().hidden;
        let mut d_hidden = vec![0.0; hidden.len()];
        rows.iter().for_each(|r| d_hidden[r * width..][..width].fill(0.1));
        let mut grads = f.adapter.params.zeros_like();
        backward(&f.base, &f.adapter, batch, ws, &d_hidden, &mut grads).expect("backward");
        let last: Vec<f32> = rows.iter().flat_map(|r| hidden[r * width..][..width].to_vec()).collect();
        (last, grads)
    };
    let (hidden_apart, grads_apart) = run(&apart, &lasts(&apart, 0));
    let (hidden_shared, grads_shared) = run(&shared, &lasts(&shared, 1));
    assert_close(&hidden_shared, &hidden_apart, 1e-5);
    for (a, b) in grads_shared.iter().zip(grads_apart.iter()) {
        assert_close(&a.data, &b.data, 1e-4);
    }
}

#[test]
fn a_pass_can_begin_where_the_adapters_begin() {
    let f = fixture();
    let upper = random_adapter(&f.base, LoraConfig { r: 4, alpha: 10.0, layers: 1, ..LoraConfig::default() });
    assert_eq!((upper.first_block(f.base.config()), f.adapter.first_block(f.base.config())), (1, 0));
    let batch = Batch::pack(&[tokens(&f.base, 12, 1), tokens(&f.base, 7, 2)]);
    let ws = &mut Workspace::new();
    let whole = forward(&f.base, Some(&upper), &batch, Keep::Nothing, ws).expect("forward");
    let into = trunk(&f.base, &batch, 1, ws).expect("trunk");
    let how = How { keep: Keep::Nothing, dropout: None, from: Some((1, &into)) };
    assert_eq!(forward_with(&f.base, Some(&upper), &batch, how, ws).expect("forward"), whole);
}
