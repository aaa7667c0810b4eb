//! Depthwise convolutions of small maps, as one matrix per channel.
//!
//! Where the kernel reaches past both ends of a map, oneDNN has no kernel of its own for the weights' gradient, nor for anything on a map of
//! side 1: it multiplies channel by channel, a hundred times slower than the rest of the step. These maps are so small
//! that the whole convolution is a small matrix: a channel's output positions are weighted sums of its input positions.

use nettailor_domain::backbone::ConvBn;
use tch::{Device, Tensor};

use super::Error;
use crate::device::Layout;

/// Largest side, of input and output, at which matrices are faster where the weights are trained.
const SMALL_SIDE: i64 = 4;

/// A depthwise convolution between maps of fixed sides.
#[derive(Debug)]
pub(super) struct Depthwise {
    input: i64,
    output: i64,
    /// `[kernel^2, input^2 * output^2]`: 1 where a tap leads from an input position to an output position.
    taps: Tensor,
}

impl Depthwise {
    /// For inputs of side `input` with `before` zeros in front of them, where this form is the faster one.
    pub(super) fn new(
        spec: &ConvBn,
        [input, output, before]: [i64; 3],
        trained: bool,
        layout: Layout,
    ) -> Result<Option<Self>, Error> {
        let depthwise =
            spec.groups > 1 && spec.groups == spec.in_channels && spec.groups == spec.out_channels;
        let small = input == 1 || trained && input.max(output) <= SMALL_SIDE;
        if layout.device != Device::Cpu || !depthwise || !small {
            return Ok(None);
        }
        let (kernel, stride) = (i64::from(spec.kernel), i64::from(spec.stride));
        let mut taps = vec![0.0f32; (kernel * kernel * input * input * output * output) as usize];
        // The tap on one axis that leads from input position `from` to output position `to`.
        let tap = |from: i64, to: i64| {
            let tap = from + before - to * stride;
            (0..kernel).contains(&tap).then_some(tap)
        };
        let positions = |side: i64| (0..side * side).map(move |at| (at / side, at % side));
        for (from, (from_y, from_x)) in (0..).zip(positions(input)) {
            for (to, (to_y, to_x)) in (0..).zip(positions(output)) {
                if let (Some(y), Some(x)) = (tap(from_y, to_y), tap(from_x, to_x)) {
                    let row: i64 = y * kernel + x;
                    let column: i64 = from * output * output + to;
                    taps[(row * input * input * output * output + column) as usize] = 1.0;
                }
            }
        }
        let taps = Tensor::f_from_slice(&taps)?
            .f_view([kernel * kernel, -1])?
            .f_to_kind(layout.kind())?;
        Ok(Some(Self { input, output, taps }))
    }

    /// Whether `x` has the side that it was made for.
    pub(super) fn fits(&self, x: &Tensor) -> bool {
        x.size()[2] == self.input && x.size()[3] == self.input
    }

    /// `[n, channels, input, input] -> [n, channels, output, output]` with a weight `[channels, 1, kernel, kernel]` of
    /// `x`'s precision.
    pub(super) fn forward(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor, Error> {
        let (count, channels) = (x.size()[0], x.size()[1]);
        let matrices = weight.f_reshape([channels, -1])?.f_matmul(&self.taps)?;
        if self.input == 1 && self.output == 1 {
            return Ok(x.f_mul(&matrices.f_view([1, channels, 1, 1])?)?);
        }
        let [from, to] = [self.input * self.input, self.output * self.output];
        let y = x
            .f_permute([1, 0, 2, 3])?
            .f_reshape([channels, count, from])?
            .f_bmm(&matrices.f_view([channels, from, to])?)?;
        Ok(y.f_view([channels, count, self.output, self.output])?
            .f_permute([1, 0, 2, 3])?)
    }
}

#[cfg(test)]
mod tests {
    use nettailor_domain::backbone::{Activation, Padding};
    use tch::Kind;

    use super::*;

    /// With its gradients, against libtorch's own convolution.
    #[test]
    fn equals_a_convolution_of_every_small_size() {
        let options = (Kind::Float, Device::Cpu);
        for (input, kernel, stride, before) in [
            (1, 3, 1, 1),
            (1, 5, 1, 2),
            (2, 3, 1, 1),
            (2, 5, 1, 2),
            (4, 5, 1, 2),
            (3, 3, 2, 1),
            (4, 5, 2, 2),
        ] {
            let output = (input + 2 * before - kernel) / stride + 1;
            let spec = ConvBn {
                conv: String::new(),
                bn: String::new(),
                in_channels: 6,
                out_channels: 6,
                kernel: kernel as u32,
                stride: stride as u32,
                groups: 6,
                padding: Padding::Symmetric(before as u32),
                activation: Activation::Identity,
            };
            let layout = Layout::on(Device::Cpu);
            let made = Depthwise::new(&spec, [input, output, before], true, layout).unwrap();
            let x = Tensor::randn([5, 6, input, input], options).set_requires_grad(true);
            let weight = Tensor::randn([6, 1, kernel, kernel], options).set_requires_grad(true);
            let ours = made.expect("small enough").forward(&x, &weight).unwrap();
            let theirs = x.conv2d(&weight, None::<&Tensor>, stride, before, 1, 6);
            let cotangent = Tensor::randn(theirs.size(), options);
            let gradients = |y: &Tensor| {
                let product = [(y * &cotangent).sum(Kind::Float)];
                Tensor::run_backward(&product, &[&x, &weight], false, false)
            };
            let pairs = gradients(&ours).into_iter().zip(gradients(&theirs));
            for (a, b) in pairs.chain([(ours, theirs)]) {
                assert!(
                    a.allclose(&b, 1e-4, 1e-5, false),
                    "side {input}, kernel {kernel}: {a} {b}"
                );
            }
        }
    }
}
