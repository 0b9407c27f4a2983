//! Line charts as SVG text: scales, ticks, lines. Colours come from the page's stylesheet by class. Pure text, no IO.

use std::fmt::Write;

/// Points of (step, value), in step order.
pub type Points = Vec<(u64, f64)>;

/// A named line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// For the legend.
    pub name: &'static str,
    /// Its points; all values finite.
    pub points: Points,
}

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;
/// From so many points on a line is noise with a trend: the points are drawn faintly, their moving mean on top.
const SMOOTHED_FROM: usize = 60;

/// A chart of up to three lines. `label` is what it is called to people who don't see it.
#[must_use]
pub fn chart(label: &str, lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| line.points.iter());
    let (first, last) = range(all().map(|p| p.0 as f64));
    let ticks = ticks(range(all().map(|p| p.1)));
    let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
    let x = move |step: f64| LEFT + (step - first) / (last - first).max(1e-12) * (WIDTH - LEFT - RIGHT);
    let y = move |value: f64| HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM);
    let mut out =
        format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", super::escape(label));
    for tick in &ticks {
        let (y, text) = (y(*tick), number(*tick));
        let _ = write!(out, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/>", WIDTH - RIGHT);
        let _ = write!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", LEFT - 8.0, y + 3.5);
    }
    let middle = HEIGHT - 8.0;
    let _ = write!(out, "<text x=\"{LEFT}\" y=\"{middle}\">{first}</text>");
    let _ = write!(out, "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">step {last}</text>", WIDTH - RIGHT);
    for (i, line) in lines.iter().enumerate() {
        draw(&mut out, i + 1, &line.points, &|(step, value)| (x(step as f64), y(value)));
    }
    out + "</svg>"
}

fn draw(out: &mut String, series: usize, points: &[(u64, f64)], place: &dyn Fn((u64, f64)) -> (f64, f64)) {
    let path = |points: &[(u64, f64)]| {
        let at = |p: &(u64, f64)| place(*p);
        points.iter().map(at).map(|(x, y)| format!("{x:.1} {y:.1}")).collect::<Vec<_>>().join("L")
    };
    if points.len() >= SMOOTHED_FROM {
        let _ = write!(out, "<path class=\"s{series} raw\" d=\"M{}\"/>", path(points));
        let _ = write!(out, "<path class=\"s{series}\" d=\"M{}\"/>", path(&moving_mean(points)));
    } else if points.len() > 1 {
        let _ = write!(out, "<path class=\"s{series}\" d=\"M{}\"/>", path(points));
    }
    if let Some(&last) = points.last() {
        let (x, y) = place(last);
        let _ = write!(out, "<circle class=\"s{series}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\"/>");
    }
}

/// Each point's mean with its neighbours, a twentieth of the line to either side; fewer at the ends.
fn moving_mean(points: &[(u64, f64)]) -> Points {
    let reach = (points.len() / 20).max(1);
    let mean = |i: usize| {
        let near = &points[i.saturating_sub(reach)..points.len().min(i + reach + 1)];
        (points[i].0, near.iter().map(|p| p.1).sum::<f64>() / near.len() as f64)
    };
    (0..points.len()).map(mean).collect()
}

fn range(xs: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = xs.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

/// Round numbers around a range, three to six of them, at steps of 1, 2 or 5 times a power of ten.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    // A flat line gets room above and below.
    let room = if high - low > low.abs().max(high.abs()) * 1e-9 {
        0.0
    } else if low == 0.0 {
        1.0
    } else {
        low.abs() / 2.0
    };
    let (low, high) = (low - room, high + room);
    let rough = (high - low) / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= rough).unwrap_or(rough);
    let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
    (first..=last.max(first + 1)).map(|i| i as f64 * step).collect()
}

/// A number as short as it can be said: four digits that count.
#[must_use]
pub fn number(x: f64) -> String {
    let size = x.abs();
    if size < 1e-12 {
        return "0".into();
    }
    if !(1e-3..1e6).contains(&size) {
        let text = format!("{x:.3e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{power}", trimmed(digits));
    }
    let decimals = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
    trimmed(&format!("{x:.decimals$}")).to_owned()
}

fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_few_and_around_the_range() {
        for (low, high) in [(0.0, 1.0), (0.693, 2.31), (-3.2, 17.0), (1e-5, 2e-4), (5.0, 5.0), (0.0, 0.0), (-2.0, -2.0)]
        {
            let found = ticks((low, high));
            assert!((2..=7).contains(&found.len()), "{low}..{high}: {found:?}");
            assert!(
                found[0] <= low && found[found.len() - 1] >= high && found[0] < found[1],
                "{low}..{high}: {found:?}"
            );
        }
        assert_eq!(ticks((0.1, 0.9)).len(), 6);
    }

    #[test]
    fn numbers_are_short() {
        let said = [0.0, 0.25, 2.0, 1234.56, 0.000_05, 2e-4, -17.25, 1.5e7, 200_000.0].map(number);
        assert_eq!(said, ["0", "0.25", "2", "1235", "5e-5", "2e-4", "-17.25", "1.5e7", "200000"]);
    }

    #[test]
    fn a_line_goes_from_corner_to_corner() {
        let lines = [Line { name: "loss", points: vec![(1, 0.0), (2, 4.0)] }];
        let text = chart("<loss>", &lines);
        assert!(text.contains("d=\"M50.0 164.0L348.0 10.0\""), "{text}");
        assert!(text.contains("aria-label=\"&lt;loss&gt;\"") && text.contains("step 2"), "{text}");
        assert!(!chart("none", &[Line { name: "", points: vec![] }]).contains("NaN"));
    }

    #[test]
    fn long_lines_are_smoothed() {
        let noisy: Points = (0..100).map(|i| (i, if i % 2 == 0 { 1.0 } else { -1.0 })).collect();
        assert!(moving_mean(&noisy).iter().all(|p| p.1.abs() < 0.34));
        assert!(chart("x", &[Line { name: "x", points: noisy }]).contains("raw"));
    }
}
