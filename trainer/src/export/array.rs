//! A plain tensor in row-major order, and the operators of a graph that only move, pair or add up values.
//!
//! Convolutions, products and the functions of single values are in [`ops::exact`](crate::ops::exact).

/// How many values a graph may still produce.
///
/// A few bytes of a file can ask for any size: an outer product of two long constants, a map joined with itself over and
/// over. Whoever makes a larger array out of smaller ones asks first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Values.
    pub(super) left: usize,
}

impl Room {
    /// The number of values of a shape, if there is room for them.
    pub(super) fn for_shape(&self, shape: &[usize]) -> Result<usize, String> {
        volume(shape)
            .filter(|count| *count <= self.left)
            .ok_or_else(|| format!("{shape:?} takes more than the {} values left", self.left))
    }

    /// The array, if there is room for another one like it.
    pub(super) fn for_another<'a, T>(&self, array: &'a Array<T>) -> Result<&'a Array<T>, String> {
        self.for_shape(&array.shape).map(|_| array)
    }
}

/// A tensor while a graph runs: `values` fill `shape` in row-major order. No axis is empty. Numbers are f32, quantised
/// ones bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<T = f32> {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<T>,
}

/// What a node can produce.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Numbers.
    Floats(Array),
    /// Quantised numbers: what a byte means is known to the nodes that read it.
    Bytes(Array<u8>),
}

impl Value {
    /// Sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Floats(array) => array.shape(),
            Self::Bytes(array) => array.shape(),
        }
    }

    /// The numbers, where they are f32.
    pub fn floats(&self) -> Option<&Array> {
        match self {
            Self::Floats(array) => Some(array),
            Self::Bytes(_) => None,
        }
    }

    /// The bytes of a quantised tensor.
    pub fn bytes(&self) -> Option<&Array<u8>> {
        match self {
            Self::Floats(_) => None,
            Self::Bytes(array) => Some(array),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Floats(array) => array.values.len(),
            Self::Bytes(array) => array.values.len(),
        }
    }
}

impl<T: Copy> Array<T> {
    /// `None` if the number of values is not that of the shape, or an axis is empty.
    pub fn new(shape: Vec<usize>, values: Vec<T>) -> Option<Self> {
        let fits = volume(&shape)? == values.len() && !values.is_empty();
        fits.then_some(Self { shape, values })
    }

    /// Sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values in row-major order.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// Splits the shape at `axis`: values before it, along it, after it.
    fn around(&self, axis: usize) -> Option<(usize, usize, usize)> {
        let along = *self.shape.get(axis)?;
        let before = self.shape[..axis].iter().product();
        Some((before, along, self.shape[axis + 1..].iter().product()))
    }

    pub(super) fn narrow(&self, axis: usize, from: usize, to: usize) -> Result<Self, String> {
        let bad = || format!("{from}..{to} of axis {axis} is not in {:?}", self.shape);
        let (before, along, after) = self.around(axis).ok_or_else(bad)?;
        if from >= to || to > along {
            return Err(bad());
        }
        let mut shape = self.shape.clone();
        shape[axis] = to - from;
        let block = |i: usize| &self.values[(i * along + from) * after..(i * along + to) * after];
        Ok(Self {
            shape,
            values: (0..before).flat_map(block).copied().collect(),
        })
    }

    pub(super) fn concat(parts: &[&Self], axis: usize, room: Room) -> Result<Self, String> {
        let shapes = || parts.iter().map(|p| p.shape.as_slice()).collect::<Vec<_>>();
        let bad = || format!("shapes {:?} do not join along axis {axis}", shapes());
        let mut shape = parts.first().ok_or_else(bad)?.shape.clone();
        let (before, ..) = parts[0].around(axis).ok_or_else(bad)?;
        shape[axis] = 0;
        for part in parts {
            let same = part.shape.len() == shape.len()
                && (0..shape.len()).all(|i| i == axis || part.shape[i] == shape[i]);
            if !same {
                return Err(bad());
            }
            shape[axis] = shape[axis].saturating_add(part.shape[axis]);
        }
        let mut values = Vec::with_capacity(room.for_shape(&shape)?);
        for i in 0..before {
            for part in parts {
                let block = part.values.len() / before;
                values.extend_from_slice(&part.values[i * block..(i + 1) * block]);
            }
        }
        Ok(Self { shape, values })
    }

    /// Puts axis `order[k]` at place `k`.
    pub(super) fn transpose(&self, order: &[i64]) -> Result<Self, String> {
        let rank = self.shape.len();
        let axes: Option<Vec<usize>> = order
            .iter()
            .map(|axis| usize::try_from(*axis).ok().filter(|axis| *axis < rank))
            .collect();
        let mut seen = vec![false; rank];
        let axes = axes.filter(|axes| {
            axes.iter().for_each(|axis| seen[*axis] = true);
            axes.len() == rank && seen.iter().all(|s| *s)
        });
        let axes =
            axes.ok_or_else(|| format!("permutation {order:?} of {:?} is not known", self.shape))?;
        let mut steps = vec![1; rank];
        for axis in (1..rank).rev() {
            steps[axis - 1] = steps[axis] * self.shape[axis];
        }
        let shape: Vec<usize> = axes.iter().map(|axis| self.shape[*axis]).collect();
        let mut at = vec![0; rank];
        let mut values = Vec::with_capacity(self.values.len());
        for _ in 0..self.values.len() {
            let from: usize = at.iter().zip(&axes).map(|(i, axis)| i * steps[*axis]).sum();
            values.push(self.values[from]);
            for place in (0..rank).rev() {
                at[place] += 1;
                if at[place] < shape[place] {
                    break;
                }
                at[place] = 0;
            }
        }
        Ok(Self { shape, values })
    }
}

