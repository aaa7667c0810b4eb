//! The tensors of a network under their names, and where they come from.

use std::ops::Range;

use nettailor_domain::backbone::TensorSpec;
use nettailor_domain::task::BnMode;
use tch::Tensor;

use super::network::Recipe;
use super::{Error, Init};
use crate::device::Layout;
use crate::weights::Weights;

/// What training does to a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Shared with every task: never changes.
    Frozen,
    /// Changed by gradients.
    Trained,
    /// Running statistics of a batch norm: follow the data, without a gradient.
    Statistic,
}

/// A named tensor. Modules hold shallow clones of it: the storage is one.
#[derive(Debug)]
pub struct Variable {
    /// Publisher's name, or the task's own.
    pub name: String,
    /// The values.
    pub tensor: Tensor,
    /// What training does to it.
    pub role: Role,
}

/// Every tensor of a network, in the order the modules were built.
#[derive(Debug, Default)]
pub struct Variables(Vec<Variable>);

impl Variables {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Variable> {
        self.0.iter()
    }

    /// How many there are; an index below it names a variable.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The variable of this index.
    pub fn get(&self, index: usize) -> &Variable {
        &self.0[index]
    }

    /// The variable of this name.
    pub fn named(&self, name: &str) -> Option<&Variable> {
        self.0.iter().find(|variable| variable.name == name)
    }

    /// Indices of those that gradients change, within `range`.
    pub fn trained(&self, range: Range<usize>) -> Vec<usize> {
        range
            .filter(|index| self.0[*index].role == Role::Trained)
            .collect()
    }

    /// Those tensors, in order.
    pub fn trained_tensors(&self) -> Vec<Tensor> {
        let trained = self.0.iter().filter(|variable| variable.role == Role::Trained);
        trained.map(|variable| variable.tensor.shallow_clone()).collect()
    }

    /// Whether every number that training may have changed is one.
    pub fn are_finite(&self) -> Result<bool, Error> {
        for variable in self.0.iter().filter(|variable| variable.role != Role::Frozen) {
            if variable.tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// blake3 over the frozen tensors' bytes: equal before and after training, or something is badly wrong.
    pub fn frozen_digest(&self) -> Result<blake3::Hash, Error> {
        self.digest(|role| role == Role::Frozen)
    }

    /// blake3 over names and bytes of the tensors of the roles that `of` accepts.
    pub fn digest(&self, of: impl Fn(Role) -> bool) -> Result<blake3::Hash, Error> {
        let mut hasher = blake3::Hasher::new();
        for variable in self.0.iter().filter(|variable| of(variable.role)) {
            hasher.update(variable.name.as_bytes());
            hasher.update(&crate::weights::bytes(&variable.tensor)?);
        }
        Ok(hasher.finalize())
    }
}

/// Where a new task's tensors get their first values; without one, every tensor must be in the weights.
#[derive(Debug, Clone, Copy)]
pub enum Origin {
    /// Tensors that the weights lack are initialised under this seed.
    Fresh {
        /// The task's seed.
        seed: u64,
    },
    /// Nothing is there yet: the backbone's own tensors are initialised, too.
    Scratch {
        /// The source's seed.
        seed: u64,
    },
    /// A finished network: the weights hold everything.
    Stored,
}

/// Collects a network's tensors while its modules are built. Mismatches are gathered, so that one error names them all.
pub struct Builder<'a> {
    weights: &'a Weights,
    origin: Origin,
    layout: Layout,
    /// Role of the universal parameters: frozen in a student, trained in a teacher.
    universal: Role,
    /// What a task keeps of the frozen blocks' batch norms, and whether this is a block.
    bn_mode: BnMode,
    in_block: bool,
    variables: Variables,
    problems: Vec<String>,
}

/// Mismatches that an error spells out; the others are counted.
const SHOWN: usize = 5;

impl<'a> Builder<'a> {
    /// Takes tensors from `weights`, puts them on `layout`'s device.
    pub fn new(weights: &'a Weights, recipe: &Recipe) -> Self {
        Self {
            weights,
            origin: recipe.origin,
            layout: recipe.layout,
            universal: recipe.universal,
            bn_mode: recipe.bn_mode,
            in_block: false,
            variables: Variables::default(),
            problems: Vec::new(),
        }
    }

