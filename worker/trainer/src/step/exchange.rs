//! What the ranks of a gang agree on: the gradients of a step, while its backward pass still runs, and their state.
//!
//! The backward pass finishes one stretch of the network after the other, from the end to the stem. Consecutive stretches
//! form a bucket: one buffer into which their gradients are copied, which is reduced from the moment its last stretch is
//! complete, and of which the optimiser reads views. What a step measures and the running statistics it moved follow in
//! a buffer of their own. A gang of one copies nothing.

use nettailor_collective::{Collective, Pending};
use nettailor_domain::task::Precision;
use tch::{Device, Kind, Tensor};

use super::Error;
use crate::model::{Network, Role, Synchronised};

/// How a gang works together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ExchangeSettings {
    /// Whether batch norms take their statistics from the batches of all ranks.
    pub sync_bn: bool,
    /// Precision in which gradients travel.
    pub wire: Precision,
    /// Bytes of a bucket, at least; the learner's own choice without one.
    pub bucket_bytes: Option<usize>,
}

impl ExchangeSettings {
    /// What batch norms are told of the gang, if they are.
    pub(super) fn synchronised(self, gang: &dyn Collective) -> Option<Synchronised<'_>> {
        (self.sync_bn && gang.world_size() > 1).then(|| Synchronised::new(gang))
    }
}

/// Stretches that are reduced together.
struct Bucket {
    /// The stretch that is complete last.
    first: usize,
    /// Variables whose gradients it holds.
    variables: Vec<usize>,
    /// Their gradients one after the other; none in a gang of one.
    flat: Option<Flat>,
}

struct Flat {
    gradients: Tensor,
    /// By variable, in its own memory order.
    views: Vec<Tensor>,
    /// What travels, where that is not the buffer itself.
    wire: Option<Tensor>,
}

/// The gradients of one network, step by step.
pub(super) struct Exchange<'a> {
    gang: &'a dyn Collective,
    device: Device,
    buckets: Vec<Bucket>,
    statistics: Vec<Tensor>,
    /// Indices of the trained variables, ascending.
    trained: Vec<usize>,
    /// By position among these: what this step found.
    found: Vec<Option<Tensor>>,
    /// Of the buckets, in order, as far as they are under way.
    pending: Vec<Pending>,
}

impl<'a> Exchange<'a> {
    /// For what training moves in `network`, in buckets of at least `bucket_bytes` but for the last.
    pub(super) fn new(
        gang: &'a dyn Collective,
        network: &Network,
        settings: ExchangeSettings,
        bucket_bytes: usize,
    ) -> Result<Self, Error> {
        let trained = network.variables.trained(0..network.variables.len());
        let statistics = network.variables.iter().filter(|v| v.role == Role::Statistic);
        let mut exchange = Self {
            gang,
            device: network.layout.device,
            buckets: buckets(network, settings.bucket_bytes.unwrap_or(bucket_bytes)),
            statistics: statistics.map(|v| v.tensor.shallow_clone()).collect(),
            found: trained.iter().map(|_| None).collect(),
            trained,
            pending: Vec::new(),
        };
        if gang.world_size() > 1 {
            for bucket in &mut exchange.buckets {
                bucket.flat = Some(Flat::new(network, &bucket.variables, settings.wire)?);
            }
        }
        Ok(exchange)
    }

    /// The first stretch of every bucket, from the network's end to its stem.
    pub(super) fn firsts(&self) -> impl Iterator<Item = usize> {
        self.buckets.iter().map(|bucket| bucket.first)
    }

    /// Takes the gradients of stretch `stretch`, by variable; stretches come from the last to the first. Starts what is
    /// complete with it.
    pub(super) fn complete(&mut self, stretch: usize, gradients: &mut [Option<Tensor>]) -> Result<(), Error> {
        let Some(bucket) = self.buckets.get(self.pending.len()) else {
            return Ok(());
        };
        if bucket.first != stretch {
            return Ok(());
        }
        for (place, index) in bucket.variables.iter().enumerate() {
            let Some(gradient) = gradients[*index].take() else {
                continue;
            };
            let position = self.trained.partition_point(|trained| trained < index);
            self.found[position] = Some(match &bucket.flat {
                Some(flat) => {
                    flat.views[place].shallow_clone().f_copy_(&gradient)?;
                    flat.views[place].shallow_clone()
                }
                None => gradient,
            });
        }
        let tensors = match &bucket.flat {
            Some(flat) => vec![flat.outgoing()?],
            None => Vec::new(),
        };
        self.pending.push(self.gang.start_all_reduce_mean(tensors)?);
        Ok(())
    }

