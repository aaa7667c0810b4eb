//! The reference's own complexity (golden README), which its losses contain: no mode of the product.

use nettailor_domain::architecture::{Architecture, Gradient};

/// Value, and gradient on the attention, under these costs.
pub(crate) fn reference_complexity(costs: &[Vec<f64>]) -> impl Fn(&Architecture) -> (f64, Gradient) + '_ {
    |architecture| {
        let attention = architecture.attention();
        let last = attention.len();
        let source = |i: usize, j: usize| if j <= 1 { i } else { i + 1 - j };
        // I_(i-1) and O_(i+1), with I_(-1) = 1 and O_L = 1.
        let input = |layer: usize| -> f64 {
            if layer == 0 {
                1.0
            } else {
                attention[layer - 1].iter().map(|a| 1.0 - a).product()
            }
        };
        let readers = |node: usize| -> Vec<(usize, usize)> {
            let places = (0..last).flat_map(|i| (0..attention[i].len()).map(move |j| (i, j)));
            places.filter(|(i, j)| source(*i, *j) == node).collect()
        };
        let output = |node: usize| -> f64 {
            if node == last {
                1.0
            } else {
                readers(node)
                    .iter()
                    .map(|(i, j)| 1.0 - attention[*i][*j])
                    .product()
            }
        };
        let mut value = 0.0;
        let mut gradient: Gradient = costs.iter().map(|layer| vec![0.0; layer.len()]).collect();
        for (i, layer) in costs.iter().enumerate() {
            for (j, cost) in layer.iter().enumerate() {
                value += cost * (attention[i][j] - input(i) - output(i + 1));
                gradient[i][j] += cost;
                if i > 0 {
                    for (other, slot) in gradient[i - 1].iter_mut().enumerate() {
                        let rest = attention[i - 1].iter().enumerate().filter(|(n, _)| *n != other);
                        *slot += cost * rest.map(|(_, a)| 1.0 - a).product::<f64>();
                    }
                }
                for other in if i + 1 == last { Vec::new() } else { readers(i + 1) } {
                    let rest = readers(i + 1).into_iter().filter(|place| *place != other);
                    gradient[other.0][other.1] +=
                        cost * rest.map(|(i, j)| 1.0 - attention[i][j]).product::<f64>();
                }
            }
        }
        (value, gradient)
    }
}
