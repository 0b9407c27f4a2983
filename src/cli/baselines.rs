//! What `hone train ppo --baselines` shows: PPO beside RLOO, best-of-n and the policy that all of them start from.

use super::CliError;
use crate::jobs::{JobError, execute_run};
use crate::store::Store;
use crate::store::runs::Run;
use hone_learn::train::ppo::{BASELINES, Contender};

/// What a PPO run with `--baselines` left behind; `None` for any other run.
pub(super) fn of(run: &Run, store: &Store) -> Result<Option<Vec<Contender>>, CliError> {
    if run.config["settings"]["baselines"] != true {
        return Ok(None);
    }
    let path = execute_run::folder(store.data_dir(), &run.id).join(BASELINES);
    let text = std::fs::read(&path).map_err(JobError::file(&path))?;
    Ok(Some(serde_json::from_slice(&text)?))
}

/// The comparison as a table.
pub(super) fn side_by_side(all: &[Contender]) -> String {
    let head = format!(
        "{:<12} {:>8} {:>18} {:>8} {:>8} {:>7} {:>9} {:>9}\n",
        "held out", "reward", "95 % interval", "KL", "tokens", "ended", "seconds", "episodes"
    );
    let line = |c: &Contender| {
        let interval = format!("{:+.3} to {:+.3}", c.reward.low, c.reward.high);
        format!(
            "{:<12} {:>+8.3} {interval:>18} {:>8.2} {:>8.1} {:>5.0} % {:>9.1} {:>9}\n",
            c.name,
            c.reward.mean,
            c.kl_nats,
            c.response_tokens,
            100.0 * c.ended,
            c.seconds,
            c.episodes
        )
    };
    std::iter::once(head).chain(all.iter().map(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_learn::evaluate::Estimate;

    #[test]
    fn each_contender_has_a_line_under_its_columns() {
        let reward = Estimate { mean: 0.5, low: -0.25, high: 1.25 };
        let name = "best-of-8".to_owned();
        let one =
            Contender { name, reward, kl_nats: 1.2, response_tokens: 20.0, ended: 0.5, seconds: 3.0, episodes: 64 };
        let table = side_by_side(&[one.clone(), one]);
        let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
        assert!(widths.len() == 3 && widths.iter().all(|w| *w == widths[0]), "{table}");
        assert!(table.contains("+0.500   -0.250 to +1.250     1.20     20.0    50 %       3.0        64"), "{table}");
    }
}
