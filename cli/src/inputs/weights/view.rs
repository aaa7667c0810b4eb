//! Tensors as strided views into the bytes of a file. Every container comes down to a list of these, so that nothing
//! is copied or converted before names and shapes are known to be right.

use std::ops::Range;

use half::{bf16, f16};

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F64,
    F32,
    F16,
    Bf16,
    /// Whole numbers or truth values of so many bytes; weights are never these.
    Other(usize),
}

impl Element {
    /// The element type of a `torch.*Storage` class.
    pub(super) fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "DoubleStorage" => Self::F64,
            "FloatStorage" => Self::F32,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::Bf16,
            "LongStorage" => Self::Other(8),
            "IntStorage" => Self::Other(4),
            "ShortStorage" => Self::Other(2),
            "CharStorage" | "ByteStorage" | "BoolStorage" => Self::Other(1),
            _ => return None,
        })
    }

    /// Bytes per element.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Other(size) => size,
        }
    }
}

/// A tensor inside a file. Invariant: every element lies inside the file that it was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorView {
    element: Element,
    shape: Vec<usize>,
    /// In elements.
    strides: Vec<usize>,
    /// Offset of the first element in the file, in bytes.
    start: usize,
}

impl TensorView {
    /// A view of the storage that lies at `storage` (bytes of the file); `offset` and `strides` count elements.
    /// Nothing where an element would lie outside of the storage, or the two lists differ in length.
    pub(super) fn new(
        element: Element,
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
        storage: &Range<usize>,
    ) -> Option<Self> {
        if shape.len() != strides.len() {
            return None;
        }
        let empty = shape.contains(&0);
        let reach = shape
            .iter()
            .zip(&strides)
            .try_fold(offset, |reach, (&size, &stride)| {
                size.saturating_sub(1)
                    .checked_mul(stride)
                    .and_then(|step| reach.checked_add(step))
            })?;
        let end = (reach.checked_add(usize::from(!empty))?).checked_mul(element.size())?;
        let start = offset.checked_mul(element.size())?.checked_add(storage.start)?;
        (end <= storage.len()).then_some(Self {
            element,
            shape,
            strides,
            start,
        })
    }

    /// A view of elements that lie one after another, filling `storage` exactly.
    pub(super) fn contiguous(element: Element, shape: Vec<usize>, storage: &Range<usize>) -> Option<Self> {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = shape[axis].checked_mul(strides[axis])?;
        }
        Self::new(element, shape, strides, 0, storage)
    }

    /// Outermost dimension first.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Type of the elements.
    pub(super) fn element(&self) -> Element {
        self.element
    }

    /// The elements in row-major order. Nothing for element types that weights do not have.
    ///
    /// Check the shape first: strides of 0 can make a small file describe a huge tensor.
    pub(super) fn to_f32(&self, file: &[u8]) -> Option<Vec<f32>> {
        let read: fn(&[u8]) -> f32 = match self.element {
            Element::F32 => |bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            Element::F16 => |bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
            Element::Bf16 => |bytes| bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
            Element::F64 | Element::Other(_) => return None,
        };
        let size = self.element.size();
        let count = self.shape.iter().product();
        let mut values = Vec::with_capacity(count);
        let mut index = vec![0; self.shape.len()];
        let mut at = 0;
        for _ in 0..count {
            let start = self.start + at * size;
            values.push(read(&file[start..start + size]));
            // Count up like an odometer, the last axis fastest.
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= index[axis] * self.strides[axis];
                index[axis] = 0;
            }
        }
        Some(values)
    }
}
