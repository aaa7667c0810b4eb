//! What a student's blocks cost, in the unit that its task asks for. Latencies are measured once for every backbone, skip, number of
//! classes, input, batch, `bn_mode`, precision, device and number of threads, and kept in the node's cache. A gang goes by its first rank's.

use std::path::{Path, PathBuf};

use nettailor_domain::architecture::{BlockCosts, CostVector};
use nettailor_domain::ids::Digest;
use nettailor_domain::task::StudentSettings;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Error, Stage};
use crate::model::{Network, latency};

/// Folder of the node's cache.
const FOLDER: &str = "latency";

/// Milliseconds of what is always there, and of every block by layer, the main block first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Measured {
    fixed: f64,
    blocks: Vec<Vec<f64>>,
}

impl Stage<'_> {
    /// Costs of the blocks of `network`, an unpruned student.
    pub(super) fn block_costs(
        &mut self,
        network: &Network,
        student: &StudentSettings,
    ) -> Result<BlockCosts, Error> {
        let input = self.assignment.spec.reading.image_size;
        let (architecture, backbone) = (&network.architecture, &self.backbone);
        Ok(match student.cost {
            CostVector::Flops => BlockCosts::counted(architecture, backbone, input, |cost| cost.flops as f64),
            CostVector::Params => {
                BlockCosts::counted(architecture, backbone, input, |cost| cost.params as f64)
            }
            CostVector::Latency => {
                let Measured { fixed, blocks } = self.latencies(network, student)?;
                BlockCosts::measured(fixed, &blocks)
            }
        })
    }

    /// The first rank's latencies, on every rank: those that an earlier attempt went by, if there was one.
    fn latencies(&mut self, network: &Network, student: &StudentSettings) -> Result<Measured, Error> {
        if let Some(measured) = &self.checkpoints.latencies {
            return Ok(measured.clone());
        }
        let measured = match self.gang.rank() {
            0 => self.own_latencies(network, student)?,
            _ => Measured {
                fixed: 0.0,
                blocks: (network.architecture.layers.iter())
                    .map(|layer| vec![0.0; layer.blocks.len()])
                    .collect(),
            },
        };
        let numbers: Vec<f64> = std::iter::once(measured.fixed)
            .chain(measured.blocks.iter().flatten().copied())
            .collect();
        let tensor = Tensor::f_from_slice(&numbers)?.f_to_device(self.layout.device)?;
        self.gang.broadcast(&[tensor.shallow_clone()], 0)?;
        let mut numbers = Vec::<f64>::try_from(tensor)?.into_iter();
        let fixed = numbers.next().unwrap_or_default();
        let blocks = measured.blocks.iter();
        let measured = Measured {
            fixed,
            blocks: blocks
                .map(|layer| numbers.by_ref().take(layer.len()).collect())
                .collect(),
        };
        self.checkpoints.latencies = Some(measured.clone());
        Ok(measured)
    }

    fn own_latencies(&mut self, network: &Network, student: &StudentSettings) -> Result<Measured, Error> {
        let batch = student.training.batch_size;
        // Blocks whose statistics never change are computed without batch norms.
        let bn_mode = student.bn_mode;
        let (input, threads) = (self.assignment.spec.reading.image_size, self.assignment.threads);
        let (arch, max_skip) = (self.backbone.name, network.architecture.max_skip);
        let (classes, layout) = (self.assignment.spec.classes.len(), self.layout);
        let key = format!("2 {arch} {max_skip} {classes} {input} {batch} {bn_mode:?} {layout:?} {threads}");
        let name = format!("{}.json", Digest::of(key.as_bytes()));
        let path = self.assignment.cache_dir.join(FOLDER).join(name);
        if let Some(measured) = read(&path) {
            return Ok(measured);
        }
        self.report.phase("measuring blocks");
        let measured = Measured {
            fixed: latency::fixed(network, input, batch)?.as_secs_f64() * 1e3,
            blocks: latency::blocks(network, input, batch)?,
        };
        write(&path, &measured).map_err(|source| Error::Cache { path, source })?;
        Ok(measured)
    }
}

/// A kept measurement; a file that is damaged or of another form is measured anew.
fn read(path: &Path) -> Option<Measured> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// The file appears complete: trainers of the same node may measure the same blocks at once.
fn write(path: &Path, measured: &Measured) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let partial: PathBuf = path.with_extension(format!("{}.partial", std::process::id()));
    std::fs::write(&partial, serde_json::to_vec(measured)?)?;
    std::fs::rename(&partial, path)
}
