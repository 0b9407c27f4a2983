//! The gate's rules about suites, one a figure: no significant regression. Pure.

use super::{GateConfig, Rule};
use hone_learn::evaluate::Estimate;
use hone_learn::evaluate::suites::{Better, Change, Unit};

/// Refuses where the paired difference's 95 % interval lies wholly beyond the bound, on the worse side. So each figure refuses an equally
/// good policy with a chance of 2.5 % at most, less for the bound above 0. Nothing for a figure that is only there to be looked at.
pub(super) fn rule(change: &Change, config: &GateConfig) -> Option<Rule> {
    let Estimate { mean, low, high } = change.worse_by?;
    let max = match change.unit {
        Unit::Share => config.regression_share_max,
        Unit::Bits => config.regression_bits_max,
        Unit::Nats | Unit::Perplexity => config.regression_nats_max,
    };
    let is_enough = change.n >= config.regression_items_min;
    let wish = match change.better {
        Better::Higher => "higher is better",
        Better::Lower => "lower is better",
        Better::Half => "nearer to 0.5 is better",
        Better::Neutral => "neither is better",
    };
    let verdict = if is_enough {
        format!("it has regressed where the whole interval is above {max}")
    } else {
        format!("{} items are too few to call it a regression", change.n)
    };
    Some(Rule {
        name: format!("no_regression_{}", change.name),
        statistic: low,
        threshold: max,
        n: change.n,
        passed: !is_enough || low <= max,
        sentence: format!(
            "{} went from {:.4} to {:.4} ({wish}), worse by {mean:+.4} item by item (95 % interval {low:+.4} to {high:+.4}); {verdict}",
            change.name, change.old, change.new
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(unit: Unit, (low, high): (f64, f64)) -> Change {
        let worse_by = Estimate { mean: f64::midpoint(low, high), low, high };
        let difference = Estimate { mean: -worse_by.mean, low: -high, high: -low };
        let (name, better) = ("truthfulqa_mc1".to_owned(), Better::Higher);
        Change { name, old: 0.4, new: 0.3, difference, worse_by: Some(worse_by), better, unit, n: 200 }
    }

    fn passes(change: &Change) -> bool {
        rule(change, &GateConfig::default()).expect("a rule").passed
    }

    #[test]
    fn only_what_is_surely_worse_is_refused() {
        assert!(passes(&change(Unit::Share, (-0.05, 0.09))), "it may be luck");
        assert!(passes(&change(Unit::Share, (0.005, 0.05))), "it may be too little to matter");
        assert!(passes(&change(Unit::Share, (-0.2, -0.1))), "it is better");
        assert!(!passes(&change(Unit::Share, (0.02, 0.1))));
        assert!(passes(&change(Unit::Nats, (0.02, 0.1))), "a tax that is allowed");
        assert!(!passes(&change(Unit::Nats, (0.2, 0.3))));
        assert!(!passes(&change(Unit::Share, (f64::NAN, f64::NAN))), "what is no number is within no bound");
    }

    #[test]
    fn few_items_and_neutral_figures_refuse_nothing() {
        let few = Change { n: 19, ..change(Unit::Share, (0.2, 0.3)) };
        let said = rule(&few, &GateConfig::default()).expect("a rule");
        assert!(said.passed && said.sentence.contains("19 items are too few"), "{}", said.sentence);
        assert_eq!(rule(&Change { worse_by: None, ..few }, &GateConfig::default()), None);
    }
}
