//! Convolution, batch normalisation, residual and ReLU as one layer on a device: what [`crate::ops::ConvBn`] is there.

use candle_core::Result;

use super::conv::Plan;
use super::engine::{Engine, Span};
use super::norm::{Mask, Rows, Statistics};
use crate::ops::Precision;
use crate::ops::conv::Geometry;

/// What the backward pass needs of the forward pass.
pub(crate) struct Saved<B> {
    /// The convolution's result.
    u: B,
    coefficients: B,
}

/// The sizes of a layer, and how it computes.
pub(crate) struct Layer<'a> {
    g: &'a Geometry,
    plan: Plan<'a>,
    relu: bool,
}

/// Weights, gamma and beta, one after the other, as candle carries them.
#[derive(Clone, Copy)]
struct Parameters<'a> {
    weights: Span<'a>,
    gamma: Span<'a>,
    beta: Span<'a>,
}

/// Where gradients go.
pub(crate) struct Gradients<'a> {
    pub x: Option<Span<'a>>,
    /// Of weights, gamma and beta.
    pub parameters: Span<'a>,
    /// Only asked for behind a ReLU; without one it is the result's gradient.
    pub residual: Option<Span<'a>>,
}

impl<'a> Layer<'a> {
    pub(crate) fn new(g: &'a Geometry, precision: Precision, relu: bool) -> Self {
        Self {
            g,
            plan: Plan::new(g, precision),
            relu,
        }
    }

    fn rows(&self) -> Rows {
        Rows {
            rows: self.g.images * self.g.out_h * self.g.out_w,
            channels: self.g.outputs,
        }
    }

    fn len(&self) -> usize {
        self.g.images * self.g.out_len()
    }

    fn split<'s>(&self, parameters: Span<'s>) -> Result<Parameters<'s>> {
        let (weights, channels) = (self.g.weight_len(), self.g.outputs);
        Ok(Parameters {
            weights: parameters.words(0, weights)?,
            gamma: parameters.words(weights, channels)?,
            beta: parameters.words(weights + channels, channels)?,
        })
    }

    /// Fills `y`.
    pub(crate) fn forward<E: Engine>(
        &self,
        engine: &E,
        statistics: Statistics<'_>,
        x: Span<'_>,
        parameters: Span<'_>,
        residual: Option<Span<'_>>,
        y: Span<'_>,
    ) -> Result<Saved<E::Buffer>> {
        let p = self.split(parameters)?;
        let u = engine.allocate(self.len())?;
        self.plan.forward(engine, x, p.weights, engine.span(&u))?;
        let coefficients = self.rows().forward(
            engine,
            statistics,
            engine.span(&u),
            p.gamma,
            p.beta,
            residual,
            self.relu,
            y,
        )?;
        Ok(Saved { u, coefficients })
    }

    /// Fills `gradients`. `y` is the result, and read where a residual was added before the ReLU.
    #[expect(clippy::too_many_arguments, reason = "they are those of the layer")]
    pub(crate) fn backward<E: Engine>(
        &self,
        engine: &E,
        saved: &Saved<E::Buffer>,
        training: bool,
        x: Span<'_>,
        parameters: Span<'_>,
        has_residual: bool,
        y: Span<'_>,
        y_gradient: Span<'_>,
        gradients: &Gradients<'_>,
    ) -> Result<()> {
        let p = self.split(parameters)?;
        let mask = match (self.relu, has_residual) {
            (false, _) => Mask::All,
            (true, false) => Mask::Affine,
            (true, true) => Mask::Result(y),
        };
        let (rows, u) = (self.rows(), engine.span(&saved.u));
        let weights = self.g.weight_len();
        let affine = gradients.parameters.words(weights, 2 * self.g.outputs)?;
        let input = rows.affine_gradient(
            engine,
            training,
            u,
            y_gradient,
            mask,
            p.gamma,
            &saved.coefficients,
            affine,
        )?;
        // Straight in the words that the products take.
        let factor = self.plan.factor();
        let u_gradient = engine.allocate((self.len() * factor.bytes()).div_ceil(4))?;
        rows.input_gradient(
            engine,
            u,
            y_gradient,
            mask,
            &saved.coefficients,
            &input,
            factor,
            Some(engine.span(&u_gradient)),
            gradients.residual,
        )?;
        self.plan.backward(
            engine,
            x,
            p.weights,
            engine.span(&u_gradient),
            gradients.x,
            Some(gradients.parameters.words(0, weights)?),
        )
    }
}
