//! Everything that a learner's next step depends on, as named tensors: what a checkpoint holds.

use std::collections::BTreeMap;

use nettailor_domain::architecture::Architecture;
use tch::Tensor;

use super::{Averages, Error, ScoreSgd, Sgd};
use crate::model::{Network, Role};
use crate::weights::{self, Weights};

/// The state of one learner or several, in single precision. Where in its run a learner is is not part of it.
#[derive(Debug, Default)]
pub struct State(BTreeMap<String, Tensor>);

impl State {
    /// What training has made of `network`: trained tensors, running statistics, velocities, averages.
    pub(super) fn of(network: &Network, sgd: &Sgd, averages: Option<&Averages>) -> Self {
        let mut state = Self::default();
        for (name, tensor) in moving(network) {
            state.put(format!("value/{name}"), tensor);
        }
        for (name, velocity) in trained(network).into_iter().zip(sgd.velocity()) {
            if let Some(velocity) = velocity {
                state.put(format!("velocity/{name}"), velocity);
            }
        }
        for ((name, _), average) in moving(network).zip(averages.iter().flat_map(|a| a.tensors())) {
            state.put(format!("average/{name}"), average);
        }
        state
    }

    /// What training has made of an architecture's scores.
    pub(super) fn add_scores(
        &mut self,
        architecture: &Architecture,
        sgd: &ScoreSgd,
        averages: Option<&Averages>,
    ) -> Result<(), Error> {
        let scores = architecture.layers.iter().flat_map(|layer| &layer.blocks);
        let scores: Vec<f32> = scores.map(|block| block.score).collect();
        let averaged = averages.map(|averages| ("average", averages.scores().concat()));
        let rows = [("value", scores), ("velocity", sgd.velocity().concat())];
        for (what, row) in rows.into_iter().chain(averaged) {
            self.put(format!("{what}/scores"), &Tensor::f_from_slice(&row)?);
        }
        Ok(())
    }

    /// Puts everything back where [`Self::of`] found it.
    pub(super) fn restore(
        &self,
        network: &Network,
        sgd: &mut Sgd,
        averages: Option<&mut Averages>,
    ) -> Result<(), Error> {
        tch::no_grad(|| {
            for (name, tensor) in moving(network) {
                self.copy(&format!("value/{name}"), tensor)?;
            }
            let tensors = sgd.tensors().iter().zip(trained(network));
            let velocities = tensors.map(|(tensor, name)| {
                let name = format!("velocity/{name}");
                if !self.0.contains_key(&name) {
                    return Ok(None);
                }
                let velocity = tensor.f_zeros_like()?;
                self.copy(&name, &velocity)?;
                Ok(Some(velocity))
            });
            let velocities = velocities.collect::<Result<_, Error>>()?;
            sgd.set_velocity(velocities);
            for ((name, _), average) in moving(network).zip(averages.iter().flat_map(|a| a.tensors())) {
                self.copy(&format!("average/{name}"), average)?;
            }
            Ok(())
        })
    }

    /// Puts everything back where [`Self::add_scores`] found it.
    pub(super) fn restore_scores(
        &self,
        architecture: &mut Architecture,
        sgd: &mut ScoreSgd,
        averages: Option<&mut Averages>,
    ) -> Result<(), Error> {
        let scores = architecture.layers.iter_mut().flat_map(|layer| &mut layer.blocks);
        self.numbers("value/scores", scores.map(|block| &mut block.score).collect())?;
        self.numbers(
            "velocity/scores",
            sgd.velocity_mut().iter_mut().flatten().collect(),
        )?;
        if let Some(averages) = averages {
            let scores = averages.scores_mut().iter_mut().flatten();
            self.numbers("average/scores", scores.collect())?;
        }
        Ok(())
    }

    /// Adds another state, its names behind `prefix`.
    pub fn add(&mut self, prefix: &str, other: State) {
        let named = other.0.into_iter();
        self.0
            .extend(named.map(|(name, tensor)| (format!("{prefix}/{name}"), tensor)));
    }

    /// What was added under `prefix`.
    pub fn under(&self, prefix: &str) -> State {
        let prefix = format!("{prefix}/");
        let named = self.0.iter().filter_map(|(name, tensor)| {
            let name = name.strip_prefix(&prefix)?;
            Some((name.to_owned(), tensor.shallow_clone()))
        });
        State(named.collect())
    }

    /// Every tensor under its name, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// blake3 over names and values.
    pub fn digest(&self) -> Result<blake3::Hash, Error> {
        let mut hasher = blake3::Hasher::new();
        for (name, tensor) in &self.0 {
            hasher.update(name.as_bytes());
            hasher.update(&weights::bytes(tensor)?);
        }
        Ok(hasher.finalize())
    }

    fn put(&mut self, name: String, tensor: &Tensor) {
        self.0.insert(name, tensor.shallow_clone());
    }

    /// The tensor of this name, if it has this shape.
    fn get(&self, name: &str, shape: &[i64]) -> Result<&Tensor, Error> {
        let found = self.0.get(name).filter(|found| found.size() == shape);
        found.ok_or_else(|| Error::State {
            name: name.to_owned(),
            shape: shape.to_vec(),
        })
    }

    fn copy(&self, name: &str, to: &Tensor) -> Result<(), Error> {
        let from = self.get(name, &to.size())?;
        Ok(to.shallow_clone().f_copy_(from)?)
    }

    fn numbers(&self, name: &str, to: Vec<&mut f32>) -> Result<(), Error> {
        let from: Vec<f32> = Vec::try_from(self.get(name, &[to.len() as i64])?)?;
        to.into_iter().zip(from).for_each(|(to, from)| *to = from);
        Ok(())
    }
}

impl From<Weights> for State {
    fn from(weights: Weights) -> Self {
        Self(weights.into_tensors().collect())
    }
}

/// What training moves, by name.
fn moving(network: &Network) -> impl Iterator<Item = (&str, &Tensor)> {
    let moving = network.variables.iter().filter(|v| v.role != Role::Frozen);
    moving.map(|v| (v.name.as_str(), &v.tensor))
}

/// Names of the tensors in training, in the optimiser's order.
fn trained(network: &Network) -> Vec<&str> {
    let trained = network.variables.iter().filter(|v| v.role == Role::Trained);
    trained.map(|v| v.name.as_str()).collect()
}
