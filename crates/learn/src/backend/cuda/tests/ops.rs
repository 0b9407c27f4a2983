//! Op by op: the same inputs to the CPU's op and to the device's.

use super::super::matrix::Matrix;
use super::{assert_close, devices};
use crate::backend::{Attended, Backend, Cpu, Lay, Linear, Values};
use crate::kernels::attention::{Heads, Packing};
use crate::kernels::check::random;
use crate::kernels::linear::{Adapters, Part, PartGrads};
use crate::kernels::matmul::Out;
use crate::kernels::rope::RopeTable;
use crate::kernels::stored::{Format, Stored};
use crate::model::{Batch, Dropout, Pool};
use std::borrow::Cow;

const CLOSE: f32 = 2e-6;

fn values(n: usize, seed: u64) -> Vec<f32> {
    random(n, seed).iter().map(|&x| x as f32).collect()
}

/// Runs `op` on the CPU and on each device with its own copies of `inputs`; it changes some of them, and all are compared.
fn compare(
    what: &str,
    inputs: &[Vec<f32>],
    cpu: impl Fn(&mut [Vec<f32>]),
    device: impl Fn(&super::Cuda, &mut [super::super::Buffer]),
) {
    let mut expected = inputs.to_vec();
    cpu(&mut expected);
    for cuda in devices() {
        let mut on_device: Vec<_> = inputs.iter().map(|x| cuda.0.buffer_of(x)).collect();
        device(&cuda, &mut on_device);
        let found: Vec<Vec<f32>> = on_device.iter().map(|b| b.values()).collect();
        cuda.check().expect(what);
        expected
            .iter()
            .zip(&found)
            .enumerate()
            .for_each(|(i, (e, f))| assert_close(&format!("{what}, {i}"), e, f, CLOSE));
    }
}

/// The same op on both, written once.
macro_rules! same {
    ($what:expr, $inputs:expr, |$on:ident, $b:ident| $work:expr) => {
        compare(
            $what,
            &$inputs,
            |$b| {
                let $on = &Cpu;
                $work
            },
            |$on, $b| $work,
        )
    };
}

#[test]
fn rows() {
    let (rows, width) = (5, 300); // more than two rounds of a block's threads
    let inputs = [values(rows * width, 1), values(width, 2), values(rows * width, 3), values(rows * width, 4)];
    same!("norm", inputs, |on, b| {
        let [x, w, y, _] = b else { unreachable!() };
        on.norm(x, w, 1e-5, y);
    });
    same!("norm_backward", inputs, |on, b| {
        let [x, w, dy, dx] = b else { unreachable!() };
        on.norm_backward(x, w, 1e-5, dy, dx);
    });
    same!("swiglu", [values(rows * 2 * width, 5), values(rows * width, 6)], |on, b| {
        let [gate_up, h] = b else { unreachable!() };
        on.swiglu(gate_up, width, h);
    });
    same!("swiglu_backward", [values(rows * 2 * width, 5), values(rows * width, 6)], |on, b| {
        let [gate_up, dh] = b else { unreachable!() };
        on.swiglu_backward(gate_up, width, dh);
    });
    same!("add", [values(5000, 7), values(5000, 8)], |on, b| {
        let [x, y] = b else { unreachable!() };
        on.add(x, y);
    });
    same!("copy, zero", [values(50, 7), values(50, 8), values(50, 8)], |on, b| {
        let [x, y, z] = b else { unreachable!() };
        on.copy(x, y);
        on.zero(z);
    });
    same!("gather", [values(rows * width, 9), values(3 * width, 10)], |on, b| {
        let [x, y] = b else { unreachable!() };
        on.gather(x, width, &[4, 0, 4], y);
    });
}

#[test]
fn dropout_drops_the_same_values() {
    let batch = Batch::pack(&[vec![0u32; 3], vec![0; 4]]);
    let dropout = Dropout::new(0.3, 5, 9, &batch, &[11, 12]);
    same!("dropout", [values(7 * 200, 1)], |on, b| {
        let [x] = b else { unreachable!() };
        on.dropout(&dropout, 3, 1, x);
    });
}

#[test]
fn rope_turns_alike() {
    let heads = Heads { heads: 4, kv_heads: 2, dim: 6, window: None };
    let (frequencies, positions) = ([1.0, 0.3, 0.01], [0, 7, 3, 12]);
    let packing = Packing { starts: &[0, 4], prefixes: &[None] };
    let lay = Lay { packing, positions: &positions };
    let table = RopeTable::new(&frequencies, 13);
    for backward in [false, true] {
        let inputs = [values(4 * heads.qkv_dim(), 1)];
        compare(
            "rope",
            &inputs,
            |b| {
                if backward {
                    Cpu.rope_backward(&table, &mut b[0], heads, &lay)
                } else {
                    Cpu.rope(&table, &mut b[0], heads, &lay)
                }
            },
            |cuda, b| {
                let (table, layout) = (cuda.rope_table(&frequencies, 13), cuda.layout(lay));
                if backward {
                    cuda.rope_backward(&table, &mut b[0], heads, &layout);
                } else {
                    cuda.rope(&table, &mut b[0], heads, &layout);
                }
            },
        );
    }
}

