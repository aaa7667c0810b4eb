//! Where everything stands. Units are SVG's pixels, y grows downwards.

use nettailor_domain::backbone::NodeShape;
use nettailor_domain::model::ModelRecord;

/// Distance of neighbouring nodes.
const PITCH: f64 = 94.0;
/// Space around everything.
pub(super) const MARGIN: f64 = 32.0;
/// Width of the boxes before node 0 and behind node L, and their distance from it.
pub(super) const END_BOX: f64 = 84.0;
const END_GAP: f64 = 54.0;
/// Height of the title and the figures.
const HEADER: f64 = 196.0;
/// Width that the figures need.
const LEAST_WIDTH: f64 = 1180.0;
/// Apex of an arch of skip 1 over the row, and how much higher each further skip goes.
const ARCH: f64 = 52.0;
const ARCH_STEP: f64 = 38.0;
/// From the row to the bottom of the bands, and from there to that of the legend.
const BELOW_ROW: f64 = 92.0;
const LEGEND: f64 = 64.0;

/// Radius of a node.
pub(super) const NODE_RADIUS: f64 = 13.0;
/// Width and height of a universal block.
pub(super) const BLOCK: (f64, f64) = (44.0, 40.0);

/// Nodes of one feature-map size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Band {
    pub(super) left: f64,
    pub(super) right: f64,
    /// Side of the feature map.
    pub(super) side: u32,
}

/// The places of one picture.
pub(super) struct Geometry {
    /// Shapes of the nodes 0..=L.
    pub(super) shapes: Vec<NodeShape>,
    /// Left end of the drawing.
    left: f64,
    width: f64,
    /// Longest skip of the architecture.
    max_skip: usize,
}

impl Geometry {
    pub(super) fn of(model: &ModelRecord) -> Self {
        let shapes = model
            .architecture
            .backbone
            .describe()
            .node_shapes(model.image_size);
        let drawing = (shapes.len() - 1) as f64 * PITCH + 2.0 * (END_BOX + END_GAP);
        let width = (drawing + 2.0 * MARGIN).max(LEAST_WIDTH);
        Self {
            shapes,
            left: (width - drawing) / 2.0,
            width,
            max_skip: model.architecture.max_skip,
        }
    }

    /// Width and height of the picture.
    pub(super) fn size(&self) -> (f64, f64) {
        (self.width, self.bands_bottom() + LEGEND)
    }

    /// The nodes' height.
    pub(super) fn row(&self) -> f64 {
        self.bands_top() + 34.0 + self.arch(self.max_skip.max(1))
    }

    /// Middle of node `n`.
    pub(super) fn node(&self, n: usize) -> f64 {
        self.left + END_BOX + END_GAP + n as f64 * PITCH
    }

    /// Middle of the universal block of layer `l` (from 1).
    pub(super) fn block(&self, l: usize) -> f64 {
        self.node(l) - PITCH / 2.0
    }

    /// How high the apex of a proxy stands over the row, if it skips `skip` blocks.
    pub(super) fn arch(&self, skip: usize) -> f64 {
        ARCH + (skip as f64 - 1.0) * ARCH_STEP
    }

    pub(super) fn bands_top(&self) -> f64 {
        HEADER
    }

    pub(super) fn bands_bottom(&self) -> f64 {
        self.row() + BELOW_ROW
    }

    /// Left edges of the boxes before node 0 and behind node L.
    pub(super) fn end_boxes(&self) -> (f64, f64) {
        (self.left, self.node(self.shapes.len() - 1) + END_GAP)
    }

    /// The groups of nodes of one feature-map size, from left to right.
    pub(super) fn bands(&self) -> Vec<Band> {
        let mut bands: Vec<Band> = Vec::new();
        for (n, shape) in self.shapes.iter().enumerate() {
            let (left, right) = (self.node(n) - PITCH / 2.0, self.node(n) + PITCH / 2.0);
            match bands.last_mut() {
                Some(band) if band.side == shape.side => band.right = right,
                _ => bands.push(Band {
                    left,
                    right,
                    side: shape.side,
                }),
            }
        }
        let (last, half) = (bands.len().saturating_sub(1), PITCH / 2.0 - NODE_RADIUS - 12.0);
        // Beyond the first and last node there is no block to make room for.
        if let Some(band) = bands.first_mut() {
            band.left += half;
        }
        if let Some(band) = bands.get_mut(last) {
            band.right -= half;
        }
        bands
    }
}
