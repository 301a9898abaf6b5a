//! Plain `f64` implementations that the operators are tested against: nothing clever, only the definitions.

/// `[N, H, W, C]` values.
pub(super) struct Images {
    pub shape: [usize; 4],
    pub values: Vec<f64>,
}

pub(super) fn conv2d(x: &Images, w: &Images, stride: usize, padding: usize) -> Images {
    let ([n, h, width, ci], [kh, kw, _, co]) = (x.shape, w.shape);
    let (oh, ow) = (
        (h + 2 * padding - kh) / stride + 1,
        (width + 2 * padding - kw) / stride + 1,
    );
    let mut values = vec![0.; n * oh * ow * co];
    for_taps(
        [n, oh, ow, co],
        [kh, kw, ci],
        [h, width],
        stride,
        padding,
        |out, pixel, tap| {
            for i in 0..ci {
                values[out] += x.values[pixel * ci + i] * w.values[(tap * ci + i) * co + out % co];
            }
        },
    );
    Images {
        shape: [n, oh, ow, co],
        values,
    }
}

/// Gradients of `sum(y * g)` with respect to images and weights.
pub(super) fn conv2d_grads(
    x: &Images,
    w: &Images,
    g: &Images,
    stride: usize,
    padding: usize,
) -> (Vec<f64>, Vec<f64>) {
    let ([_, h, width, ci], [kh, kw, _, co]) = (x.shape, w.shape);
    let (mut dx, mut dw) = (vec![0.; x.values.len()], vec![0.; w.values.len()]);
    for_taps(
        g.shape,
        [kh, kw, ci],
        [h, width],
        stride,
        padding,
        |out, pixel, tap| {
            for i in 0..ci {
                let weight = (tap * ci + i) * co + out % co;
                dx[pixel * ci + i] += g.values[out] * w.values[weight];
                dw[weight] += g.values[out] * x.values[pixel * ci + i];
            }
        },
    );
    (dx, dw)
}

/// Visits (result index, input pixel, kernel tap) of every product.
fn for_taps(
    [n, oh, ow, co]: [usize; 4],
    [kh, kw, _]: [usize; 3],
    [h, w]: [usize; 2],
    stride: usize,
    padding: usize,
    mut visit: impl FnMut(usize, usize, usize),
) {
    for out in 0..n * oh * ow * co {
        let (ox, oy, image) = (out / co % ow, out / co / ow % oh, out / co / ow / oh);
        for tap in 0..kh * kw {
            let (y, x) = (oy * stride + tap / kw, ox * stride + tap % kw);
            if (padding..h + padding).contains(&y) && (padding..w + padding).contains(&x) {
                visit(out, (image * h + y - padding) * w + x - padding, tap);
            }
        }
    }
}

/// Batch normalisation over rows of `gamma.len()` channels, and the gradient of `sum(y * g)` with respect to every
/// argument by central differences.
pub(super) struct BatchNorm<'a> {
    pub relu: bool,
    /// Constants (mean, variance), or the batch's own.
    pub frozen: Option<(&'a [f64], &'a [f64])>,
    pub epsilon: f64,
}

impl BatchNorm<'_> {
    /// `arguments`: x, gamma, beta and possibly a residual.
    pub(super) fn forward(&self, arguments: &[Vec<f64>]) -> Vec<f64> {
        let [x, gamma, beta, rest @ ..] = arguments else {
            panic!("x, gamma, beta")
        };
        let c = gamma.len();
        let rows = (x.len() / c) as f64;
        let mut y = vec![0.; x.len()];
        for channel in 0..c {
            let column = || x.iter().skip(channel).step_by(c);
            let (mean, variance) = match self.frozen {
                Some((mean, variance)) => (mean[channel], variance[channel]),
                None => {
                    let mean = column().sum::<f64>() / rows;
                    (
                        mean,
                        column().map(|x| (x - mean).powi(2)).sum::<f64>() / rows,
                    )
                }
            };
            for i in (channel..x.len()).step_by(c) {
                let value = gamma[channel] * (x[i] - mean) / (variance + self.epsilon).sqrt()
                    + beta[channel];
                let value = value + rest.first().map_or(0., |residual| residual[i]);
                y[i] = if self.relu { value.max(0.) } else { value };
            }
        }
        y
    }

    pub(super) fn gradients(&self, arguments: &[Vec<f64>], g: &[f64]) -> Vec<Vec<f64>> {
        let loss = |arguments: &[Vec<f64>]| -> f64 {
            self.forward(arguments)
                .iter()
                .zip(g)
                .map(|(y, g)| y * g)
                .sum()
        };
        let step = 1e-6;
        let mut moved = arguments.to_vec();
        (0..arguments.len())
            .map(|argument| {
                (0..arguments[argument].len())
                    .map(|i| {
                        let at = arguments[argument][i];
                        moved[argument][i] = at + step;
                        let above = loss(&moved);
                        moved[argument][i] = at - step;
                        let below = loss(&moved);
                        moved[argument][i] = at;
                        (above - below) / (2. * step)
                    })
                    .collect()
            })
            .collect()
    }
}
