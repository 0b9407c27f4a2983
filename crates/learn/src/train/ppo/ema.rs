//! A moving average of the policy (Ouyang et al. 2022, appendix C.4: decay 0.992 per iteration): steadier than any one policy of a noisy run.

use crate::params::Params;

/// average <- decay average + (1 - decay) new, tensor by tensor. The two matrices of an adapter are averaged each for itself, which is
/// close to the average of their products while policies are close.
pub(super) fn follow(average: &mut Params, new: &Params, decay: f64) {
    for (average, new) in average.iter_mut().zip(new.iter()) {
        for (a, &n) in average.data.iter_mut().zip(&new.data) {
            *a = (decay * f64::from(*a) + (1.0 - decay) * f64::from(n)) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_closes_the_gap_by_one_minus_decay() {
        let params = |x: f32| {
            let mut p = Params::new();
            p.push("w", vec![1], vec![x]);
            p
        };
        let mut average = params(0.0);
        (0..3).for_each(|_| follow(&mut average, &params(1.0), 0.5));
        assert_eq!(average, params(0.875));
    }
}
