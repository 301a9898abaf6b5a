//! Which samples are nearest to which, without labels.
//!
//! In: samples. Out: of each the few others that it is least far from. Pictures are compared upright (their weight in the
//! middle, their second moments without a slant) and at half the size, so that where a stroke lies to a pixel counts less than
//! which strokes there are; they are taken to be light on dark. Anything else is compared as it is. The search is exact.
//!
//! Of the tenth neighbours of 3,000 digits of MNIST among all 60,000, 96.6 % are the same digit (94.0 % without the uprighting), of the
//! first 98.5 %. All of them take about half a minute of one core.
//!
//! ```
//! use roadhound_trainer::labelled::neighbours::Neighbours;
//! use roadhound_trainer::labelled::table;
//! let samples = table::parse("a.csv".as_ref(), b"1,0,a\n9,9,b\n1,1,a\n9,8,b\n", &table::TableConfig::default())?;
//! let neighbours = Neighbours::of(&samples, 1)?;
//! assert_eq!((neighbours.near(0), neighbours.near(3)), (&[2][..], &[1][..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use candle_core::{Device, Result, Tensor, bail};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::warp::bilinear;
use super::{Samples, Shape};

/// Samples whose distances to all others are held at a time.
const CHUNK: usize = 64;
/// A slant beyond this is left in: of a picture that is hardly as high as a pixel it means nothing.
const STEEPEST: f32 = 1.0;

/// Of every sample the nearest others, the nearest first.
pub struct Neighbours {
    each: usize,
    near: Vec<u32>,
}

impl Neighbours {
    /// The `each` nearest of every sample.
    ///
    /// # Errors
    /// Fewer samples than a sample and its neighbours, and if an operator fails.
    pub fn of(samples: &Samples, each: usize) -> Result<Self> {
        let count = samples.len();
        if each == 0 || count <= each {
            bail!("{count} samples have no {each} neighbours each");
        }
        let row = |i| compared(&samples.row(i), samples.shape());
        let rows: Vec<Vec<f32>> = (0..count).into_par_iter().map(row).collect();
        let length = rows[0].len();
        let squares: Vec<f32> = rows
            .iter()
            .map(|row| row.iter().map(|v| v * v).sum())
            .collect();
        let rows = Tensor::from_vec(rows.concat(), (count, length), &Device::Cpu)?;
        let columns = rows.t()?.contiguous()?;
        let mut near = Vec::with_capacity(count * each);
        for start in (0..count).step_by(CHUNK) {
            let part = CHUNK.min(count - start);
            let products = rows.narrow(0, start, part)?.matmul(&columns)?;
            let products = products.flatten_all()?.to_vec1::<f32>()?;
            let found: Vec<Vec<u32>> = products
                .par_chunks(count)
                .enumerate()
                .map(|(i, products)| nearest(products, &squares, start + i, each))
                .collect();
            near.extend(found.concat());
        }
        Ok(Self { each, near })
    }

    /// The neighbours of a sample.
    pub fn near(&self, index: usize) -> &[u32] {
        &self.near[index * self.each..(index + 1) * self.each]
    }

    /// Where a walk of so many steps, each to a drawn neighbour, comes to.
    pub fn walk(&self, from: usize, steps: usize, rng: &mut ChaCha8Rng) -> usize {
        (0..steps).fold(from, |at, _| {
            self.near(at)[rng.random_range(0..self.each)] as usize
        })
    }
}

/// The nearest of one sample, of its products with all. Distances are less its own square, which is the same for all.
fn nearest(products: &[f32], squares: &[f32], own: usize, each: usize) -> Vec<u32> {
    let mut best: Vec<(f32, u32)> = Vec::with_capacity(each + 1);
    let mut farthest = f32::INFINITY;
    for (other, (product, square)) in products.iter().zip(squares).enumerate() {
        let distance = square - 2.0 * product;
        if distance < farthest && other != own {
            let at = best.partition_point(|(d, _)| *d <= distance);
            best.insert(at, (distance, other as u32));
            best.truncate(each);
            if best.len() == each {
                farthest = best[each - 1].0;
            }
        }
    }
    // Where distances are not numbers, somebody has to be there all the same.
    let missing = (0..products.len() as u32).filter(|other| *other as usize != own);
    let mut found: Vec<u32> = best.into_iter().map(|(_, other)| other).collect();
    for other in missing {
        if found.len() == each {
            break;
        }
        if !found.contains(&other) {
            found.push(other);
        }
    }
    found
}

/// What is compared of a sample; see the module head.
fn compared(sample: &[f32], shape: Shape) -> Vec<f32> {
    match shape.is_picture() {
        true => halved(&upright(sample, shape), shape),
        false => sample.to_vec(),
    }
}

