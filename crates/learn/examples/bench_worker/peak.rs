//! How near each phase comes to what the machine can do: products per second against large square ones by the same crate, and
//! bytes per second against reading memory from end to end.

use crate::Result;
use crate::turns::Turns;
use hone_learn::generate::{GenerateConfig, generate};
use hone_learn::head::{add_slope, selected_logprobs_with_slope};
use hone_learn::{Adapter, Base, Batch, Keep, LoraConfig, ModelConfig, Workspace, backward, forward};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// The sizes of the phases.
#[derive(Deserialize)]
pub(crate) struct Spec {
    model: PathBuf,
    /// Sequences of a forward or a step.
    sequences: usize,
    /// Tokens of each.
    length: usize,
    /// Tokens drawn per answer when decoding, 16 answers at once.
    new_tokens: usize,
    /// Rows and columns of the square products.
    square: usize,
}

/// Floating-point operations of one token through the blocks: (frozen weights, adapters, attention per token of context).
fn flops(c: &ModelConfig, lora: &LoraConfig) -> (f64, f64, f64) {
    let linears = [
        (c.q_dim(), c.hidden),
        (c.kv_dim(), c.hidden),
        (c.kv_dim(), c.hidden),
        (c.hidden, c.q_dim()),
        (c.ffn, c.hidden),
        (c.ffn, c.hidden),
        (c.hidden, c.ffn),
    ];
    let weights: usize = linears.iter().map(|(o, i)| o * i).sum();
    let adapters: usize = linears.iter().map(|(o, i)| lora.r * (o + i)).sum();
    let twice = |n: usize| 2.0 * (n * c.layers) as f64;
    (twice(weights), twice(adapters), 2.0 * twice(c.q_dim()))
}

fn seconds(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

/// One square product with the gemm crate on all threads; operations per second.
fn square(n: usize, a: &[f32], b: &[f32], c: &mut [f32]) -> Result<f64> {
    let s = n as isize;
    let took = seconds(|| {
        #[allow(unsafe_code)]
        // SAFETY: a, b and c hold n * n values each, and c is borrowed alone.
        unsafe {
            gemm::gemm(
                n,
                n,
                n,
                c.as_mut_ptr(),
                1,
                s,
                false,
                a.as_ptr(),
                1,
                s,
                b.as_ptr(),
                1,
                s,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(0),
            );
        }
        Ok(())
    })?;
    Ok(2.0 * (n as f64).powi(3) / took)
}

/// Reads `memory` once on all threads; bytes per second.
fn read(memory: &[f32]) -> Result<f64> {
    let each = memory.len().div_ceil(rayon::current_num_threads());
    let took = seconds(|| {
        // Four sums of sixteen lanes, by index: enough additions at once that memory is what one waits for.
        let sum = |part: &[f32]| {
            let mut sums = [[0f32; 16]; 4];
            for x in part.as_chunks::<64>().0 {
                for (sums, x) in sums.iter_mut().zip(x.as_chunks::<16>().0) {
                    for i in 0..16 {
                        sums[i] += x[i];
                    }
                }
            }
            sums
        };
        let sums: Vec<_> = memory.par_chunks(each).map(sum).collect();
        std::hint::black_box(sums);
        Ok(())
    })?;
    Ok(size_of_val(memory) as f64 / took)
}

/// All phases once per turn.
pub(crate) fn run(spec: &Spec) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let base = Base::open(&spec.model)?;
    let lora = LoraConfig::default();
    let mut adapter = Adapter::new(base.config(), lora.clone(), false, &mut rng)?;
    adapter.params.iter_mut().for_each(|p| p.data.iter_mut().for_each(|x| *x += 1e-4));
    let n = spec.square;
    let (a, b, mut c) = (vec![0.5f32; n * n], vec![0.25f32; n * n], vec![0f32; n * n]);
    let memory = vec![1f32; 1 << 27];
    let vocab = base.config().vocab as u32;
    let mut text = |n: usize| -> Vec<u32> { (0..n).map(|_| rng.random_range(0..vocab)).collect() };
    let batch = Batch::pack(&(0..spec.sequences).map(|_| text(spec.length)).collect::<Vec<_>>());
    let prompts: Vec<Vec<u32>> = (0..16).map(|_| text(32)).collect();
    let mut phases = Phases { base: &base, adapter: &adapter, lora: &lora, ws: Workspace::new() };
    let (mut turns, mut goes_on) = Turns::begin(false)?;
    while goes_on {
        let gemm = square(n, &a, &b, &mut c)?;
        let bandwidth = read(&memory)?;
        let mut figures = json!({"gemm_flops": gemm, "read_bytes_per_s": bandwidth});
        figures["forward"] = phases.forward(&batch, spec)?;
        let (step, head) = phases.step(&batch, spec)?;
        figures["forward_backward"] = step;
        figures["head"] = head;
        figures["decode"] = phases.decode(&prompts, spec.new_tokens)?;
        goes_on = turns.next(figures)?;
    }
    Ok(())
}