    /// Ends a step: averages what it measured, in place, and the running statistics it moved. Returns the gradients' means,
    /// by position among the trained variables, valid until the next step; none where no rank found one.
    pub(super) fn finish(&mut self, measured: &mut [f64]) -> Result<Vec<Option<Tensor>>, Error> {
        if self.gang.world_size() > 1 {
            self.average_state(measured)?;
        }
        debug_assert_eq!(self.pending.len(), self.buckets.len(), "every stretch was walked");
        for (pending, bucket) in self.pending.drain(..).zip(&self.buckets) {
            pending.wait()?;
            if let Some(flat) = &bucket.flat {
                flat.arrived()?;
            }
        }
        Ok(self.found.iter_mut().map(Option::take).collect())
    }

    /// In single precision, whatever gradients travel in.
    fn average_state(&self, measured: &mut [f64]) -> Result<(), Error> {
        let numbers: Vec<f32> = measured.iter().map(|number| *number as f32).collect();
        let numbers = Tensor::f_from_slice(&numbers)?.f_to_device(self.device)?;
        let mut state = vec![numbers.shallow_clone()];
        state.extend(self.statistics.iter().map(Tensor::shallow_clone));
        as_one(&state, |flat| Ok(self.gang.all_reduce_mean(&[flat])?))?;
        measured.copy_from_slice(&Vec::<f64>::try_from(numbers.f_to_kind(Kind::Double)?)?);
        Ok(())
    }
}

/// Consecutive stretches with something to train, from the end to the stem, until a bucket is full.
fn buckets(network: &Network, bytes: usize) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    let mut filled = bytes;
    for (stretch, range) in network.stretches().into_iter().enumerate().rev() {
        let variables = network.variables.trained(range);
        if variables.is_empty() {
            continue;
        }
        let elements = variables
            .iter()
            .map(|index| network.variables.get(*index).tensor.numel());
        let size = size_of::<f32>() * elements.sum::<usize>();
        match buckets.last_mut() {
            Some(bucket) if filled < bytes => {
                bucket.first = stretch;
                bucket.variables.extend(variables);
                filled += size;
            }
            _ => {
                filled = size;
                buckets.push(Bucket {
                    first: stretch,
                    variables,
                    flat: None,
                });
            }
        }
    }
    buckets
}

impl Flat {
    fn new(network: &Network, variables: &[usize], wire: Precision) -> Result<Self, tch::TchError> {
        let tensors = || {
            variables
                .iter()
                .map(|index| &network.variables.get(*index).tensor)
        };
        let elements = tensors().map(|tensor| tensor.numel() as i64).sum::<i64>();
        let options = |kind| (kind, network.layout.device);
        let gradients = Tensor::f_zeros([elements], options(Kind::Float))?;
        let mut from = 0;
        let mut view = |tensor: &Tensor| {
            from += tensor.numel() as i64;
            gradients.f_as_strided(tensor.size(), tensor.stride(), from - tensor.numel() as i64)
        };
        let views = tensors().map(&mut view).collect::<Result<_, _>>()?;
        let wire = match wire {
            Precision::Fp32 => None,
            Precision::Bf16 => Some(Tensor::f_zeros([elements], options(Kind::BFloat16))?),
        };
        Ok(Self {
            gradients,
            views,
            wire,
        })
    }

    /// What is to be reduced.
    fn outgoing(&self) -> Result<Tensor, tch::TchError> {
        let Some(wire) = &self.wire else {
            return Ok(self.gradients.shallow_clone());
        };
        wire.shallow_clone().f_copy_(&self.gradients)?;
        Ok(wire.shallow_clone())
    }