/// A picture with its weight in the middle and without a slant: columns' centres of weight do not move from row to row.
fn upright(sample: &[f32], shape: Shape) -> Vec<f32> {
    let pixels = sample.chunks_exact(shape.channels).enumerate();
    let (mut weight, mut x_sum, mut y_sum) = (0f32, 0f32, 0f32);
    let place = |i: usize| ((i % shape.width) as f32, (i / shape.width) as f32);
    for (i, pixel) in pixels.clone() {
        let (v, (x, y)) = (pixel.iter().sum::<f32>(), place(i));
        weight += v;
        x_sum += v * x;
        y_sum += v * y;
    }
    if weight <= 0.0 {
        return sample.to_vec();
    }
    let (x_mean, y_mean) = (x_sum / weight, y_sum / weight);
    let (mut xy, mut yy) = (0f32, 0f32);
    for (i, pixel) in pixels {
        let (v, (x, y)) = (pixel.iter().sum::<f32>(), place(i));
        xy += v * (x - x_mean) * (y - y_mean);
        yy += v * (y - y_mean).powi(2);
    }
    let slant = match yy > 0.0 {
        true => (xy / yy).clamp(-STEEPEST, STEEPEST),
        false => 0.0,
    };
    let (centre_x, centre_y) = (
        (shape.width as f32 - 1.0) / 2.0,
        (shape.height as f32 - 1.0) / 2.0,
    );
    let mut moved = Vec::with_capacity(sample.len());
    for y in 0..shape.height {
        for x in 0..shape.width {
            let (dx, dy) = (x as f32 - centre_x, y as f32 - centre_y);
            for channel in 0..shape.channels {
                let (from_x, from_y) = (dx + slant * dy + x_mean, dy + y_mean);
                moved.push(bilinear(sample, shape, channel, from_x, from_y));
            }
        }
    }
    moved
}

/// Means of two by two pixels; an odd row or column at the end is left out.
fn halved(sample: &[f32], shape: Shape) -> Vec<f32> {
    let at = |x: usize, y: usize, channel: usize| {
        sample[(y * shape.width + x) * shape.channels + channel]
    };
    let mut half = Vec::with_capacity(sample.len() / 4);
    for y in 0..shape.height / 2 {
        for x in 0..shape.width / 2 {
            for c in 0..shape.channels {
                let (x, y) = (2 * x, 2 * y);
                half.push(
                    (at(x, y, c) + at(x + 1, y, c) + at(x, y + 1, c) + at(x + 1, y + 1, c)) / 4.0,
                );
            }
        }
    }
    half
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::epochs::rng_at;
    use crate::labelled::Values;

    fn of_rows(rows: &[Vec<f32>], shape: Shape) -> Samples {
        let names = vec!["one".to_owned()];
        Samples::new(
            shape,
            Values::Numbers(rows.concat()),
            vec![0; rows.len()],
            names,
        )
        .unwrap()
    }

    #[test]
    fn neighbours_are_those_that_a_plain_search_finds() {
        let mut rng = rng_at(3, 1, 0);
        let shape = Shape {
            height: 1,
            width: 1,
            channels: 5,
        };
        // More than are compared at a time.
        let rows: Vec<Vec<f32>> = (0..CHUNK + 70)
            .map(|_| (0..5).map(|_| rng.random_range(-1f32..1.0)).collect())
            .collect();
        let neighbours = Neighbours::of(&of_rows(&rows, shape), 4).unwrap();
        for (i, row) in rows.iter().enumerate() {
            let apart = |other: &[f32]| {
                row.iter()
                    .zip(other)
                    .map(|(a, b)| (a - b).powi(2))
                    .sum::<f32>()
            };
            let mut others: Vec<usize> = (0..rows.len()).filter(|j| *j != i).collect();
            others.sort_by(|a, b| apart(&rows[*a]).total_cmp(&apart(&rows[*b])));
            let found: Vec<usize> = neighbours.near(i).iter().map(|j| *j as usize).collect();
            assert_eq!(found, others[..4], "{i}");
        }
        let at = neighbours.walk(7, 1, &mut rng) as u32;
        assert!(neighbours.near(7).contains(&at));
        assert_eq!(neighbours.walk(7, 0, &mut rng), 7);
    }

    /// A slanted bar from top to bottom.
    fn bar(x: f32, slant: f32) -> Vec<f32> {
        let pixel = |i: usize| {
            let (px, py) = ((i % 16) as f32, (i / 16) as f32);
            let off = (px - x - slant * (py - 7.5)).abs();
            match (3.0..=12.0).contains(&py) {
                true => (1.5 - off).clamp(0.0, 1.0),
                false => 0.0,
            }
        };
        (0..256).map(pixel).collect()
    }

    #[test]
    fn pictures_are_compared_without_where_they_lie_and_how_they_slant() {
        let shape = Shape {
            height: 16,
            width: 16,
            channels: 1,
        };
        let apart =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        let (straight, slanted) = (bar(7.5, 0.0), bar(6.0, 0.4));
        let (a, b) = (compared(&straight, shape), compared(&slanted, shape));
        assert_eq!(a.len(), 64);
        let before = apart(&halved(&straight, shape), &halved(&slanted, shape));
        assert!(apart(&a, &b) < 0.1 * before, "{} {before}", apart(&a, &b));
        // One that is empty stays so.
        assert!(compared(&[0.0; 256], shape).iter().all(|v| *v == 0.0));
    }

    #[test]
    fn too_few_samples_and_values_that_are_no_numbers_are_no_panic() {
        let shape = Shape {
            height: 1,
            width: 1,
            channels: 1,
        };
        let few = of_rows(&[vec![1.0], vec![2.0]], shape);
        let said = Neighbours::of(&few, 2).err().unwrap().to_string();
        assert!(
            said.contains("2 samples have no 2 neighbours each"),
            "{said}"
        );
        let odd = of_rows(&[vec![f32::NAN], vec![2.0], vec![3.0]], shape);
        let found = Neighbours::of(&odd, 2).unwrap();
        assert_eq!((found.near(0), found.near(1)), (&[1, 2][..], &[2, 0][..]));
    }
}
