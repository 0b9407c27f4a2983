//! The GPU's ops against the CPU's: on this machine's emulator always, on a real GPU where one is at hand.

mod emulator;
mod model;
mod ops;

use super::{Cuda, driver};

/// The devices to test: the emulator, and the first GPU if there is one. Where HONE_TEST_GPU is set, there must be.
fn devices() -> Vec<Cuda> {
    let real = Cuda::open().map_err(|e| println!("no GPU was tested: {e}"));
    assert!(real.is_ok() || std::env::var_os("HONE_TEST_GPU").is_none(), "{real:?}");
    std::iter::once(emulator::cuda()).chain(real).collect()
}

/// Where NVRTC is installed, a GPU or not, it takes the kernels for an older and a newer GPU.
#[test]
fn nvrtc_takes_the_kernels() {
    // SAFETY: it only looks whether the library can be loaded.
    #[allow(unsafe_code)]
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        return println!("NVRTC is not here: not tested");
    }
    for capability in [75, 80, 90] {
        let ptx = driver::compile(include_str!("../kernels.cu"), capability).expect("compiles");
        let text = ptx.to_src();
        super::KERNELS.iter().for_each(|k| assert!(text.contains(&format!(".entry {k}(")), "{k}"));
    }
}

/// Asserts that two lists agree within `tolerance` of the larger values.
#[track_caller]
fn assert_close(what: &str, expected: &[f32], found: &[f32], tolerance: f32) {
    assert_eq!(expected.len(), found.len(), "{what}");
    let largest = expected.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
    for (i, (e, f)) in expected.iter().zip(found).enumerate() {
        assert!((e - f).abs() <= tolerance * largest, "{what}[{i}]: {f} where the CPU has {e}");
    }
}
