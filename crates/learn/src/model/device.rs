//! Where a model computes: on this machine's threads, or on a GPU.

use super::Base;
use super::weights::Weights;
use crate::LearnError;

/// A device to compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// This machine's threads.
    #[default]
    Cpu,
    /// The first NVIDIA GPU; needs a build with the feature `cuda`.
    Cuda,
}

impl Device {
    /// The GPU where this build can use one and one is there, else the CPU. Only looks, and opens nothing.
    pub fn best() -> Self {
        #[cfg(feature = "cuda")]
        if crate::backend::cuda::Cuda::is_here() {
            return Self::Cuda;
        }
        Self::Cpu
    }
}

impl Base {
    /// The same model on a device; on a GPU it takes as much of its memory as it took here.
    ///
    /// # Errors
    /// When the device is not there or has no room, or the model is of a shape that its kernels can't compute.
    pub fn on(self, device: Device) -> Result<Self, LearnError> {
        match device {
            Device::Cpu => Ok(self),
            Device::Cuda => self.on_cuda(),
        }
    }

    /// Where it is, by name.
    pub fn device_name(&self) -> &str {
        match &self.weights {
            Weights::Host(_) => "cpu",
            #[cfg(feature = "cuda")]
            Weights::Cuda(model, _) => model.on.name(),
        }
    }

    #[cfg(not(feature = "cuda"))]
    fn on_cuda(self) -> Result<Self, LearnError> {
        let reason = "this hone was built without it; build it with `cargo build --release --features cuda`";
        Err(LearnError::Device { device: "cuda".into(), reason: reason.into() })
    }

    #[cfg(feature = "cuda")]
    fn on_cuda(self) -> Result<Self, LearnError> {
        self.on_opened(&crate::backend::cuda::Cuda::open()?)
    }

    /// The same on a GPU that is open.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_opened(self, cuda: &crate::backend::cuda::Cuda) -> Result<Self, LearnError> {
        use crate::backend::cuda::DIM_MAX;
        let (checksums, head_dim) = (self.checksums(), self.config().head_dim);
        if head_dim > DIM_MAX {
            let reason = format!(
                "its heads of {head_dim} values are wider than the {DIM_MAX} that hone's GPU kernels have room for"
            );
            return Err(LearnError::UnsupportedArchitecture { found: self.config().model_type.clone(), reason });
        }
        match &self.weights {
            Weights::Host(model) => Ok(Self { weights: Weights::Cuda(cuda.model(model)?, checksums) }),
            Weights::Cuda(..) => Ok(self),
        }
    }
}
