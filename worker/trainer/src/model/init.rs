//! Initial values of the tensors a task adds: a function of (seed, name), the same on every machine and for every order
//! in which modules are built.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{RngCore, SeedableRng};

/// How a new tensor starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Every element this value.
    Constant(f32),
    /// Independent, normal, mean 0, with this standard deviation.
    Normal(f32),
}

impl Init {
    /// `count` values for the tensor `name` under `seed`.
    pub fn values(self, seed: u64, name: &str, count: usize) -> Vec<f32> {
        match self {
            Self::Constant(value) => vec![value; count],
            Self::Normal(deviation) => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&seed.to_le_bytes());
                hasher.update(name.as_bytes());
                let mut key = [0; 16];
                hasher.finalize_xof().fill(&mut key);
                let mut generator = Pcg64Mcg::from_seed(key);
                let mut values = Vec::with_capacity(count + 1);
                while values.len() < count {
                    values.extend(normal_pair(&mut generator).map(|z| deviation * z as f32));
                }
                values.truncate(count);
                values
            }
        }
    }
}

/// Two independent standard normal numbers (Box and Muller).
fn normal_pair(generator: &mut impl RngCore) -> [f64; 2] {
    // 53 random bits; the first in (0, 1], so that its logarithm is finite.
    let mut uniform = || (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * uniform()).sin_cos();
    [radius * cos, radius * sin]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_values_have_the_asked_moments_and_depend_on_seed_and_name() {
        let values = Init::Normal(0.01).values(7, "proxies.1.0.conv.weight", 40_001);
        assert_eq!(values.len(), 40_001);
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / 40_001.0;
        let deviation = (values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 40_001.0).sqrt();
        assert!(mean.abs() < 2e-4, "mean {mean}");
        assert!((deviation - 0.01).abs() < 2e-4, "deviation {deviation}");
        assert_eq!(
            values,
            Init::Normal(0.01).values(7, "proxies.1.0.conv.weight", 40_001)
        );
        assert_ne!(
            values[..8],
            Init::Normal(0.01).values(8, "proxies.1.0.conv.weight", 8)[..]
        );
        assert_ne!(
            values[..8],
            Init::Normal(0.01).values(7, "proxies.1.1.conv.weight", 8)[..]
        );
    }
}
