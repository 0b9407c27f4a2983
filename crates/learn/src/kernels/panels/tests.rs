//! Products with panels against their definition, and a row's bits against those of a row alone.

use super::*;
use crate::kernels::check::random;
use crate::kernels::stored::{Format, Stored};

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    random(n, seed).iter().map(|x| *x as f32).collect()
}

/// Rows of whole blocks and not; outputs of whole panels and not, of an even number of panels and not.
const SHAPES: [(usize, usize); 3] = [(5 * WIDTH, 2 * BLOCK), (9 * WIDTH + 3, 3 * BLOCK), (7, 20)];

fn packed(outs: usize, ins: usize, format: Format) -> (Panels, Vec<f32>) {
    let stored = Stored::new(numbers(outs * ins, 1), ins, format);
    let plain = stored.slice(0, outs * ins).into_owned();
    match stored.packed(ins).expect("memory") {
        Stored::Panels(panels) => (panels, plain),
        other => panic!("{other:?} isn't packed"),
    }
}

#[test]
fn every_number_of_rows_agrees_with_the_definition() {
    for ((outs, ins), format) in SHAPES.into_iter().flat_map(|s| FORMATS.map(|f| (s, f))) {
        let (panels, plain) = packed(outs, ins, format);
        for rows in (1..2 * ROWS + 2).chain([50]) {
            let x = numbers(rows * ins, 2);
            for out in [Out::Set, Out::Add] {
                let mut y = vec![1.0; rows * outs];
                panels.multiply(&x, out, &mut y);
                for (at, y) in y.iter().enumerate() {
                    let (r, o) = (at / outs, at % outs);
                    let products = (0..ins).map(|i| f64::from(x[r * ins + i]) * f64::from(plain[o * ins + i]));
                    let expected = products.sum::<f64>() + if out == Out::Add { 1.0 } else { 0.0 };
                    assert!((f64::from(*y) - expected).abs() < 1e-4, "{format:?}: row {r} of {rows}, output {o}");
                }
            }
        }
    }
}

#[test]
fn a_row_gives_the_same_bits_alone_and_in_a_crowd() {
    for ((outs, ins), format) in SHAPES.into_iter().flat_map(|s| FORMATS.map(|f| (s, f))) {
        let (panels, _) = packed(outs, ins, format);
        for rows in [2, 5, 9, 61] {
            let (x, mut crowd) = (numbers(rows * ins, 3), vec![0.5; rows * outs]);
            panels.multiply(&x, Out::Add, &mut crowd);
            for (x, expected) in x.chunks(ins).zip(crowd.chunks(outs)) {
                let mut alone = vec![0.5; outs];
                panels.multiply(x, Out::Add, &mut alone);
                assert_eq!(alone, expected, "{format:?}, {rows} rows");
            }
        }
    }
}

#[test]
fn values_are_found_again() {
    for ((outs, ins), format) in SHAPES.into_iter().flat_map(|s| FORMATS.map(|f| (s, f))) {
        let (panels, plain) = packed(outs, ins, format);
        for (at, expected) in plain.iter().enumerate() {
            assert_eq!(panels.value(at / ins, at % ins), *expected, "{format:?}");
        }
    }
}

/// Where the CPU has vectors of sixteen; elsewhere there is nothing to compare.
#[cfg(target_arch = "x86_64")]
#[test]
fn vectors_of_sixteen_give_the_bits_of_vectors_of_eight() {
    fn same<P: Panel, const N: usize>(panels: [P; N], name: &str) {
        let numbers = numbers(6 * panels[0].ins(), 5);
        let x: &[[f32; 6]] = numbers.as_chunks().0;
        let start = pair(&std::array::from_fn(|i| i as f32 - 7.5), |x| x);
        let (mut by_eight, mut by_sixteen) = ([[start; 6]; N], [[start; 6]; N]);
        super::by_eight(x, panels, None, &mut by_eight);
        products(x, panels, None, &mut by_sixteen);
        assert_eq!(by_eight, by_sixteen, "{name}");
    }
    for ((outs, ins), format) in SHAPES.into_iter().flat_map(|s| FORMATS.map(|f| (s, f))) {
        match &packed(outs, ins, format).0.weights {
            Weights::F32(w) => same([&w[..ins]], "f32"),
            Weights::Bf16(w) => same([&w[..ins], &w[w.len() - ins..]], "bf16"),
            Weights::Q8(w, s) => same([(&w[..ins], &s[..ins / BLOCK])], "q8_0"),
        }
    }
}

#[test]
fn what_is_exact_in_bf16_takes_half_the_memory_and_gives_the_same_bits() {
    let (outs, ins) = SHAPES[1];
    let exact: Vec<f32> = numbers(outs * ins, 1).iter().map(|x| f32::from(bf16::from_f32(*x))).collect();
    let mut nearly = exact.clone();
    nearly[5] = f32::from_bits(nearly[5].to_bits() | 1);
    let packed = |values: Vec<f32>| match Stored::new(values, ins, Format::F32).packed(ins).expect("memory") {
        Stored::Panels(panels) => panels,
        other => panic!("{other:?} isn't packed"),
    };
    let in_f32 = Panels { ins, outs, weights: Weights::F32(pack(&exact, ins).expect("memory")) };
    let halved = packed(exact);
    assert!(matches!(halved.weights, Weights::Bf16(_)));
    assert!(matches!(packed(nearly).weights, Weights::F32(_)), "no value may be lost");
    for rows in [1, 2, 5, 17] {
        let (x, mut a, mut b) = (numbers(rows * ins, 4), vec![0.5; rows * outs], vec![0.5; rows * outs]);
        in_f32.multiply(&x, Out::Add, &mut a);
        halved.multiply(&x, Out::Add, &mut b);
        assert_eq!(a, b, "{rows} rows");
    }
}

const FORMATS: [Format; 3] = [Format::F32, Format::Bf16, Format::Q8];
