//! A row-by-row [`Product`] in the terms of cuBLAS, which counts column by column.
//!
//! What is `[rows, columns]` row by row is `[columns, rows]` column by column. So cuBLAS is asked for the transpose of
//! the product, `c^T = b^T * a^T`: factors swap places, and a factor that is stored untransposed needs no transposition.

use candle_core::{Result, bail};

use super::engine::{Product, Span};

/// Arguments of `cublasGemmEx`, under its names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gemm<'a> {
    pub a_transposed: bool,
    pub b_transposed: bool,
    pub m: i32,
    pub n: i32,
    pub k: i32,
    pub a: Span<'a>,
    pub lda: i32,
    pub b: Span<'a>,
    pub ldb: i32,
    pub c: Span<'a>,
    pub ldc: i32,
}

impl<'a> Gemm<'a> {
    pub(crate) fn new(product: &Product<'a>) -> Result<Self> {
        let size = |value: usize| match i32::try_from(value) {
            Ok(size) => Ok(size),
            Err(_) => bail!("cuda: a matrix of side {value} is too large for cuBLAS"),
        };
        Ok(Self {
            a_transposed: product.b.transposed,
            b_transposed: product.a.transposed,
            m: size(product.columns)?,
            n: size(product.rows)?,
            k: size(product.depth)?,
            a: product.b.memory,
            lda: size(product.b.pitch)?,
            b: product.a.memory,
            ldb: size(product.a.pitch)?,
            c: product.c,
            ldc: size(product.columns)?,
        })
    }
}
