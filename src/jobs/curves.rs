//! The history of a run's metrics, thinned out for drawing.

use hone_learn::metrics::{self, MetricsLine};
use std::collections::BTreeMap;
use std::path::Path;

/// Metric -> points of (step, value), in step order.
pub type Curves = BTreeMap<String, Vec<(u64, f64)>>;

/// The curves of the run in `run_dir`, each of at most `points_max` points (at least 2), the last one always among them.
/// A run that hasn't written anything yet, or whose folder was cleared away, has none.
#[must_use]
pub fn read(run_dir: &Path, points_max: usize) -> Curves {
    let lines = metrics::read(&run_dir.join("metrics.jsonl")).unwrap_or_default();
    let mut curves = by_metric(lines);
    curves.values_mut().for_each(|points| thin(points, points_max));
    curves
}

fn by_metric(lines: Vec<MetricsLine>) -> Curves {
    // A later line on the same step counts.
    let mut by_step: BTreeMap<String, BTreeMap<u64, f64>> = BTreeMap::new();
    for line in lines {
        for (name, value) in line.metrics {
            by_step.entry(name).or_default().insert(line.step as u64, value);
        }
    }
    by_step.into_iter().map(|(name, points)| (name, points.into_iter().collect())).collect()
}

/// Keeps every n-th point, and the last.
fn thin(points: &mut Vec<(u64, f64)>, points_max: usize) {
    let every = points.len().div_ceil(points_max.max(2) - 1).max(1);
    let last = points.len().saturating_sub(1);
    let mut i = 0;
    points.retain(|_| {
        i += 1;
        (i - 1) % every == 0 || i - 1 == last
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_is_a_curve_in_step_order() {
        let line = |step, name: &str, value| MetricsLine {
            step,
            phase: "train".into(),
            wall_seconds: 0.0,
            metrics: [(name.to_owned(), value)].into(),
        };
        let curves = by_metric(vec![line(2, "loss", 2.0), line(1, "loss", 3.0), line(2, "accuracy", 0.5)]);
        assert_eq!(curves["loss"], [(1, 3.0), (2, 2.0)]);
        assert_eq!(curves["accuracy"], [(2, 0.5)]);
    }

    #[test]
    fn thinning_keeps_the_last_point_and_the_bound() {
        for n in [1u64, 2, 9, 10, 11, 1000] {
            let mut points: Vec<_> = (0..n).map(|i| (i, 0.0)).collect();
            thin(&mut points, 10);
            assert!(points.len() <= 10, "{n} -> {}", points.len());
            assert_eq!(points.last().map(|p| p.0), Some(n - 1));
        }
    }
}
