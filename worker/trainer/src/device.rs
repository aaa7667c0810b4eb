//! Where tensors live and how they lie in memory.

use nettailor_domain::backbone::Normalisation;
use tch::{Device, Kind, Tensor};

/// Device and memory order of a network.
///
/// On CPU four-dimensional tensors lie channels-last: oneDNN's kernels for 1x1 and depthwise convolutions, of which the
/// proxies and MBConv blocks are made, want them so, and images arrive so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// CPU or a GPU.
    pub device: Device,
    /// Whether feature maps lie channels-last.
    pub channels_last: bool,
}

impl Layout {
    /// The default for `device`.
    pub fn on(device: Device) -> Self {
        Self {
            device,
            channels_last: true,
        }
    }

    /// A copy of `tensor` in single precision, on the device and in this order.
    pub fn owned(&self, tensor: &Tensor) -> Result<Tensor, tch::TchError> {
        let tensor = tensor
            .f_to_device(self.device)?
            .f_to_kind(Kind::Float)?
            .f_detach_copy()?;
        self.ordered(&tensor)
    }

    /// `tensor` in this order; shares the storage where nothing has to move.
    pub fn ordered(&self, tensor: &Tensor) -> Result<Tensor, tch::TchError> {
        if self.channels_last && tensor.dim() == 4 {
            tensor
                .f_permute([0, 2, 3, 1])?
                .f_contiguous()?
                .f_permute([0, 3, 1, 2])
        } else {
            tensor.f_contiguous()
        }
    }

    /// Bytes `[n, side, side, 3]` as a normalised input `[n, 3, side, side]`.
    pub fn images(
        &self,
        pixels: &[u8],
        side: usize,
        normalisation: &Normalisation,
    ) -> Result<Tensor, tch::TchError> {
        let count = pixels.len() / (side * side * 3);
        let size = [count as i64, side as i64, side as i64, 3];
        let bytes = Tensor::f_from_data_size(pixels, &size, Kind::Uint8)?.f_to_device(self.device)?;
        // (p / 255 - mean) / std = p * scale - offset.
        let scale: Vec<f32> = normalisation.std.iter().map(|std| 1.0 / (255.0 * std)).collect();
        let offset: Vec<f32> = normalisation
            .mean
            .iter()
            .zip(normalisation.std)
            .map(|(mean, std)| mean / std)
            .collect();
        let scale = Tensor::f_from_slice(&scale)?.f_to_device(self.device)?;
        let offset = Tensor::f_from_slice(&offset)?.f_to_device(self.device)?;
        let floats = bytes.f_to_kind(Kind::Float)?.f_mul_(&scale)?.f_sub_(&offset)?;
        self.ordered(&floats.f_permute([0, 3, 1, 2])?)
    }
}