struct Phases<'a> {
    base: &'a Base,
    adapter: &'a Adapter,
    lora: &'a LoraConfig,
    ws: Workspace,
}

impl Phases<'_> {
    /// Forward through the blocks, nothing kept.
    fn forward(&mut self, batch: &Batch, spec: &Spec) -> Result<Value> {
        let took = seconds(|| {
            let hidden = forward(self.base, Some(self.adapter), batch, Keep::Nothing, &mut self.ws)?;
            self.ws.give(hidden);
            Ok(())
        })?;
        let (weights, adapters, attention) = flops(self.base.config(), self.lora);
        let tokens = batch.len() as f64;
        let work = tokens * (weights + adapters + attention * (spec.length as f64 + 1.0) / 2.0);
        Ok(json!({"seconds": took, "tokens": tokens, "flops": work / took}))
    }

    /// Forward and backward through the blocks; and apart from them the head with its gradient, on every position. Backward does
    /// the frozen products once more (for the input), those of adapters and attention twice more.
    fn step(&mut self, batch: &Batch, spec: &Spec) -> Result<(Value, Value)> {
        let (rows, mut grads) = ((0..batch.len()).collect::<Vec<_>>(), self.adapter.params.zeros_like());
        let mut head_took = 0.0;
        let took = seconds(|| {
            let hidden = forward(self.base, Some(self.adapter), batch, Keep::Activations, &mut self.ws)?;
            let mut d_hidden = vec![0.0; hidden.len()];
            let before = Instant::now();
            let (_, slope) = selected_logprobs_with_slope(self.base, &hidden, &rows, &batch.tokens, 1.0);
            head_took = before.elapsed().as_secs_f64();
            add_slope(&slope, &rows, &vec![1e-3; rows.len()], &mut d_hidden);
            backward(self.base, self.adapter, batch, &mut self.ws, &d_hidden, &mut grads)?;
            self.ws.give(hidden);
            Ok(())
        })?;
        let c = self.base.config();
        let (weights, adapters, attention) = flops(c, self.lora);
        let (tokens, blocks) = (batch.len() as f64, took - head_took);
        let work = tokens * (2.0 * weights + 3.0 * (adapters + attention * (spec.length as f64 + 1.0) / 2.0));
        let head_work = tokens * 4.0 * (c.vocab * c.hidden) as f64;
        Ok((
            json!({"seconds": blocks, "tokens": tokens, "flops": work / blocks}),
            json!({"seconds": head_took, "tokens": tokens, "flops": head_work / head_took}),
        ))
    }

    /// 16 answers at once, without their prompts' forward pass. A step reads all weights once, however many rows there are.
    fn decode(&mut self, prompts: &[Vec<u32>], new_tokens: usize) -> Result<Value> {
        let generate = |max_new_tokens: usize| {
            let config = GenerateConfig { max_new_tokens, temperature: 1.0, top_p: 1.0, eos_ids: vec![] };
            let mut rng = ChaCha8Rng::seed_from_u64(0);
            seconds(|| Ok(generate(self.base, Some(self.adapter), prompts, &config, &mut rng).map(|_| ())?))
        };
        let (first, all) = (generate(1)?, generate(new_tokens + 1)?);
        let (took, c) = (all - first, self.base.config());
        let (weights, adapters, attention) = flops(c, self.lora);
        let (tokens, head) = ((prompts.len() * new_tokens) as f64, 2.0 * (c.vocab * c.hidden) as f64);
        let context = prompts[0].len() as f64 + new_tokens as f64 / 2.0;
        let work = tokens * (weights + adapters + attention * context + head);
        let parameters = (weights + adapters + head) / 2.0;
        Ok(json!({
            "seconds": took, "tokens": tokens, "flops": work / took, "parameters_read_per_s": parameters * new_tokens as f64 / took,
        }))
    }
}