/// Linears with adapters, in every format, forward and backward.
#[test]
fn linears() {
    let (rows, ins, outs, r) = (5, 64, 96, 3);
    let (a, b) = (values(2 * r * ins, 1), values((32 + 40) * r, 2));
    let adapters = || Adapters {
        a: Cow::Borrowed(a.as_slice()),
        parts: vec![Part { col: 0, out: 32, b: b[..32 * r].into() }, Part { col: 56, out: 40, b: b[32 * r..].into() }],
        r,
        scale: 1.5,
    };
    let weights = values(outs * ins, 3);
    let bias = values(outs, 4);
    let (x, y, dy) = (values(rows * ins, 5), values(rows * outs, 6), values(rows * outs, 7));
    for format in [Format::F32, Format::Bf16, Format::Q8] {
        // Weights and activations that bf16 holds exactly: then only the order of sums differs.
        let exact = |x: &[f32]| x.iter().map(|x| (x * 8.0).round() / 8.0).collect::<Vec<f32>>();
        let (weights, x, dy) = (exact(&weights), exact(&x), exact(&dy));
        let stored = Stored::new(weights, ins, format);
        let of_q8 = if format == Format::Q8 { 1e-2 } else { CLOSE };
        for out in [Out::Set, Out::Add] {
            let (mut y_cpu, mut low_cpu) = (y.clone(), vec![0.0; rows * 2 * r]);
            let f = Linear { w: &stored, bias: Some(&bias), ins, outs };
            Cpu.linear(&f, Some(&Cpu.adapters(adapters())), &x, out, &mut y_cpu, &mut low_cpu);
            let (mut d_low_cpu, mut dx_cpu) = (vec![0.0; rows * 2 * r], vec![0.0; rows * ins]);
            let mut grads_cpu = grads(r, ins);
            let on_cpu = Cpu.adapters(adapters());
            Cpu.adapters_backward(&f, &on_cpu, (&x, &low_cpu), &dy, &mut d_low_cpu, &mut parts(&mut grads_cpu));
            Cpu.linear_backward(&f, Some(&on_cpu), &d_low_cpu, &dy, &mut dx_cpu);
            for cuda in devices() {
                let up = |v: &[f32]| cuda.0.buffer_of(v);
                let (matrix, bias, on) = (Matrix::new(&cuda.0, &stored, ins), up(&bias), cuda.adapters(adapters()));
                let f = Linear { w: &matrix, bias: Some(&bias), ins, outs };
                let (x, mut y, mut low, dy) = (up(&x), up(&y), cuda.buffer(rows * 2 * r), up(&dy));
                cuda.linear(&f, Some(&on), &x, out, &mut y, &mut low);
                let (mut d_low, mut dx) = (cuda.buffer(rows * 2 * r), cuda.buffer(rows * ins));
                let mut found = grads(r, ins);
                cuda.adapters_backward(&f, &on, (&x, &low), &dy, &mut d_low, &mut parts(&mut found));
                cuda.linear_backward(&f, Some(&on), &d_low, &dy, &mut dx);
                assert_close("y", &y_cpu, &y.values(), of_q8);
                assert_close("low", &low_cpu, &low.values(), CLOSE);
                assert_close("d_low", &d_low_cpu, &d_low.values(), CLOSE);
                assert_close("dx", &dx_cpu, &dx.values(), of_q8);
                grads_cpu.iter().zip(&found).for_each(|(e, f)| assert_close("an adapter's gradient", e, f, CLOSE));
                let mut only = cuda.buffer(rows * 2 * r);
                cuda.linear_low(ins, &on, &x, &mut only);
                assert_close("low alone", &low_cpu, &only.values(), CLOSE);
                cuda.check().expect("nothing failed");
            }
        }
    }
}

/// Gradients that are not zero before, as they are added to.
fn grads(r: usize, ins: usize) -> Vec<Vec<f32>> {
    [r * ins, 32 * r, r * ins, 40 * r].iter().zip(20..).map(|(&n, seed)| values(n, seed)).collect()
}

fn parts(all: &mut [Vec<f32>]) -> Vec<PartGrads<'_, f32>> {
    all.chunks_mut(2)
        .map(|pair| {
            let (da, db) = pair.split_at_mut(1);
            PartGrads { da: &mut da[0], db: &mut db[0] }
        })
        .collect()
}

#[test]
fn rows_of_a_matrix_in_every_format() {
    let (rows, width) = (9, 64);
    for format in [Format::F32, Format::Bf16, Format::Q8] {
        let stored = Stored::new(values(rows * width, 1), width, format);
        let mut expected = vec![0.0; 3 * width];
        Cpu.embed(&stored, width, &[8, 2, 2], &mut expected);
        for cuda in devices() {
            let mut found = cuda.buffer(3 * width);
            cuda.embed(&Matrix::new(&cuda.0, &stored, width), width, &[8, 2, 2], &mut found);
            assert_close("embed", &expected, &found.values(), CLOSE);
        }
    }
}

