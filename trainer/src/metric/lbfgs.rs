//! L-BFGS (Nocedal 1980) with a backtracking line search: what the smooth objectives of this module are descended by.
//!
//! In: a function that gives value and gradient, and a point. Out: a point of no higher value. Nothing random.
//!
//! ```
//! use roadhound_trainer::metric::lbfgs::{Limits, minimise};
//! let bowl = |x: &[f64]| (x[0] * x[0] + 10.0 * x[1] * x[1], vec![2.0 * x[0], 20.0 * x[1]]);
//! let found = minimise(bowl, vec![3.0, -1.0], &Limits::default(), &mut |_, _| true);
//! assert!(found.iter().all(|v| v.abs() < 1e-5));
//! ```

use std::collections::VecDeque;

use super::Watch;

/// Pairs of steps and changes of the gradient that are remembered.
const MEMORY: usize = 12;
/// Share of the expected descent that a step has to reach.
const SUFFICIENT: f64 = 1e-4;
/// Halvings of a step that are tried.
const HALVINGS: i32 = 30;

/// When to end.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Steps at most.
    pub iterations: u64,
    /// Ends where the largest value of the gradient is below this.
    pub gradient: f64,
    /// Ends where a step changes the value by less than this share.
    pub change: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            iterations: 200,
            gradient: 1e-7,
            change: 1e-9,
        }
    }
}

/// Descends `objective` from `start`.
pub fn minimise(
    mut objective: impl FnMut(&[f64]) -> (f64, Vec<f64>),
    start: Vec<f64>,
    limits: &Limits,
    watch: &mut Watch<'_>,
) -> Vec<f64> {
    let mut x = start;
    let (mut value, mut gradient) = objective(&x);
    let mut memory: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::new();
    for iteration in 1..=limits.iterations {
        let steepest = gradient.iter().fold(0.0f64, |most, g| most.max(g.abs()));
        if steepest.is_nan() || steepest <= limits.gradient {
            break;
        }
        let mut direction = two_loops(&gradient, &memory);
        let mut slope = dot(&direction, &gradient);
        if slope.is_nan() || slope >= 0.0 {
            // Curvature that rounding has spoilt: start again from the gradient.
            memory.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = -dot(&gradient, &gradient);
        }
        // Without memory the gradient's length says nothing about the step's.
        let first = match memory.is_empty() {
            true => (1.0 / steepest).min(1.0),
            false => 1.0,
        };
        let accepted = (0..HALVINGS).find_map(|halved| {
            let by = first * 0.5f64.powi(halved);
            let moved: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + by * d).collect();
            let (reached, new_gradient) = objective(&moved);
            (reached <= value + SUFFICIENT * by * slope).then_some((moved, reached, new_gradient))
        });
        let Some((moved, reached, new_gradient)) = accepted else {
            if memory.is_empty() {
                break;
            }
            memory.clear();
            continue;
        };
        let step: Vec<f64> = moved.iter().zip(&x).map(|(a, b)| a - b).collect();
        let change: Vec<f64> = new_gradient
            .iter()
            .zip(&gradient)
            .map(|(a, b)| a - b)
            .collect();
        // Only positive curvature keeps the estimate of the Hessian definite.
        if dot(&step, &change) > 1e-12 * dot(&change, &change) {
            memory.push_back((step, change));
            if memory.len() > MEMORY {
                memory.pop_front();
            }
        }
        let gained = value - reached;
        (x, value, gradient) = (moved, reached, new_gradient);
        if !watch(iteration, value) || gained <= limits.change * value.abs().max(1e-12) {
            break;
        }
    }
    x
}

/// The direction of descent: the gradient through the remembered curvature (Nocedal's two loops).
fn two_loops(gradient: &[f64], memory: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.to_vec();
    let mut weights = Vec::with_capacity(memory.len());
    for (step, change) in memory.iter().rev() {
        let weight = dot(step, &q) / dot(step, change);
        add(&mut q, -weight, change);
        weights.push(weight);
    }
    if let Some((step, change)) = memory.back() {
        let scale = dot(step, change) / dot(change, change);
        q.iter_mut().for_each(|v| *v *= scale);
    }
    for ((step, change), weight) in memory.iter().zip(weights.into_iter().rev()) {
        let back = dot(change, &q) / dot(step, change);
        add(&mut q, weight - back, step);
    }
    q.iter_mut().for_each(|v| *v = -*v);
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, other: &[f64]) {
    for (to, other) in to.iter_mut().zip(other) {
        *to += factor * other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rosenbrock's valley: curved, narrow, lowest at (1, 1).
    fn valley(x: &[f64]) -> (f64, Vec<f64>) {
        let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
        let gradient = vec![-2.0 * a - 400.0 * b * x[0], 200.0 * b];
        (a * a + 100.0 * b * b, gradient)
    }

    #[test]
    fn a_curved_valley_is_followed_to_its_lowest_point() {
        let found = minimise(valley, vec![-1.2, 1.0], &Limits::default(), &mut |_, _| {
            true
        });
        assert!(found.iter().all(|v| (v - 1.0).abs() < 1e-4), "{found:?}");
    }

    #[test]
    fn the_value_never_rises_and_whoever_watches_can_end_it() {
        let mut values = Vec::new();
        minimise(valley, vec![-1.2, 1.0], &Limits::default(), &mut |_, v| {
            values.push(v);
            values.len() < 7
        });
        assert_eq!(values.len(), 7);
        assert!(values.windows(2).all(|w| w[1] <= w[0]));
    }

    #[test]
    fn a_function_that_is_not_a_number_ends_at_once() {
        let nan = |_: &[f64]| (f64::NAN, vec![f64::NAN]);
        assert_eq!(
            minimise(nan, vec![2.0], &Limits::default(), &mut |_, _| true),
            [2.0]
        );
    }
}
