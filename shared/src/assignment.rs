//! Optimal assignment: who goes with whom so that the sum of costs is smallest.
//!
//! In: a table of costs, rows by columns, of any shape. Out: for each row its column. Every row is given one, or, where
//! there are more rows than columns, every column is given a row. There is one solver: metrics and association both use
//! it, and it is tested against trying everything.
//!
//! Shortest augmenting paths with potentials (Crouse, "On implementing 2D rectangular assignment algorithms", IEEE TAES
//! 2016; SciPy's `linear_sum_assignment` is the same), at most `rows² · columns` steps. Storage is kept from call to
//! call: nothing is allocated for a table that is no larger than what [`Assigner::with_capacity`] was told or than one
//! solved before.
//!
//! A pair that must not be is given the cost at which it is as well to leave both alone, and is thrown away afterwards:
//! what is left is then the best matching of any size.
//!
//! ```
//! use roadhound_shared::assignment::Assigner;
//!
//! let mut assigner = Assigner::with_capacity(2);
//! // The first row's favourite is the second one's as well, and the second has less to choose from.
//! let columns = assigner.solve(&[1.0, 2.0, 1.0, 9.0], 2, 2)?;
//! assert_eq!(columns, [Some(1), Some(0)]);
//! # Ok::<(), roadhound_shared::assignment::AssignmentError>(())
//! ```

use alloc::vec::Vec;

/// Why a table of costs cannot be solved.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum AssignmentError {
    /// The table is not rows by columns.
    #[error("{found} costs for {rows} rows of {columns}")]
    Size {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        columns: usize,
        /// Costs given.
        found: usize,
    },
    /// A cost is not a number, or too large for sums of it to be exact enough.
    #[error(
        "cost of row {row}, column {column} is {value}, expected at most {LARGEST_COST:e} either way"
    )]
    Cost {
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
        /// What stands there.
        value: f64,
    },
}

/// Costs go up to here, and down to the same below zero: their sums stay finite.
pub const LARGEST_COST: f64 = 1e100;

/// Nobody.
const NONE: u32 = u32::MAX;

/// The solver and its storage. What it answers depends on the last table alone.
#[derive(Clone, Debug, Default)]
pub struct Assigner {
    /// By column of the table: the answer.
    answer: Vec<Option<u32>>,
    /// By what there is less of ("few"): potential, partner, whether the path came by.
    few: Vec<Few>,
    /// By what there is more of ("many").
    many: Vec<Many>,
    /// Those of the many that the path has not reached.
    remaining: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Few {
    potential: f64,
    partner: u32,
    visited: bool,
}

#[derive(Clone, Copy, Debug)]
struct Many {
    potential: f64,
    /// Length of the shortest path to here.
    distance: f64,
    /// Last of the few on that path.
    from: u32,
    partner: u32,
    visited: bool,
}

impl Assigner {
    /// Storage for tables of up to `side` rows and columns.
    #[must_use]
    pub fn with_capacity(side: usize) -> Self {
        Self {
            answer: Vec::with_capacity(side),
            few: Vec::with_capacity(side),
            many: Vec::with_capacity(side),
            remaining: Vec::with_capacity(side),
        }
    }

    /// For each row its column, so that the costs add up to as little as can be.
    ///
    /// # Shapes
    /// `costs` is `[rows, columns]`, row by row. The answer has `rows` entries; `None` only where there are more rows
    /// than columns.
    ///
    /// # Errors
    /// A table of another size, a cost that is not a number or beyond [`LARGEST_COST`].
    pub fn solve<C: Copy + PartialOrd + Into<f64>>(
        &mut self,
        costs: &[C],
        rows: usize,
        columns: usize,
    ) -> Result<&[Option<u32>], AssignmentError> {
        if rows.checked_mul(columns) != Some(costs.len()) || rows.max(columns) >= NONE as usize {
            return Err(AssignmentError::Size {
                rows,
                columns,
                found: costs.len(),
            });
        }
        // What is not a number does not fit either.
        let fits = |cost: C| cost.into().abs() <= LARGEST_COST;
        // All of them first, which is done several at a time.
        let all_fit = costs.iter().fold(true, |all, &c| all & fits(c));
        if let Some(at) = costs.iter().position(|&c| !all_fit && !fits(c)) {
            return Err(AssignmentError::Cost {
                row: at / columns,
                column: at % columns,
                value: costs[at].into(),
            });
        }
        let (few, many) = (rows.min(columns), rows.max(columns));
        let upright = rows <= columns;
        self.few.clear();
        self.few.resize(
            few,
            Few {
                potential: 0.0,
                partner: NONE,
                visited: false,
            },
        );
        self.many.clear();
        self.many.resize(
            many,
            Many {
                potential: 0.0,
                distance: 0.0,
                from: NONE,
                partner: NONE,
                visited: false,
            },
        );
        if upright {
            let cheapest = |f: usize| first_smallest(&costs[f * columns..][..columns]);
            self.pair(|f, m| costs[f * columns + m].into(), cheapest);
        } else {
            let mut block = (NONE as usize, [0; TOGETHER]);
            let cheapest = |f: usize| {
                if block.0 != f / TOGETHER {
                    block = (
                        f / TOGETHER,
                        first_smallest_down(costs, columns, f / TOGETHER),
                    );
                }
                block.1[f % TOGETHER]
            };
            self.pair(|f, m| costs[m * columns + f].into(), cheapest);
        }
        self.answer.clear();
        if upright {
            let partners = self.few.iter().map(|f| Some(f.partner));
            self.answer.extend(partners);
        } else {
            let partners = self.many.iter().map(|m| m.partner);
            self.answer
                .extend(partners.map(|p| (p != NONE).then_some(p)));
        }
        Ok(&self.answer)
    }

