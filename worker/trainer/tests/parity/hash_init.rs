//! The reference's initialisation, which any language reproduces bit for bit.

use tch::Tensor;

fn fnv1a64(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// Number `index` of the stream `name`: in [-1, 1), exact in single precision.
fn unit(name: &str, index: u64, seed: u64) -> f32 {
    let step = 0x9E37_79B9_7F4A_7C15_u64;
    let mut z = fnv1a64(name)
        .wrapping_add(seed)
        .wrapping_add((index + 1).wrapping_mul(step));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    ((z >> 40) as f32 - 8_388_608.0) / 8_388_608.0
}

/// `center + half_width * unit`, with two roundings.
pub(crate) fn uniform(name: &str, shape: &[i64], seed: u64, center: f32, half_width: f32) -> Tensor {
    let count = shape.iter().product::<i64>() as u64;
    let values: Vec<f32> = (0..count)
        .map(|index| center + half_width * unit(name, index, seed))
        .collect();
    Tensor::from_slice(&values).view(shape)
}

/// Initial value of the reference's tensor `name`.
pub(crate) fn tensor(name: &str, shape: &[i64], seed: u64) -> Tensor {
    let (center, half_width) = match name.rsplit('.').next().unwrap() {
        "weight" if shape.len() > 1 => {
            let fan_in = shape[1..].iter().product::<i64>() as f64;
            (0.0, (3.0 / fan_in).sqrt() as f32)
        }
        "weight" => (1.0, 0.3),
        "bias" => (0.0, 0.2),
        "running_mean" => (0.0, 0.2),
        "running_var" => (1.0, 0.4),
        "alphas_params" => (0.0, 1.5),
        other => panic!("no rule for {other}"),
    };
    uniform(name, shape, seed, center, half_width)
}

/// `labels[i] = (7 i + 3) mod classes`.
pub(crate) fn labels(count: i64, classes: i64) -> Tensor {
    Tensor::from_slice(&(0..count).map(|i| (7 * i + 3) % classes).collect::<Vec<_>>())
}

#[test]
fn the_check_values_come_out() {
    assert_eq!(fnv1a64("input"), 0x1ebb_ae8f_5810_b65b);
    let units: Vec<f64> = (0..4).map(|index| f64::from(unit("input", index, 2))).collect();
    assert_eq!(
        units,
        [
            0.14816880226135254,
            -0.3807084560394287,
            0.18831586837768555,
            0.7052541971206665
        ]
    );
    let scores: Vec<f64> = Vec::try_from(tensor("layers.0.alphas_params", &[2], 0)).unwrap();
    assert_eq!(scores, [0.18933284282684326, -1.0354070663452148]);
    let stem: Vec<f64> = Vec::try_from(
        tensor("conv1.weight", &[64, 3, 7, 7], 0)
            .view([-1])
            .narrow(0, 0, 3),
    )
    .unwrap();
    assert_eq!(
        stem,
        [0.012878554873168468, 0.07004620879888535, -0.13630810379981995]
    );
}
