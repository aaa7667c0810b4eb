//! Where tensors live, how they lie in memory, and in which precision feature maps are.

use std::cell::RefCell;

use nettailor_domain::backbone::{ConvBn, Normalisation};
use nettailor_domain::task::Precision;
use tch::{Device, Kind, Tensor};

/// Largest side of a feature map that dense convolutions make faster in plain order, the way there and back included:
/// oneDNN's kernels for channels-last maps work along a row, and these rows are shorter than its tiles. Measured on AVX-512 with 3x3 kernels: at side 2
/// plain order takes half the time, at 4 two thirds, at 7 nine tenths, above 7 more.
const SMALL_SIDE: u32 = 4;

/// Device, memory order and precision of a network.
///
/// On CPU four-dimensional tensors lie channels-last: oneDNN's kernels for 1x1 and depthwise convolutions, of which the
/// proxies and MBConv blocks are made, want them so, and images arrive so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// CPU or a GPU.
    pub device: Device,
    /// Whether feature maps lie channels-last.
    pub channels_last: bool,
    /// Of feature maps and of the weights that convolutions read. Parameters and statistics of batch norms, attention,
    /// classifier, losses and everything that is trained or stored are in single precision whatever it says.
    pub precision: Precision,
}

impl Layout {
    /// The default for `device`: channels-last, single precision.
    pub fn on(device: Device) -> Self {
        Self {
            device,
            channels_last: true,
            precision: Precision::Fp32,
        }
    }

    /// The same in this precision.
    pub fn with(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The order in which this convolution is computed if its output has side `side`.
    pub fn of_convolution(self, spec: &ConvBn, side: u32) -> Self {
        let dense = spec.kernel > 1 && spec.groups == 1;
        let plain = self.device == Device::Cpu && dense && side <= SMALL_SIDE;
        Self {
            channels_last: self.channels_last && !plain,
            ..self
        }
    }

    /// Element type of feature maps.
    pub fn kind(&self) -> Kind {
        match self.precision {
            Precision::Fp32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
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
}

/// Turns batches of bytes into a network's input. It keeps the tensors it works with, so that a step allocates none.
#[derive(Debug)]
pub struct Images {
    layout: Layout,
    /// (p / 255 - mean) / std = p * scale - offset, each `[3]`.
    scale: Tensor,
    offset: Tensor,
    /// The last batch, `[n, side, side, 3]` in single precision, and its copy in the layout's where that is another.
    kept: RefCell<Option<(Tensor, Option<Tensor>)>>,
    /// On a GPU: the last batch's bytes in memory that the GPU reads by itself.
    pinned: RefCell<Option<Tensor>>,
}

impl Images {
    /// For networks of this layout, with inputs normalised like this.
    pub fn new(layout: Layout, normalisation: &Normalisation) -> Result<Self, tch::TchError> {
        let scale = normalisation.std.map(|std| 1.0 / (255.0 * std));
        let offset = normalisation.mean.iter().zip(normalisation.std);
        let offset: Vec<f32> = offset.map(|(mean, std)| mean / std).collect();
        Ok(Self {
            layout,
            scale: Tensor::f_from_slice(&scale)?.f_to_device(layout.device)?,
            offset: Tensor::f_from_slice(&offset)?.f_to_device(layout.device)?,
            kept: RefCell::new(None),
            pinned: RefCell::new(None),
        })
    }

    /// Bytes `[n, side, side, 3]` as a normalised input `[n, 3, side, side]`, valid until the next call, which writes
    /// over it.
    pub fn batch(&self, pixels: &[u8], side: usize) -> Result<Tensor, tch::TchError> {
        let count = pixels.len() / (side * side * 3);
        let size = [count as i64, side as i64, side as i64, 3];
        let mut kept = self.kept.borrow_mut();
        let (floats, other) = match kept.take() {
            Some((floats, other)) if floats.size() == size => (floats, other),
            _ => {
                let empty = |kind| Tensor::f_empty(size, (kind, self.layout.device));
                let kind = self.layout.kind();
                let other = (kind != Kind::Float).then(|| empty(kind)).transpose()?;
                (empty(Kind::Float)?, other)
            }
        };
        // SAFETY: the view ends with this call, before the bytes it borrows; it is only read.
        let bytes = unsafe {
            let strides = [size[1] * size[2] * 3, size[2] * 3, 3, 1];
            Tensor::f_from_blob(pixels.as_ptr(), &size, &strides, Kind::Uint8, Device::Cpu)?
        };
        let (mut floats, mut other) = (floats, other);
        match self.layout.device {
            Device::Cuda(_) => floats.f_copy_(&self.sent(&bytes)?)?,
            _ => floats.f_copy_(&bytes)?,
        }
        let floats = floats.f_mul_(&self.scale)?.f_sub_(&self.offset)?;
        if let Some(other) = &mut other {
            other.f_copy_(&floats)?;
        }
        let input = other.as_ref().unwrap_or(&floats).f_permute([0, 3, 1, 2])?;
        *kept = Some((floats, other));
        // Bytes arrive channels-last.
        if self.layout.channels_last {
            Ok(input)
        } else {
            input.f_contiguous()
        }
    }

    /// The bytes on the GPU, which reads them by itself: as bytes, a quarter of what floats are.
    fn sent(&self, bytes: &Tensor) -> Result<Tensor, tch::TchError> {
        let mut pinned = self.pinned.borrow_mut();
        let mut staging = match pinned.take() {
            Some(staging) if staging.size() == bytes.size() => staging,
            _ => {
                Tensor::f_empty(bytes.size(), (Kind::Uint8, Device::Cpu))?.f_pin_memory(self.layout.device)?
            }
        };
        staging.f_copy_(bytes)?;
        let sent = staging.f_to_device_(self.layout.device, Kind::Uint8, false, false)?;
        *pinned = Some(staging);
        Ok(sent)
    }
}
