//! What a GPU must be able to do, and the one way to reach a real one: cudarc's bindings of the driver, cuBLAS and NVRTC, whose
//! libraries are loaded when a device is opened. A build needs none of them.

use super::KERNELS;
use cudarc::cublas::{result as cublas, sys as blas};
use cudarc::driver::{result as driver, sys};
use cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::fmt;
use std::sync::Mutex;

/// Threads of every block; the kernels know it.
pub(crate) const THREADS: u32 = 128;

/// A matrix of a product in the device's memory, row-major as it lies there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operand {
    /// The address of its first value.
    pub(crate) at: u64,
    /// The distance of two rows in values.
    pub(crate) stride: usize,
    /// Whether the product takes its transpose.
    pub(crate) transposed: bool,
}

/// `to (+)= scale a b` with `a` of shape `(m, k)` and `b` `(k, n)`, after their transposition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    pub(crate) shape: [usize; 3],
    pub(crate) a: Operand,
    pub(crate) b: Operand,
    /// Where the result goes, and the distance of its rows.
    pub(crate) to: (u64, usize),
    pub(crate) scale: f32,
    pub(crate) add: bool,
    /// Whether `a` and `b` are bf16; sums and the result are f32 either way.
    pub(crate) bf16: bool,
}

/// A device with memory. Everything is done in the order in which it was asked for. Errors are sentences.
pub(crate) trait Driver: fmt::Debug + Send + Sync {
    fn name(&self) -> &str;
    fn alloc(&self, bytes: usize) -> Result<u64, String>;
    fn free(&self, at: u64);
    fn upload(&self, from: &[u8], to: u64) -> Result<(), String>;
    /// Waits until all that was asked for before is done.
    fn download(&self, from: u64, to: &mut [u8]) -> Result<(), String>;
    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), String>;
    fn zero(&self, at: u64, bytes: usize) -> Result<(), String>;
    /// Runs a kernel on `grid` blocks of [`THREADS`] threads, with `shared` bytes of shared memory. Each argument lies in the lowest
    /// bytes of its word.
    fn launch(&self, kernel: &'static str, grid: (u32, u32), shared: u32, arguments: &mut [u64]) -> Result<(), String>;
    fn product(&self, product: &Product) -> Result<(), String>;
}

/// The first NVIDIA GPU of this machine.
pub(crate) struct Gpu {
    name: String,
    handles: Mutex<Handles>,
}

/// What the libraries handed out; used by one thread at a time.
struct Handles {
    context: sys::CUcontext,
    stream: sys::CUstream,
    blas: blas::cublasHandle_t,
    kernels: HashMap<&'static str, sys::CUfunction>,
}

// SAFETY: the driver's handles may be used from any thread, as long as not by two at once, which the mutex sees to; each use makes
// the context the thread's own first.
#[allow(unsafe_code)]
unsafe impl Send for Handles {}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu").field("name", &self.name).finish_non_exhaustive()
    }
}

fn said(what: &str) -> impl FnOnce(driver::DriverError) -> String {
    move |e| format!("{what}: {e:?}")
}

/// Whether the libraries of CUDA are here.
#[allow(unsafe_code)]
fn check_libraries() -> Result<(), String> {
    // SAFETY: these only look whether the libraries can be loaded.
    let found = unsafe {
        [
            ("the NVIDIA driver (libcuda)", sys::is_culib_present()),
            ("cuBLAS (libcublas)", blas::is_culib_present()),
            ("NVRTC (libnvrtc)", cudarc::nvrtc::sys::is_culib_present()),
        ]
    };
    match found.iter().find(|(_, is_here)| !is_here) {
        Some((missing, _)) => Err(format!("{missing} was not found; install it, or add its folder to LD_LIBRARY_PATH")),
        None => Ok(()),
    }
}

/// Compiles the kernels for a GPU of this compute capability, such as 90 for 9.0.
pub(crate) fn compile(source: &str, capability: i32) -> Result<cudarc::nvrtc::Ptx, String> {
    let options = vec![format!("--gpu-architecture=compute_{capability}")];
    let options = CompileOptions { options, name: Some("kernels.cu".into()), ..CompileOptions::default() };
    compile_ptx_with_opts(source, options).map_err(|e| match e {
        CompileError::CompileError { log, .. } => format!("NVRTC refused the kernels: {}", log.to_string_lossy()),
        other => format!("NVRTC: {other:?}"),
    })
}