impl Array {
    pub(super) fn map(&self, f: impl Fn(f32) -> f32) -> Self {
        Self {
            shape: self.shape.clone(),
            values: self.values.iter().map(|v| f(*v)).collect(),
        }
    }

    /// Applies `f` to pairs; axes of length one are repeated, missing leading ones added.
    pub(super) fn zip(
        &self,
        other: &Self,
        room: Room,
        f: impl Fn(f32, f32) -> f32,
    ) -> Result<Self, String> {
        if self.shape == other.shape {
            room.for_another(self)?;
            let pairs = self.values.iter().zip(&other.values);
            return Ok(Self {
                shape: self.shape.clone(),
                values: pairs.map(|(a, b)| f(*a, *b)).collect(),
            });
        }
        let rank = self.shape.len().max(other.shape.len());
        let aligned = |shape: &[usize]| [vec![1; rank - shape.len()], shape.to_vec()].concat();
        let (a, b) = (aligned(&self.shape), aligned(&other.shape));
        let mut shape = Vec::with_capacity(rank);
        for (a, b) in a.iter().zip(&b) {
            match (*a, *b) {
                (a, b) if a == b || b == 1 => shape.push(a),
                (1, b) => shape.push(b),
                _ => {
                    return Err(format!(
                        "shapes {:?} and {:?} do not fit",
                        self.shape, other.shape
                    ));
                }
            }
        }
        let (a, b) = (strides(&a), strides(&b));
        let Some((last, outer)) = shape.split_last() else {
            return Err("no axes".to_owned()); // both are scalars, and equal shapes were dealt with
        };
        let (step_a, step_b) = (a[rank - 1], b[rank - 1]);
        let mut values = Vec::with_capacity(room.for_shape(&shape)?);
        let mut place = vec![0; outer.len()];
        for _ in 0..outer.iter().product::<usize>() {
            let at = |strides: &[usize]| place.iter().zip(strides).map(|(i, s)| i * s).sum();
            let (mut at_a, mut at_b): (usize, usize) = (at(&a), at(&b));
            for _ in 0..*last {
                values.push(f(self.values[at_a], other.values[at_b]));
                at_a += step_a;
                at_b += step_b;
            }
            for (i, size) in place.iter_mut().zip(outer).rev() {
                *i += 1;
                if *i < *size {
                    break;
                }
                *i = 0;
            }
        }
        Ok(Self { shape, values })
    }

    /// Reduces rows and columns of `[N, C, H, W]`.
    pub(super) fn over_cells(&self, f: impl Fn(&[f32]) -> f32) -> Result<Self, String> {
        let [n, c, h, w] = self.shape[..] else {
            return Err(format!("{:?} is not a batch of maps", self.shape));
        };
        Ok(Self {
            shape: vec![n, c, 1, 1],
            values: self.values.chunks_exact((h * w).max(1)).map(f).collect(),
        })
    }

    pub(super) fn sum(&self, axis: usize) -> Result<Self, String> {
        let missing = || format!("{:?} has no axis {axis}", self.shape);
        let (before, along, after) = self.around(axis).ok_or_else(missing)?;
        let mut values = vec![0.0; before * after];
        for (block, sums) in values.chunks_exact_mut(after.max(1)).enumerate() {
            for i in 0..along {
                let from = &self.values[(block * along + i) * after..][..after];
                for (sum, value) in sums.iter_mut().zip(from) {
                    *sum += value;
                }
            }
        }
        let mut shape = self.shape.clone();
        shape[axis] = 1;
        Ok(Self { shape, values })
    }

    /// Shares along the last axis.
    pub(super) fn softmax(&self, axis: usize) -> Result<Self, String> {
        let length = match self.shape.last() {
            Some(length) if axis + 1 == self.shape.len() => *length,
            _ => {
                return Err(format!(
                    "a softmax over axis {axis} of {:?} is not known",
                    self.shape
                ));
            }
        };
        let mut values = Vec::with_capacity(self.values.len());
        for row in self.values.chunks_exact(length.max(1)) {
            let highest = row.iter().copied().fold(f32::MIN, f32::max);
            let total: f32 = row.iter().map(|v| (v - highest).exp()).sum();
            values.extend(row.iter().map(|v| (v - highest).exp() / total));
        }
        let shape = self.shape.clone();
        Ok(Self { shape, values })
    }
}

/// Number of values; `None` where it overflows.
pub(super) fn volume(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
}

/// Steps along each axis, zero along those of length one.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut step = 1;
    let mut strides: Vec<usize> = shape
        .iter()
        .rev()
        .map(|size| {
            let stride = if *size == 1 { 0 } else { step };
            step *= size;
            stride
        })
        .collect();
    strides.reverse();
    strides
}
