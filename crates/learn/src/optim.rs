//! AdamW over named parameters, and clipping by the global norm. Everything it needs to go on is saved with a checkpoint.
//! Uses `Params` only.

use crate::LearnError;
use crate::params::Params;

/// First-moment decay (Ouyang et al. 2022).
const BETA1: f64 = 0.9;
/// Second-moment decay (Ouyang et al. 2022).
const BETA2: f64 = 0.95;
/// Added to the root of the bias-corrected second moment, as PyTorch does. TensorFlow adds it before the correction, which makes
/// it 1 / sqrt(1 - beta2^t) larger in effect: at 1e-5 the first steps differ visibly (Huang et al. 2024, arXiv 2403.17031).
const EPSILON: f64 = 1e-5;

/// AdamW (Loshchilov & Hutter 2019, algorithm 2):
/// m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= lr ( m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay w ).
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    /// Steps taken.
    pub step: u64,
    /// m, of the parameters' layout.
    pub first_moment: Params,
    /// v, of the parameters' layout.
    pub second_moment: Params,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl AdamW {
    /// Before the first step.
    #[must_use]
    pub fn new(params: &Params, weight_decay: f64) -> Self {
        Self { step: 0, first_moment: params.zeros_like(), second_moment: params.zeros_like(), weight_decay }
    }

    /// One step along `grads`, which must have the parameters' layout.
    ///
    /// # Errors
    /// A tensor without a gradient, or a gradient that isn't finite: nothing is changed then.
    pub fn step(&mut self, params: &mut Params, grads: &Params, learning_rate: f64) -> Result<(), LearnError> {
        check_gradients(params, grads)?;
        self.step += 1;
        let t = i32::try_from(self.step).unwrap_or(i32::MAX);
        let correction1 = 1.0 - BETA1.powi(t);
        let correction2 = 1.0 - BETA2.powi(t);
        let moments = self.first_moment.iter_mut().zip(self.second_moment.iter_mut());
        for ((param, grad), (m, v)) in params.iter_mut().zip(grads.iter()).zip(moments) {
            let values = param.data.iter_mut().zip(&grad.data);
            for ((w, &g), (m, v)) in values.zip(m.data.iter_mut().zip(v.data.iter_mut())) {
                let g = f64::from(g);
                let (m1, v1) =
                    (BETA1 * f64::from(*m) + (1.0 - BETA1) * g, BETA2 * f64::from(*v) + (1.0 - BETA2) * g * g);
                (*m, *v) = (m1 as f32, v1 as f32);
                let update = m1 / correction1 / ((v1 / correction2).sqrt() + EPSILON);
                *w = (f64::from(*w) - learning_rate * (update + self.weight_decay * f64::from(*w))) as f32;
            }
        }
        Ok(())
    }
}

/// Every trainable tensor has a gradient of its shape, and every number in it is finite. A gradient that was dropped on the way
/// would otherwise look like a model that doesn't learn.
fn check_gradients(params: &Params, grads: &Params) -> Result<(), LearnError> {
    for param in params.iter() {
        let Some(grad) = grads.get(&param.name) else {
            return Err(LearnError::ShapeMismatch {
                what: format!("the gradient of {}, which is missing,", param.name),
                expected: param.shape.clone(),
                found: Vec::new(),
            });
        };
        if grad.shape != param.shape {
            return Err(LearnError::ShapeMismatch {
                what: format!("the gradient of {}", param.name),
                expected: param.shape.clone(),
                found: grad.shape.clone(),
            });
        }
        if let Some(bad) = grad.data.iter().find(|g| !g.is_finite()) {
            return Err(LearnError::NonFinite { what: format!("the gradient of {} ({bad})", param.name) });
        }
    }
    Ok(())
}

/// Scales the gradients so that their global norm is at most `norm_max`; returns the norm before. A norm that isn't finite
/// leaves them alone: [`AdamW::step`] names the culprit.
pub fn clip_global_norm(grads: &mut Params, norm_max: f64) -> f64 {
    let squares = |p: &crate::params::Param| p.data.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
    let norm = grads.iter().map(squares).sum::<f64>().sqrt();
    if norm > norm_max && norm.is_finite() {
        let scale = (norm_max / norm) as f32;
        grads.iter_mut().for_each(|p| p.data.iter_mut().for_each(|g| *g *= scale));
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(data: &[f32]) -> Params {
        let mut p = Params::new();
        p.push("w", vec![data.len()], data.to_vec());
        p
    }

    fn data(p: &Params) -> &[f32] {
        &p.get("w").expect("w").data
    }

    #[test]
    fn the_first_step_is_the_learning_rate_in_the_gradients_direction() {
        let mut w = params(&[1.0, -1.0]);
        let mut adam = AdamW::new(&w, 0.0);
        adam.step(&mut w, &params(&[0.5, -2.0]), 0.1).expect("finite");
        assert!((data(&w)[0] - 0.9).abs() < 1e-5 && (data(&w)[1] + 0.9).abs() < 1e-5);
    }

    #[test]
    fn it_finds_the_minimum_of_a_parabola() {
        let mut w = params(&[5.0]);
        let mut adam = AdamW::new(&w, 0.0);
        for _ in 0..500 {
            let g = params(&[2.0 * (data(&w)[0] - 3.0)]);
            adam.step(&mut w, &g, 0.05).expect("finite");
        }
        assert!((data(&w)[0] - 3.0).abs() < 1e-2, "{:?}", data(&w));
    }

    #[test]
    fn a_gradient_that_is_missing_or_not_finite_changes_nothing() {
        let mut w = params(&[1.0]);
        let mut adam = AdamW::new(&w, 0.0);
        let missing = adam.step(&mut w, &Params::new(), 0.1).expect_err("no gradient");
        assert!(missing.to_string().contains("gradient of w"), "{missing}");
        assert!(adam.step(&mut w, &params(&[f32::NAN]), 0.1).is_err());
        assert!(adam.step(&mut w, &params(&[1.0, 2.0]), 0.1).is_err());
        assert_eq!((data(&w), adam.step), (&[1.0f32][..], 0));
    }

    #[test]
    fn clipping_keeps_the_direction() {
        let mut g = params(&[3.0, 4.0]);
        assert_eq!(clip_global_norm(&mut g, 1.0), 5.0);
        assert!((data(&g)[0] - 0.6).abs() < 1e-6 && (data(&g)[1] - 0.8).abs() < 1e-6);
        assert_eq!(clip_global_norm(&mut g, 10.0) as f32, 1.0);
    }
}