impl Gpu {
    /// The first GPU.
    pub(crate) fn find() -> Result<sys::CUdevice, String> {
        check_libraries()?;
        driver::init().map_err(said("the NVIDIA driver does not start"))?;
        driver::device::get(0).map_err(said("there is no NVIDIA GPU"))
    }

    /// Opens the first GPU.
    #[allow(unsafe_code)]
    pub(crate) fn open() -> Result<Self, String> {
        let device = Self::find()?;
        let name = driver::device::get_name(device).map_err(said("the GPU has no name"))?;
        // SAFETY: `device` is the driver's; the context is kept for the life of the process, as other users of the primary one expect.
        unsafe {
            let context = driver::primary_ctx::retain(device).map_err(said("no context on the GPU"))?;
            driver::ctx::set_current(context).map_err(said("no context on the GPU"))?;
            let capability = capability(device)?;
            keep_freed_memory(device);
            let stream = driver::stream::create(driver::stream::StreamKind::NonBlocking)
                .map_err(said("no stream on the GPU"))?;
            let blas = cublas::create_handle().map_err(|e| format!("cuBLAS does not start: {e:?}"))?;
            cublas::set_stream(blas, stream.cast()).map_err(|e| format!("cuBLAS does not start: {e:?}"))?;
            let kernels = load_kernels(capability)?;
            Ok(Self { name, handles: Mutex::new(Handles { context, stream, blas, kernels }) })
        }
    }

    /// The handles, on this thread.
    #[allow(unsafe_code)]
    fn with<T>(&self, work: impl FnOnce(&Handles) -> Result<T, String>) -> Result<T, String> {
        let handles = self.handles.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // SAFETY: the context lives as long as the process.
        unsafe { driver::ctx::set_current(handles.context) }.map_err(said("the GPU's context is gone"))?;
        work(&handles)
    }
}

/// Such as 90 for 9.0.
///
/// # Safety
/// `device` is the driver's.
#[allow(unsafe_code)]
unsafe fn capability(device: sys::CUdevice) -> Result<i32, String> {
    use sys::CUdevice_attribute_enum as Attribute;
    let of = |attribute| {
        // SAFETY: as the caller promises.
        unsafe { driver::device::get_attribute(device, attribute) }.map_err(said("the GPU does not say what it can do"))
    };
    let major = of(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    Ok(major * 10 + of(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?)
}

/// Freed memory stays with the process, for its next allocation. Where the driver can't, allocation is slower.
///
/// # Safety
/// `device` is the driver's, and its context current.
#[allow(unsafe_code)]
unsafe fn keep_freed_memory(device: sys::CUdevice) {
    let mut all = u64::MAX;
    // SAFETY: the threshold is a 64-bit number.
    let _slower_without = unsafe {
        driver::device::get_default_mem_pool(device).and_then(|pool| {
            let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            driver::mem_pool::set_attribute(pool, threshold, (&raw mut all).cast())
        })
    };
}

/// # Safety
/// A context is current.
#[allow(unsafe_code)]
unsafe fn load_kernels(capability: i32) -> Result<HashMap<&'static str, sys::CUfunction>, String> {
    let ptx = compile(include_str!("kernels.cu"), capability)?;
    let image = ptx.as_bytes().ok_or("NVRTC gave no program")?;
    // SAFETY: the image ends in a zero, as NVRTC makes it, and the module is never unloaded.
    unsafe {
        let module = driver::module::load_data(image.as_ptr().cast()).map_err(said("the GPU refused the kernels"))?;
        let find = |name: &'static str| {
            let c_name = CString::new(name).map_err(|e| e.to_string())?;
            let found = driver::module::get_function(module, c_name);
            found.map(|f| (name, f)).map_err(said("a kernel is missing"))
        };
        KERNELS.into_iter().map(find).collect()
    }
}

fn int(n: usize) -> Result<i32, String> {
    i32::try_from(n).map_err(|_| format!("a matrix with a side of {n} is too large for cuBLAS"))
}

#[allow(unsafe_code)]
impl Driver for Gpu {
    fn name(&self) -> &str {
        &self.name
    }

