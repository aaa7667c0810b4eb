//! How long forward passes take on this machine, with the process's threads: the median of several, after a warm-up.

use std::time::Duration;

use tch::{Device, Kind, Tensor};

use super::block::pool;
use super::{Error, Mode, Network};
use crate::runtime::Clock;

/// Passes before the first that counts: kernels are generated and memory is mapped in the first.
const WARM_UP: usize = 2;
/// Passes that count.
const COUNTED: usize = 9;

/// A forward pass of the whole network over `batch` images of side `input`, in evaluation mode. Measure the form that is
/// put to use: [`Network::deployed`].
pub fn network(network: &Network, input: u32, batch: u32) -> Result<Duration, Error> {
    let images = feature_map(network, 3, input, batch)?;
    median(network.layout.device, || {
        Ok(network.forward(&images, Mode::EVALUATE)?.logits)
    })
}

/// What is always there: stem and head.
pub fn fixed(network: &Network, input: u32, batch: u32) -> Result<Duration, Error> {
    let images = feature_map(network, 3, input, batch)?;
    let last = network.backbone.node_shapes(input)[network.layers.len()];
    let x = feature_map(network, last.channels, last.side, batch)?;
    median(network.layout.device, || {
        let _node = network.stem(&images, Mode::EVALUATE)?;
        network.head(&x, Mode::EVALUATE)
    })
}

/// Milliseconds of every block alone, by layer and in the order of the architecture's blocks: main blocks, and proxies
/// with their pooling (even where several share it). Removed blocks take none.
pub fn blocks(network: &Network, input: u32, batch: u32) -> Result<Vec<Vec<f64>>, Error> {
    let device = network.layout.device;
    let milliseconds = |run: &mut dyn FnMut() -> Result<Tensor, Error>| -> Result<f64, Error> {
        Ok(median(device, run)?.as_secs_f64() * 1e3)
    };
    let shapes = network.backbone.node_shapes(input);
    let source = |node: usize| feature_map(network, shapes[node].channels, shapes[node].side, batch);
    let mut found = Vec::with_capacity(network.layers.len());
    for (layer, plan) in network.layers.iter().zip(&network.architecture.layers) {
        let mut times = vec![0.0; plan.blocks.len()];
        if let Some(main) = &layer.main {
            let x = source(layer.number - 1)?;
            times[0] = milliseconds(&mut || main.forward(&x, Mode::EVALUATE))?;
        }
        for skip in &layer.skips {
            let x = source(skip.source)?;
            times[skip.position] = milliseconds(&mut || {
                let pooled = pool(&x, skip.proxy.side)?;
                skip.proxy.forward(&pooled, Mode::EVALUATE, None)
            })?;
        }
        found.push(times);
    }
    Ok(found)
}

/// `[batch, channels, side, side]` as the network wants it.
fn feature_map(network: &Network, channels: u32, side: u32, batch: u32) -> Result<Tensor, Error> {
    let layout = network.layout;
    let size = [batch, channels, side, side].map(i64::from);
    let values = Tensor::f_ones(size, (Kind::Float, layout.device))?.f_to_kind(layout.kind())?;
    Ok(layout.ordered(&values)?)
}

fn median(device: Device, mut run: impl FnMut() -> Result<Tensor, Error>) -> Result<Duration, Error> {
    tch::no_grad(|| {
        let mut times = Vec::with_capacity(COUNTED);
        for pass in 0..WARM_UP + COUNTED {
            let clock = Clock::start();
            let _output = run()?;
            if let Device::Cuda(index) = device {
                // Kernels run on while the program goes on.
                tch::Cuda::synchronize(index as i64);
            }
            if pass >= WARM_UP {
                times.push(clock.elapsed());
            }
        }
        times.sort_unstable();
        Ok(times[COUNTED / 2])
    })
}