    /// Where tensors live.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Number of tensors so far: ranges between two calls name a module's own.
    pub fn position(&self) -> usize {
        self.variables.len()
    }

    /// Builds a universal block: a part of the backbone whose batch norms a task may train.
    pub fn block<T>(&mut self, build: impl FnOnce(&mut Self) -> T) -> T {
        self.in_block = true;
        let built = build(self);
        self.in_block = false;
        built
    }

    /// A convolution's weight of the backbone, in the memory order of `layout`. It must be in the weights, but for a
    /// backbone that is trained from scratch.
    pub fn universal_kernel(
        &mut self,
        spec: &TensorSpec,
        init: Init,
        layout: Layout,
    ) -> Result<Tensor, Error> {
        self.add(spec, self.universal, self.scratch(init), layout)
    }

    /// Weight or bias of one of the backbone's batch norms.
    pub fn universal_affine(&mut self, spec: &TensorSpec, init: Init) -> Result<Tensor, Error> {
        let role = if self.bn_mode == BnMode::Affine && self.in_block {
            Role::Trained
        } else {
            self.universal
        };
        self.add(spec, role, self.scratch(init), self.layout)
    }

    /// Running statistics that the backbone brings along; the task's own unless it keeps the backbone's.
    pub fn universal_statistic(&mut self, spec: &TensorSpec, init: Init) -> Result<Tensor, Error> {
        let shared = self.universal == Role::Frozen && self.bn_mode == BnMode::Frozen;
        let role = if shared { Role::Frozen } else { Role::Statistic };
        self.add(spec, role, self.scratch(init), self.layout)
    }

    fn scratch(&self, init: Init) -> Option<Init> {
        matches!(self.origin, Origin::Scratch { .. }).then_some(init)
    }

    /// A parameter or statistic of the task.
    pub fn task(&mut self, name: String, shape: &[u32], role: Role, init: Init) -> Result<Tensor, Error> {
        let spec = TensorSpec {
            name,
            shape: shape.iter().map(|n| *n as usize).collect(),
        };
        self.add(&spec, role, Some(init), self.layout)
    }

    fn add(
        &mut self,
        spec: &TensorSpec,
        role: Role,
        init: Option<Init>,
        layout: Layout,
    ) -> Result<Tensor, Error> {
        let shape: Vec<i64> = spec.shape.iter().map(|n| *n as i64).collect();
        let tensor = match (self.weights.get(&spec.name), init, self.origin) {
            (Some(found), _, _) if found.size() == shape => found.shallow_clone(),
            (Some(found), _, _) => {
                self.problems.push(format!(
                    "{}: expected shape {shape:?}, the file has {:?}",
                    spec.name,
                    found.size()
                ));
                return Ok(Tensor::f_zeros(&shape, tch::kind::FLOAT_CPU)?);
            }
            (None, Some(init), Origin::Fresh { seed } | Origin::Scratch { seed }) => {
                let values = init.values(seed, &spec.name, spec.shape.iter().product());
                Tensor::f_from_slice(&values)?.f_view(&shape[..])?
            }
            (None, _, _) => {
                self.problems.push(format!(
                    "{}: expected shape {shape:?}, the file has no such tensor",
                    spec.name
                ));
                return Ok(Tensor::f_zeros(&shape, tch::kind::FLOAT_CPU)?);
            }
        };
        // A copy: the network owns what it may change, and the weights can be read again.
        let tensor = layout
            .owned(&tensor)?
            .f_set_requires_grad(role == Role::Trained)?;
        self.variables.0.push(Variable {
            name: spec.name.clone(),
            tensor: tensor.shallow_clone(),
            role,
        });
        Ok(tensor)
    }

    /// The variables, unless some did not fit.
    pub fn finish(self) -> Result<Variables, Error> {
        if self.problems.is_empty() {
            return Ok(self.variables);
        }
        let mut listed: Vec<String> = self.problems.iter().take(SHOWN).cloned().collect();
        if self.problems.len() > SHOWN {
            listed.push(format!("and {} more", self.problems.len() - SHOWN));
        }
        Err(Error::Mismatch {
            origin: self.weights.origin().to_owned(),
            tensors: listed.join("; "),
        })
    }
}
