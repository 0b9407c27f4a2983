//! Speed of a training step and of generation on random weights of SmolLM2-135M's shape; prints one line of JSON.
//!
//! `cargo run --release -p hone-learn --example step_speed -- [sequences] [tokens each]` (default 4 x 128). Beside each rate
//! stands its share of what the same matrix products alone reach in the same run, since machines and their load differ.

use hone_learn::generate::{GenerateConfig, generate};
use hone_learn::head::{add_slope, selected_logprobs_with_slope};
use hone_learn::{Adapter, Base, Batch, Keep, LearnError, LoraConfig, Workspace, backward, forward};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::time::Instant;

const CONFIG: &str = r#"{"model_type": "llama", "hidden_act": "silu", "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
    "max_position_embeddings": 2048, "rope_theta": 100000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": true}"#;

/// Best of three, in seconds.
fn best(mut work: impl FnMut() -> Result<(), LearnError>) -> Result<f64, LearnError> {
    let mut seconds = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        work()?;
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    Ok(seconds)
}

/// Seconds for the products of one pass over `rows` rows: the frozen weights' and the adapters' of all blocks (thrice with
/// `backward`: forward, input gradient, and for the adapters weight gradient), and the head's.
fn products(rows: usize, backward: bool) -> Result<f64, LearnError> {
    let a = vec![0.5f32; rows.max(49152) * 3072];
    let mut c = vec![0f32; rows * 49152];
    let mut product = |m: usize, n: usize, k: usize| {
        #[allow(unsafe_code)]
        // SAFETY: `a` holds at least m k and n k values, `c` m n; the operands are only read.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                c.as_mut_ptr(),
                1,
                n as isize,
                false,
                a.as_ptr(),
                1,
                k as isize,
                a.as_ptr(),
                k as isize,
                1,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(0),
            );
        }
    };
    best(|| {
        for (out, ins) in [(960, 576), (576, 576), (3072, 576), (576, 1536)] {
            for _ in 0..30 {
                product(rows, out, ins);
                if backward {
                    product(rows, ins, out);
                }
            }
        }
        for (out, ins) in [(576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536)] {
            for _ in 0..30 {
                product(rows, 16, ins);
                product(rows, out, 16);
                if backward {
                    product(rows, 16, out);
                    product(rows, ins, 16);
                    product(16, ins, rows);
                    product(out, 16, rows);
                }
            }
        }
        if backward {
            product(rows, 49152, 576);
            product(rows, 576, 49152);
        }
        Ok(())
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let sequences = arguments.next().transpose()?.unwrap_or(4);
    let length = arguments.next().transpose()?.unwrap_or(128);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let base = Base::random(CONFIG, &mut rng)?;
    let mut adapter = Adapter::new(base.config(), LoraConfig::default(), false, &mut rng)?;
    adapter.params.iter_mut().for_each(|p| p.data.iter_mut().for_each(|x| *x += 1e-3));
    let mut text = |n: usize| -> Vec<u32> { (0..n).map(|_| rng.random_range(0..49152)).collect() };
    let batch = Batch::pack(&(0..sequences).map(|_| text(length)).collect::<Vec<_>>());
    let prompts: Vec<Vec<u32>> = (0..16).map(|_| text(32)).collect();
    let (rows, mut ws) = (batch.len(), Workspace::new());
    let targets = batch.tokens.clone();
    let all: Vec<usize> = (0..rows).collect();
    let mut grads = adapter.params.zeros_like();

    let mut step = |keep: Keep| -> Result<(), LearnError> {
        let hidden = forward(&base, Some(&adapter), &batch, keep, &mut ws)?;
        if keep != Keep::Nothing {
            let (_, slope) = selected_logprobs_with_slope(&base, &hidden, &all, &targets, 1.0);
            let mut d_hidden = vec![0.0; hidden.len()];
            add_slope(&slope, &all, &vec![1.0; rows], &mut d_hidden);
            backward(&base, &adapter, &batch, &mut ws, &d_hidden, &mut grads)?;
        }
        ws.give(hidden);
        Ok(())
    };
    let forward_only = best(|| step(Keep::Nothing))?;
    let forward_products = products(rows, false)?;
    let kept = best(|| step(Keep::Activations))?;
    let step_products = products(rows, true)?;
    let recomputed = best(|| step(Keep::Recompute))?;
    let answer = |prompts: &[Vec<u32>], max_new_tokens: usize| {
        let config = GenerateConfig { max_new_tokens, temperature: 1.0, top_p: 1.0, eos_ids: vec![] };
        best(|| generate(&base, Some(&adapter), prompts, &config, &mut ChaCha8Rng::seed_from_u64(0)).map(|_| ()))
    };
    let (first_16, all_16) = (answer(&prompts, 1)?, answer(&prompts, 33)?);
    let (first_1, all_1) = (answer(&prompts[..1], 1)?, answer(&prompts[..1], 33)?);
    let rate = |seconds: f64| (rows as f64 / seconds * 10.0).round() / 10.0;
    println!(
        "{}",
        json!({
            "sequences": sequences, "tokens_each": length, "threads": rayon::current_num_threads(),
            "forward_tokens_per_s": rate(forward_only), "forward_share_of_products": forward_products / forward_only,
            "step_tokens_per_s": rate(kept), "step_share_of_products": step_products / kept,
            "step_recompute_tokens_per_s": rate(recomputed),
            "decode_16_rows_tokens_per_s": 16.0 * 32.0 / (all_16 - first_16),
            "decode_1_row_tokens_per_s": 32.0 / (all_1 - first_1),
        })
    );
    Ok(())
}
