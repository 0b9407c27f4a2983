//! The history of a run's metrics, thinned out for drawing. Reads `metrics.jsonl`: one JSON object a line, a number `step` and
//! the metrics beside it or under `metrics`.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Metric -> points of (step, value), in step order.
pub type Curves = BTreeMap<String, Vec<(u64, f64)>>;

/// The curves of the run in `run_dir`, each of at most `points_max` points (at least 2), the last one always among them.
/// A run that hasn't written anything yet has none. Lines that can't be read are passed over: the last one may be half there.
#[must_use]
pub fn read(run_dir: &Path, points_max: usize) -> Curves {
    let text = std::fs::read_to_string(run_dir.join("metrics.jsonl")).unwrap_or_default();
    let mut curves = parse(&text);
    curves.values_mut().for_each(|points| thin(points, points_max));
    curves
}

fn parse(text: &str) -> Curves {
    // A run that was killed and resumed repeats the steps since its checkpoint: the later line counts.
    let mut by_step: BTreeMap<String, BTreeMap<u64, f64>> = BTreeMap::new();
    for line in text.lines() {
        let Ok(Value::Object(line)) = serde_json::from_str::<Value>(line) else { continue };
        let Some(step) = line.get("step").and_then(Value::as_u64) else { continue };
        for (name, value) in numbers(&line) {
            by_step.entry(name.clone()).or_default().insert(step, value);
        }
    }
    by_step.into_iter().map(|(name, points)| (name, points.into_iter().collect())).collect()
}

fn numbers(line: &Map<String, Value>) -> impl Iterator<Item = (&String, f64)> {
    let nested = line.get("metrics").and_then(Value::as_object);
    let all = line.iter().chain(nested.into_iter().flatten());
    all.filter(|(name, _)| *name != "step").filter_map(|(name, value)| Some((name, value.as_f64()?)))
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
    fn resumed_runs_give_one_curve() {
        let text = "{\"step\":1,\"loss\":3.0}\n{\"step\":2,\"loss\":2.0}\n{\"step\":2,\"metrics\":{\"loss\":2.5}}\n{\"step\":3,\"lo";
        assert_eq!(parse(text)["loss"], [(1, 3.0), (2, 2.5)]);
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