/// Sequences that end within and at tiles, one that is empty, and two that share a prompt.
fn batch() -> Batch {
    let mut batch = Batch::pack(&[vec![0u32; 5], vec![], vec![0; 37]]);
    let prompt = batch.push(&[0; 21], None);
    batch.push(&[0; 18], Some(prompt));
    batch.push(&[0; 3], Some(prompt));
    batch.push(&[0; 32], None);
    batch
}

#[test]
fn attention_packed() {
    let batch = batch();
    let positions = batch.positions();
    let lay = Lay { packing: batch.packing(), positions: &positions };
    for (heads, kv_heads, dim, window) in [(4, 2, 8, None), (3, 3, 5, Some(7)), (2, 1, 144, Some(40))] {
        let heads = Heads { heads, kv_heads, dim, window };
        let n = batch.len();
        let (qkv, d_o) = (values(n * heads.qkv_dim(), 1), values(n * heads.q_dim(), 2));
        let (mut o, mut l, mut dqkv) = (vec![0.0; n * heads.q_dim()], vec![0.0; n * heads.heads], vec![0.0; qkv.len()]);
        Cpu.attention(heads, &qkv, &lay, &mut o, &mut l);
        let kept = Attended { qkv: &qkv, o: &o, l: &l };
        Cpu.attention_backward(heads, &kept, &lay, &d_o, &mut dqkv, &mut Pool::new(Cpu));
        for cuda in devices() {
            let layout = cuda.layout(lay);
            let (qkv, d_o) = (cuda.0.buffer_of(&qkv), cuda.0.buffer_of(&d_o));
            let (mut o_found, mut l_found) = (cuda.buffer(o.len()), cuda.buffer(l.len()));
            cuda.attention(heads, &qkv, &layout, &mut o_found, &mut l_found);
            assert_close("o", &o, &o_found.values(), 5e-6);
            assert_close("l", &l, &l_found.values(), 5e-6);
            let mut found = cuda.buffer(qkv.len());
            let kept = Attended { qkv: &qkv, o: &o_found, l: &l_found };
            cuda.attention_backward(heads, &kept, &layout, &d_o, &mut found, &mut Pool::new(cuda.clone()));
            assert_close("dqkv", &dqkv, &found.values(), 2e-5);
            cuda.check().expect("nothing failed");
        }
    }
}

/// Sequences of different lengths over two blocks, a prompt first and then tokens one by one; one of the caches must grow.
#[test]
fn attention_over_caches() {
    let heads = Heads { heads: 4, kv_heads: 2, dim: 6, window: Some(9) };
    let steps = [vec![7usize, 18, 1], vec![1, 1, 1], vec![1, 1, 1], vec![2, 1, 5]];
    for cuda in devices() {
        let mut on_cpu: Vec<_> = (0..3).map(|_| Cpu.cache(2, heads, 4)).collect();
        let mut on_device: Vec<_> = (0..3).map(|_| cuda.cache(2, heads, 4)).collect();
        let mut seed = 1;
        for lengths in &steps {
            let batch = Batch::pack(&lengths.iter().map(|&n| vec![0u32; n]).collect::<Vec<_>>());
            let positions = vec![0; batch.len()]; // of no use here
            let lay = Lay { packing: batch.packing(), positions: &positions };
            for block in 0..2 {
                let qkv = values(batch.len() * heads.qkv_dim(), seed);
                seed += 1;
                let (mut o, mut l) = (vec![0.0; batch.len() * heads.q_dim()], vec![0.0; batch.len() * heads.heads]);
                let mut caches: Vec<_> = on_cpu.iter_mut().collect();
                Cpu.attention_cached(heads, block, &qkv, &lay, &mut caches, (&mut o, &mut l));
                let (mut o_found, mut l_found) = (cuda.buffer(o.len()), cuda.buffer(l.len()));
                let (qkv, layout) = (cuda.0.buffer_of(&qkv), cuda.layout(lay));
                let mut caches: Vec<_> = on_device.iter_mut().collect();
                cuda.attention_cached(heads, block, &qkv, &layout, &mut caches, (&mut o_found, &mut l_found));
                assert_close("o", &o, &o_found.values(), 5e-6);
                assert_close("l", &l, &l_found.values(), 5e-6);
            }
        }
        cuda.check().expect("nothing failed");
    }
}

#[test]
fn the_first_error_stays_until_it_is_told() {
    let cuda = super::emulator::cuda();
    cuda.0.launch("attention", (1, 1), 1 << 20, &[]);
    let y = cuda.0.buffer_of(&[1.0, 2.0]);
    assert!(y.values().iter().all(|x| x.is_nan()), "nothing is computed after an error");
    let said = cuda.check().expect_err("an error").to_string();
    assert!(said.contains("shared memory") && said.contains("emulator"), "{said}");
    assert_eq!(cuda.0.buffer_of(&[1.0, 2.0]).values(), [1.0, 2.0], "and then it goes on");
    assert_eq!(y.len(), 2);
}
