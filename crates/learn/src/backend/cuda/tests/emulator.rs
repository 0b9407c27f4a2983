//! A device for tests on a machine without a GPU: the same kernels, compiled by the C++ compiler of this machine, thread by thread;
//! products by loops. It proves what the kernels and their arguments compute, and says nothing of a GPU's speed.

use super::super::KERNELS;
use super::super::driver::{Driver, Operand, Product, THREADS};
use crate::backend::cuda::{Cuda, Device};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

type Launch = unsafe extern "C" fn(*mut *mut c_void, u32, u32, c_int) -> c_int;

/// The compiled kernels, by one thread at a time.
struct Library {
    library: libloading::Library,
    _folder: tempfile::TempDir,
}

fn library() -> &'static Mutex<Library> {
    static LIBRARY: OnceLock<Mutex<Library>> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().expect("temp dir");
        let entry = |k: &&str| {
            format!(
                "extern \"C\" int launch_{k}(void** a, unsigned x, unsigned y, int threads) {{\n\
                 return run_grid(x, y, threads, [](void** a) {{ call({k}, a); }}, a); }}\n"
            )
        };
        let entries: String = KERNELS.iter().map(entry).collect();
        let source = [include_str!("shim.h"), include_str!("../kernels.cu"), &entries].concat();
        let (file, object) = (folder.path().join("kernels.cpp"), folder.path().join("kernels.so"));
        std::fs::write(&file, source).expect("writes");
        let mut compiler = Command::new("c++");
        compiler.args(["-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-o"]).arg(&object).arg(&file);
        let output = compiler.output().expect("a C++ compiler, c++, runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // SAFETY: just compiled, and it runs nothing when loaded.
        #[allow(unsafe_code)]
        let library = unsafe { libloading::Library::new(&object) }.expect("loads");
        Mutex::new(Library { library, _folder: folder })
    })
}

/// Memory by address; a copy outside of what was allocated is an error, as is memory that was freed.
#[derive(Debug, Default)]
pub(crate) struct Emulator {
    memory: Mutex<HashMap<u64, Box<[u64]>>>,
}

/// A [`Cuda`] that runs on this machine.
pub(crate) fn cuda() -> Cuda {
    Cuda(Device::new(Box::new(Emulator::default())))
}

impl Emulator {
    fn check(&self, at: u64, bytes: usize) -> Result<(), String> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let end = at + bytes as u64;
        if memory.iter().any(|(from, held)| at >= *from && end <= from + 8 * held.len() as u64) {
            Ok(())
        } else {
            Err(format!("{bytes} bytes at {at:#x} were never allocated"))
        }
    }

    /// The values of a matrix, `(rows, cols)` after its transposition.
    fn operand(&self, x: Operand, rows: usize, cols: usize, bf16: bool) -> Result<Vec<f32>, String> {
        let (lines, width) = if x.transposed { (cols, rows) } else { (rows, cols) };
        let size = if bf16 { 2 } else { 4 };
        self.check(x.at, ((lines - 1) * x.stride + width) * size)?;
        let value = |row: usize, col: usize| {
            let index = if x.transposed { col * x.stride + row } else { row * x.stride + col };
            // SAFETY: within what was just checked.
            #[allow(unsafe_code)]
            unsafe {
                if bf16 {
                    half::bf16::from_bits(*(x.at as *const u16).add(index)).to_f32()
                } else {
                    *(x.at as *const f32).add(index)
                }
            }
        };
        Ok((0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))).map(|(row, col)| value(row, col)).collect())
    }
}

#[allow(unsafe_code)]
impl Driver for Emulator {
    fn name(&self) -> &str {
        "emulator"
    }

    fn alloc(&self, bytes: usize) -> Result<u64, String> {
        let held = vec![u64::MAX; bytes.div_ceil(8)].into_boxed_slice(); // NaN in f32: what is not set first shows
        let at = held.as_ptr() as u64;
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).insert(at, held);
        Ok(at)
    }

    fn free(&self, at: u64) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(&at).expect("it was allocated");
    }

    fn upload(&self, from: &[u8], to: u64) -> Result<(), String> {
        self.check(to, from.len())?;
        // SAFETY: checked; the two don't overlap.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to as *mut u8, from.len()) };
        Ok(())
    }

    fn download(&self, from: u64, to: &mut [u8]) -> Result<(), String> {
        self.check(from, to.len())?;
        // SAFETY: checked; the two don't overlap.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), String> {
        self.check(from, bytes)?;
        self.check(to, bytes)?;
        // SAFETY: checked.
        unsafe { std::ptr::copy(from as *const u8, to as *mut u8, bytes) };
        Ok(())
    }

    fn zero(&self, at: u64, bytes: usize) -> Result<(), String> {
        self.check(at, bytes)?;
        // SAFETY: checked.
        unsafe { std::ptr::write_bytes(at as *mut u8, 0, bytes) };
        Ok(())
    }

    fn launch(&self, kernel: &'static str, grid: (u32, u32), shared: u32, arguments: &mut [u64]) -> Result<(), String> {
        if shared > 48 << 10 {
            return Err(format!("{kernel} asks for {shared} bytes of shared memory"));
        }
        let mut pointers: Vec<*mut c_void> = arguments.iter_mut().map(|a| std::ptr::from_mut(a).cast()).collect();
        let library = library().lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the entry was made for this kernel, and is given its arguments.
        let failed = unsafe {
            let name = format!("launch_{kernel}");
            let launch = library.library.get::<Launch>(name.as_bytes()).map_err(|e| e.to_string())?;
            launch(pointers.as_mut_ptr(), grid.0, grid.1, c_int::try_from(THREADS).expect("few"))
        };
        match failed {
            0 => Ok(()),
            1 => Err(format!("{kernel}: a thread ended while others waited for it")),
            _ => Err(format!("{kernel}: wrote past the shared memory")),
        }
    }

    fn product(&self, p: &Product) -> Result<(), String> {
        let [m, n, k] = p.shape;
        let (a, b) = (self.operand(p.a, m, k, p.bf16)?, self.operand(p.b, k, n, p.bf16)?);
        self.check(p.to.0, ((m - 1) * p.to.1 + n) * 4)?;
        for i in 0..m {
            for j in 0..n {
                let sum: f64 = (0..k).map(|x| f64::from(a[i * k + x]) * f64::from(b[x * n + j])).sum();
                // SAFETY: checked.
                unsafe {
                    let to = (p.to.0 as *mut f32).add(i * p.to.1 + j);
                    *to = (sum * f64::from(p.scale)) as f32 + if p.add { *to } else { 0.0 };
                }
            }
        }
        Ok(())
    }
}
