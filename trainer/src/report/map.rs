//! Points of any dimension on a page: the two directions of largest spread, by class.
//!
//! In: points, and the samples that they are of. Out: a [`Panel`].

use nalgebra::DMatrix;

use super::panels::{NamedPoints, Panel};
use crate::labelled::Samples;
use crate::linalg;

/// Points of a class that are drawn, at most.
const DRAWN_PER_CLASS: usize = 300;

/// A map of points, one a row.
pub fn map(title: &str, points: &DMatrix<f64>, samples: &Samples) -> Panel {
    let (values, vectors) = linalg::symmetric_eigen(&linalg::covariance(points));
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    let mean = linalg::column_means(points);
    let along = |row: usize, axis: Option<&usize>| {
        let axis = axis.map(|axis| vectors.column(*axis));
        axis.map_or(0.0, |axis| (points.row(row).transpose() - &mean).dot(&axis))
    };
    let classes = samples.by_class();
    let clouds = classes
        .iter()
        .enumerate()
        .filter(|(_, members)| !members.is_empty());
    Panel::Scatter {
        title: title.to_owned(),
        clouds: clouds
            .map(|(class, members)| NamedPoints {
                name: samples.class_name(class as u32).to_owned(),
                points: members
                    .iter()
                    .take(DRAWN_PER_CLASS)
                    .map(|i| (along(*i, order.first()), along(*i, order.get(1))))
                    .collect(),
            })
            .collect(),
        note: "The two directions of largest spread; one scale on both axes.".into(),
    }
}

/// The same of plain rows.
pub fn map_of_points(title: &str, points: &[Vec<f32>], samples: &Samples) -> Panel {
    let columns = points.first().map_or(0, Vec::len);
    let points = DMatrix::from_fn(points.len(), columns, |r, c| f64::from(points[r][c]));
    map(title, &points, samples)
}