    fn alloc(&self, bytes: usize) -> Result<u64, String> {
        // SAFETY: on the stream on which it is used.
        self.with(|on| {
            unsafe { driver::malloc_async(on.stream, bytes) }.map_err(said(&format!("no {bytes} bytes on the GPU")))
        })
    }

    fn free(&self, at: u64) {
        // SAFETY: `at` came from `alloc`, and what uses it was put on the same stream before.
        let _nothing_to_do_about_it =
            self.with(|on| unsafe { driver::free_async(at, on.stream) }.map_err(said("memory was not given back")));
    }

    fn upload(&self, from: &[u8], to: u64) -> Result<(), String> {
        // SAFETY: the caller owns the memory at `to`; pageable memory is copied before the call returns.
        self.with(|on| unsafe { driver::memcpy_htod_async(to, from, on.stream) }.map_err(said("no copy to the GPU")))
    }

    fn download(&self, from: u64, to: &mut [u8]) -> Result<(), String> {
        // SAFETY: the caller owns the memory at `from`; `to` is borrowed until the stream is done.
        self.with(|on| unsafe {
            driver::memcpy_dtoh_async(to, from, on.stream).map_err(said("no copy from the GPU"))?;
            driver::stream::synchronize(on.stream).map_err(said("the GPU failed"))
        })
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), String> {
        // SAFETY: the caller owns both.
        self.with(|on| {
            unsafe { driver::memcpy_dtod_async(to, from, bytes, on.stream) }.map_err(said("no copy on the GPU"))
        })
    }

    fn zero(&self, at: u64, bytes: usize) -> Result<(), String> {
        // SAFETY: the caller owns it.
        self.with(|on| unsafe { driver::memset_d8_async(at, 0, bytes, on.stream) }.map_err(said("no zeros on the GPU")))
    }

    fn launch(&self, kernel: &'static str, grid: (u32, u32), shared: u32, arguments: &mut [u64]) -> Result<(), String> {
        let mut pointers: Vec<*mut c_void> = arguments.iter_mut().map(|a| std::ptr::from_mut(a).cast()).collect();
        self.with(|on| {
            let function = *on.kernels.get(kernel).ok_or_else(|| format!("there is no kernel {kernel}"))?;
            let (grid, block) = ((grid.0, grid.1, 1), (THREADS, 1, 1));
            // SAFETY: the arguments are those of the kernel, which the tests run op by op; they are read before the call returns.
            unsafe { driver::launch_kernel(function, grid, block, shared, on.stream, &mut pointers) }
                .map_err(said(&format!("the kernel {kernel} did not start")))
        })
    }

    fn product(&self, p: &Product) -> Result<(), String> {
        let [m, n, k] = p.shape;
        let (m, n, k) = (int(m)?, int(n)?, int(k)?);
        let op = |x: Operand| {
            if x.transposed { blas::cublasOperation_t::CUBLAS_OP_T } else { blas::cublasOperation_t::CUBLAS_OP_N }
        };
        let kind = if p.bf16 { blas::cudaDataType_t::CUDA_R_16BF } else { blas::cudaDataType_t::CUDA_R_32F };
        let (scale, keep) = (p.scale, f32::from(u8::from(p.add)));
        let (lda, ldb, ldc) = (int(p.a.stride)?, int(p.b.stride)?, int(p.to.1)?);
        // cuBLAS is column-major, where a row-major matrix is its transpose: C^T = B^T A^T.
        // SAFETY: the caller owns the three matrices; the scalars are read before the call returns.
        self.with(|on| {
            unsafe {
                cublas::gemm_ex(
                    on.blas,
                    op(p.b),
                    op(p.a),
                    n,
                    m,
                    k,
                    (&raw const scale).cast(),
                    p.b.at as *const c_void,
                    kind,
                    ldb,
                    p.a.at as *const c_void,
                    kind,
                    lda,
                    (&raw const keep).cast(),
                    p.to.0 as *mut c_void,
                    blas::cudaDataType_t::CUDA_R_32F,
                    ldc,
                    blas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                    blas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
                )
            }
            .map_err(|e| format!("a product of cuBLAS failed: {e:?}"))
        })
    }
}