    /// `cheapest` tells the first of those of the many that cost one of the few the least.
    fn pair(
        &mut self,
        cost: impl Fn(usize, usize) -> f64,
        mut cheapest: impl FnMut(usize) -> usize,
    ) {
        // Whoever is first to find their cheapest partner free has them: most do, and no path has to be looked for.
        for (f, entry) in self.few.iter_mut().enumerate() {
            let m = cheapest(f);
            entry.potential = cost(f, m);
            let partner = &mut self.many[m].partner;
            if *partner == NONE {
                (*partner, entry.partner) = (f as u32, m as u32);
            }
        }
        for start in 0..self.few.len() {
            if self.few[start].partner == NONE {
                self.place(start, &cost);
            }
        }
    }

    /// Gives one more of the few a partner; others may have to move.
    fn place(&mut self, start: usize, cost: impl Fn(usize, usize) -> f64) {
        for f in &mut self.few {
            f.visited = false;
        }
        for m in &mut self.many {
            (m.distance, m.visited) = (f64::INFINITY, false);
        }
        self.remaining.clear();
        self.remaining.extend(0..self.many.len() as u32);
        let (mut here, mut length) = (start, 0.0);
        let end = loop {
            self.few[here].visited = true;
            let base = length - self.few[here].potential;
            let (mut nearest, mut nearest_at, mut nearest_free) = (f64::INFINITY, 0, false);
            for (at, &m) in self.remaining.iter().enumerate() {
                let entry = &mut self.many[m as usize];
                let through_here = base + cost(here, m as usize) - entry.potential;
                if through_here < entry.distance {
                    (entry.distance, entry.from) = (through_here, here as u32);
                }
                // Of several equally near, one without a partner ends the path.
                let free = entry.partner == NONE;
                if entry.distance < nearest || (entry.distance == nearest && free && !nearest_free)
                {
                    (nearest, nearest_at, nearest_free) = (entry.distance, at, free);
                }
            }
            length = nearest;
            let m = self.remaining.swap_remove(nearest_at) as usize;
            self.many[m].visited = true;
            if nearest_free {
                break m;
            }
            here = self.many[m].partner as usize;
        };
        self.few[start].potential += length;
        for (at, f) in self.few.iter_mut().enumerate() {
            if f.visited && at != start {
                f.potential += length - self.many[f.partner as usize].distance;
            }
        }
        for m in &mut self.many {
            if m.visited {
                m.potential -= length - m.distance;
            }
        }
        let mut m = end;
        loop {
            let f = self.many[m].from as usize;
            self.many[m].partner = f as u32;
            let left = core::mem::replace(&mut self.few[f].partner, m as u32);
            if f == start {
                break;
            }
            m = left as usize;
        }
    }
}

/// Costs that are compared together, which a processor does at once.
const TOGETHER: usize = 16;

/// Place of the smallest; of equals, the first.
fn first_smallest<C: Copy + PartialOrd>(costs: &[C]) -> usize {
    let Some(&first) = costs.first() else {
        return 0;
    };
    let mut smallest = [first; TOGETHER];
    let parts = costs.chunks_exact(TOGETHER);
    let rest = parts.remainder();
    for part in parts {
        lower(&mut smallest, part);
    }
    let all = smallest.iter().chain(rest);
    let least = all.fold(first, |least, &c| if c < least { c } else { least });
    costs.iter().position(|c| *c == least).unwrap_or(0)
}

/// The same down each of the columns of one block of [`TOGETHER`].
fn first_smallest_down<C: Copy + PartialOrd>(
    costs: &[C],
    columns: usize,
    block: usize,
) -> [usize; TOGETHER] {
    let from = block * TOGETHER;
    let count = TOGETHER.min(columns - from);
    let rows = || costs.chunks_exact(columns).map(|row| &row[from..][..count]);
    let mut smallest = [costs[from]; TOGETHER];
    smallest[..count].copy_from_slice(&costs[from..][..count]);
    for row in rows().skip(1) {
        lower(&mut smallest, row);
    }
    core::array::from_fn(|k| {
        let is_least = |row: &[C]| row.get(k).is_some_and(|c| *c == smallest[k]);
        rows().position(is_least).unwrap_or(0)
    })
}

/// Each of the smallest so far against another cost.
#[inline]
fn lower<C: Copy + PartialOrd>(smallest: &mut [C; TOGETHER], costs: &[C]) {
    let mut compare = |costs: &[C]| {
        for (smallest, &c) in smallest.iter_mut().zip(costs) {
            *smallest = if c < *smallest { c } else { *smallest };
        }
    };
    match costs.first_chunk::<TOGETHER>() {
        // Of a length that is known.
        Some(whole) => compare(whole),
        None => compare(costs),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use alloc::string::ToString;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    /// The smallest sum there is, by trying everything.
    fn by_trying(costs: &[f64], rows: usize, columns: usize) -> f64 {
        fn least(cost: &dyn Fn(usize, usize) -> f64, few: usize, many: usize) -> f64 {
            fn go(
                cost: &dyn Fn(usize, usize) -> f64,
                at: usize,
                few: usize,
                taken: &mut [bool],
            ) -> f64 {
                if at == few {
                    return 0.0;
                }
                let mut best = f64::INFINITY;
                for m in 0..taken.len() {
                    if !taken[m] {
                        taken[m] = true;
                        best = best.min(cost(at, m) + go(cost, at + 1, few, taken));
                        taken[m] = false;
                    }
                }
                best
            }
            go(cost, 0, few, &mut vec![false; many])
        }
        if rows <= columns {
            least(&|f, m| costs[f * columns + m], rows, columns)
        } else {
            least(&|f, m| costs[m * columns + f], columns, rows)
        }
    }

    /// The solver's sum; checks that nobody is given twice and nobody is left out who could be served.
    fn solved(assigner: &mut Assigner, costs: &[f64], rows: usize, columns: usize) -> f64 {
        let answer = assigner.solve(costs, rows, columns).unwrap();
        assert_eq!(answer.len(), rows);
        let mut taken = vec![false; columns];
        let mut sum = 0.0;
        for (row, column) in answer.iter().enumerate() {
            let Some(column) = column else { continue };
            let column = *column as usize;
            assert!(!core::mem::replace(&mut taken[column], true));
            sum += costs[row * columns + column];
        }
        assert_eq!(
            taken.iter().filter(|t| **t).count(),
            rows.min(columns),
            "somebody was left out"
        );
        sum
    }

    #[test]
    fn an_empty_table_has_an_empty_answer() {
        let mut assigner = Assigner::default();
        assert_eq!(assigner.solve::<f64>(&[], 0, 0), Ok(&[][..]));
        assert_eq!(assigner.solve::<f64>(&[], 0, 5), Ok(&[][..]));
        assert_eq!(assigner.solve::<f64>(&[], 2, 0), Ok(&[None, None][..]));
    }

    #[test]
    fn among_equals_everybody_gets_their_own_number() {
        let mut assigner = Assigner::default();
        let answer = assigner.solve(&[0.0_f32; 12], 3, 4).unwrap();
        assert_eq!(answer, [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn tables_that_are_none_are_refused() {
        let mut assigner = Assigner::default();
        assert_eq!(
            assigner.solve(&[1.0], 2, 3),
            Err(AssignmentError::Size {
                rows: 2,
                columns: 3,
                found: 1
            })
        );
        let refused = assigner.solve(&[0.0, 0.0, 0.0, f64::INFINITY], 2, 2);
        assert_eq!(
            refused,
            Err(AssignmentError::Cost {
                row: 1,
                column: 1,
                value: f64::INFINITY
            })
        );
        assert_eq!(
            refused.unwrap_err().to_string(),
            "cost of row 1, column 1 is inf, expected at most 1e100 either way"
        );
    }

    #[test]
    fn a_worst_case_of_three_hundred_is_solved_exactly() {
        // Machol and Wien: cost i·j needs the longest paths. The best is to pair the largest with the smallest.
        let n = 300_usize;
        let costs: Vec<f64> = (0..n * n)
            .map(|at| ((at / n + 1) * (at % n + 1)) as f64)
            .collect();
        let best: f64 = (0..n).map(|i| ((i + 1) * (n - i)) as f64).sum();
        assert_eq!(solved(&mut Assigner::default(), &costs, n, n), best);
    }

    proptest! {
        #[test]
        fn the_sum_is_the_smallest_there_is(
            (rows, columns, costs) in (1..7_usize, 1..7_usize).prop_flat_map(|(rows, columns)| {
                // Few values, so that ties are common; and any values.
                let value = prop_oneof![(0..4_i32).prop_map(f64::from), -1e3..1e3_f64];
                (Just(rows), Just(columns), prop::collection::vec(value, rows * columns))
            })
        ) {
            // A solver that was used before answers as a fresh one.
            let mut used = Assigner::with_capacity(3);
            solved(&mut used, &[3.0, 1.0, 2.0, 5.0, 4.0, 9.0], 2, 3);
            let sum = solved(&mut used, &costs, rows, columns);
            let best = by_trying(&costs, rows, columns);
            prop_assert!((sum - best).abs() < 1e-9, "{} instead of {}", sum, best);
            let again = used.solve(&costs, rows, columns).unwrap().to_vec();
            let mut fresh = Assigner::default();
            prop_assert_eq!(fresh.solve(&costs, rows, columns).unwrap(), again);
        }
    }
}
