//! The products of panels where the CPU has vectors of sixteen (AVX-512): a panel's sixteen outputs are one register, and twice as many
//! sums fit. Each output is summed in the order and with the roundings of `super::by_eight`, so its bits are the same. May use: the
//! panels.

use super::{Asks, BLOCK, Pair, Panel, Sixteen};
use std::arch::x86_64::{
    __m512, _mm_loadu_si128, _mm256_loadu_si256, _mm512_castsi512_ps, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps,
    _mm512_cvtepu16_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32,
    _mm512_storeu_ps,
};

/// Fewer rows wait for weights, and longer vectors don't shorten that. And a CPU that is asked for them only now and then runs slower for
/// it: a pass of one answer took an eighth longer where its attention used them, which therefore doesn't.
pub(super) const ROWS_MIN: usize = 4;

/// Whether this CPU can; found out once.
pub(super) fn available() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
}

/// As [`super::products`].
#[target_feature(enable = "avx512f")]
pub(super) fn products<P: Panel, const R: usize, const N: usize>(
    x: &[[f32; R]],
    panels: [P; N],
    asks: Option<Asks>,
    sums: &mut [[Pair; R]; N],
) {
    assert!(panels.iter().all(|panel| panel.ins() == x.len()));
    let (mut all, mut now) = ([[_mm512_setzero_ps(); R]; N], [[_mm512_setzero_ps(); R]; N]);
    for n in 0..N {
        for r in 0..R {
            all[n][r] = loaded(&sums[n][r]);
            if !P::SCALED {
                now[n][r] = all[n][r];
            }
        }
    }
    for (block, inputs) in x.chunks(BLOCK).enumerate() {
        if let Some(asks) = asks {
            panels.iter().for_each(|panel| asks.ask_for::<P, N>(*panel, block));
        }
        for (i, x) in inputs.iter().enumerate() {
            for n in 0..N {
                let weights = widened(panels[n].weights(block * BLOCK + i));
                for r in 0..R {
                    now[n][r] = _mm512_fmadd_ps(_mm512_set1_ps(x[r]), weights, now[n][r]);
                }
            }
        }
        if P::SCALED {
            for n in 0..N {
                let scale = loaded(&panels[n].scale(block));
                for r in 0..R {
                    all[n][r] = _mm512_fmadd_ps(now[n][r], scale, all[n][r]);
                    now[n][r] = _mm512_setzero_ps();
                }
            }
        }
    }
    for n in 0..N {
        for r in 0..R {
            let sum = if P::SCALED { all[n][r] } else { now[n][r] };
            // SAFETY: a pair is sixteen f32 side by side.
            #[allow(unsafe_code)]
            unsafe {
                _mm512_storeu_ps(sums[n][r].as_mut_ptr().cast(), sum);
            }
        }
    }
}

/// Both halves of a panel in one register.
#[target_feature(enable = "avx512f")]
#[inline]
fn loaded(pair: &Pair) -> __m512 {
    // SAFETY: a pair is sixteen f32 side by side.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_loadu_ps(pair.as_ptr().cast())
    }
}

/// The weights of an input, widened.
#[target_feature(enable = "avx512f")]
#[inline]
fn widened(weights: Sixteen<'_>) -> __m512 {
    // SAFETY: sixteen values lie side by side there, of as many bits as are loaded for each.
    #[allow(unsafe_code)]
    unsafe {
        match weights {
            Sixteen::F32(w) => _mm512_loadu_ps(w.as_ptr()),
            Sixteen::Bf16(w) => {
                let upper = _mm512_cvtepu16_epi32(_mm256_loadu_si256(w.as_ptr().cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(upper))
            }
            Sixteen::I8(w) => _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(w.as_ptr().cast()))),
        }
    }
}