    /// Takes what was reduced.
    fn arrived(&self) -> Result<(), tch::TchError> {
        match &self.wire {
            Some(wire) => self.gradients.shallow_clone().f_copy_(wire),
            None => Ok(()),
        }
    }
}

/// Changes tensors, in place, by what `change` does to a buffer that holds all of them in plain order.
fn as_one(tensors: &[Tensor], change: impl FnOnce(Tensor) -> Result<(), Error>) -> Result<(), Error> {
    tch::no_grad(|| {
        let rows = tensors.iter().map(|tensor| tensor.f_reshape([-1]));
        let flat = Tensor::f_cat(&rows.collect::<Result<Vec<_>, _>>()?, 0)?;
        change(flat.shallow_clone())?;
        let mut from = 0;
        for tensor in tensors {
            let length = tensor.numel() as i64;
            let values = flat.f_narrow(0, from, length)?.f_view(&tensor.size()[..])?;
            tensor.shallow_clone().f_copy_(&values)?;
            from += length;
        }
        Ok(())
    })
}

/// Averages running statistics of which each rank has seen another share, 0 to 1 and 1 in all.
pub(crate) fn average_statistics(gang: &dyn Collective, network: &Network, share: f64) -> Result<(), Error> {
    let statistics = network.variables.iter().filter(|v| v.role == Role::Statistic);
    let statistics: Vec<Tensor> = statistics.map(|v| v.tensor.shallow_clone()).collect();
    if gang.world_size() == 1 || statistics.is_empty() {
        return Ok(());
    }
    as_one(&statistics, |mut flat| {
        let flat = flat.f_mul_scalar_(share * gang.world_size() as f64)?;
        Ok(gang.all_reduce_mean(&[flat])?)
    })
}

/// Starts a gang: what training moves becomes rank 0's on every rank, and then everything must be equal.
pub(super) fn join(gang: &dyn Collective, network: &Network) -> Result<(), Error> {
    if gang.world_size() == 1 {
        return Ok(());
    }
    let moving = network.variables.iter().filter(|v| v.role != Role::Frozen);
    let moving: Vec<Tensor> = moving.map(|v| v.tensor.shallow_clone()).collect();
    as_one(&moving, |flat| Ok(gang.broadcast(&[flat], 0)?))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(network.variables.digest(|_| true)?.as_bytes());
    for block in network.architecture.layers.iter().flat_map(|layer| &layer.blocks) {
        hasher.update(&block.score.to_le_bytes());
    }
    agree(gang, network.layout.device, hasher.finalize())
}

/// Sums `numbers` over the gang, in place and exactly.
pub(crate) fn sum(gang: &dyn Collective, device: Device, numbers: &mut [i64]) -> Result<(), Error> {
    let tensor = Tensor::f_from_slice(numbers)?.f_to_device(device)?;
    gang.all_reduce_sum(&[tensor.shallow_clone()])?;
    numbers.copy_from_slice(&Vec::<i64>::try_from(tensor)?);
    Ok(())
}

/// Fails unless `digest` is the same on every rank.
pub(crate) fn agree(gang: &dyn Collective, device: Device, digest: blake3::Hash) -> Result<(), Error> {
    const WORDS: usize = 8;
    let words = digest.as_bytes().chunks_exact(4);
    let words = words.map(|word| i64::from(u32::from_le_bytes([word[0], word[1], word[2], word[3]])));
    // Everybody's digest in a row of their own, zeros elsewhere: their sum is the table of all.
    let mut table = vec![0; WORDS * gang.world_size()];
    let own = WORDS * gang.rank();
    for (place, word) in table[own..own + WORDS].iter_mut().zip(words) {
        *place = word;
    }
    sum(gang, device, &mut table)?;
    let rows: Vec<&[i64]> = table.chunks_exact(WORDS).collect();
    let ranks: Vec<usize> = (0..rows.len()).filter(|rank| rows[*rank] != rows[0]).collect();
    if ranks.is_empty() {
        Ok(())
    } else {
        Err(Error::Apart { ranks })
    }
}
