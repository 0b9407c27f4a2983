//! The scheduler, stepped by hand over a real engine, a real tiny base model and real training processes.

use hone::interchange::import;
use hone::jobs::canary::CanaryConfig;
use hone::jobs::champions::{self, Champions};
use hone::jobs::evaluate_suites::SuiteSettings;
use hone::jobs::gate::GateConfig;
use hone::jobs::scheduler::{FailAt, Options, Scheduler, Tick};
use hone::jobs::triggers::{Retrain, Triggers};
use hone::jobs::{JobError, Jobs};
use hone::serving::{Serving, ServingConfig};
use hone::store::frozen;
use hone::store::jobs::{Job, JobKind, JobState};
use hone::store::policies::{self, Policy, PolicyState, PromotionKind};
use hone::store::runs::{self, RunKind, RunState};
use hone::store::{Store, StoreError};
use hone_domain::ids::{JobId, PolicyId};
use hone_engine_native::NativeEngine;
use hone_learn::tiny::{self, TinySpec};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A gate that lets everything pass that can be served.
fn open_gate() -> Value {
    json!({
        "reward_gain_min": -1e9, "judge_win_rate_min": -1.0, "judge_accuracy_min": -1e9, "judge_rankings_min": 2, "kl_nats_max": 1e9, "length_factor_max": 1e9, "prompts_min": 1,
        "equal_length_win_rate_min": -1.0, "reward_accuracy_min": -1.0,
        "regression_share_max": 1.0, "regression_bits_max": 1.0, "regression_nats_max": 1e9,
    })
}

/// A cycle of a few seconds.
fn quick(gate: &Value) -> Value {
    json!({
        "seed": 7,
        "sft": {"epochs": 1, "lora_r": 2},
        "reward": {"epochs": 1, "lora_r": 2},
        "ppo": {"total_episodes": 8, "batch_episodes": 8, "minibatch_episodes": 4, "inner_epochs": 1, "max_new_tokens": 8, "lora_r": 2},
        "evaluate": {"prompts_max": 4},
        "gate": gate,
        // With four prompts chance would often call an earlier policy the better one.
        "earlier_policies_max": 0,
    })
}

/// A data folder with a base model, and feedback in it.
fn data_folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temp dir");
    tiny::write(&dir.path().join("models/tiny"), &TinySpec::default()).expect("writes the base");
    let store = Store::open(dir.path()).expect("opens");
    add_rankings(&store, dir.path(), 0..30);
    dir
}

fn add_rankings(store: &Store, dir: &Path, numbers: std::ops::Range<usize>) {
    let line = |i| json!({"prompt": format!("question {i}"), "chosen": format!("yes {i}"), "rejected": "no"});
    import_lines(store, dir, numbers.map(line));
}

fn import_lines(store: &Store, dir: &Path, lines: impl Iterator<Item = Value>) {
    let text: Vec<String> = lines.map(|line| line.to_string()).collect();
    let path = dir.join("in.jsonl");
    std::fs::write(&path, text.join("\n")).expect("writes");
    // The store's blocking calls are for plain threads.
    std::thread::scope(|s| s.spawn(|| import::import(store, &[path], false)).join().expect("joins")).expect("imports");
}

/// A suite of 24 pairs in the data folder, as a server's settings name it.
fn suites(dir: &Path) -> SuiteSettings {
    let pair = |i: usize| json!({"sent_more": format!("some {i}"), "sent_less": format!("none {i}")}).to_string();
    let path = dir.join("pairs.jsonl");
    std::fs::write(&path, (0..24).map(pair).collect::<Vec<_>>().join("\n")).expect("writes");
    SuiteSettings { suites: [("crows_pairs".to_owned(), Some(path))].into(), classifier: None, suite_items_max: 20 }
}

/// A server without its HTTP part.
struct House {
    store: Store,
    jobs: Jobs,
    serving: Arc<Serving>,
    champions: Arc<Champions>,
    scheduler: Scheduler,
}

impl House {
    async fn open(dir: &Path, fail_at: Option<FailAt>) -> Self {
        Self::with_triggers(dir, fail_at, Triggers::default()).await
    }

    async fn with_triggers(dir: &Path, fail_at: Option<FailAt>, triggers: Triggers) -> Self {
        let store = Store::open(dir).expect("opens");
        let starting = store.clone();
        let engine = Arc::new(NativeEngine::new(1));
        let asked = Arc::clone(&engine);
        let files = move || champions::starting_files(&starting, "tiny", asked.as_ref());
        let files = tokio::task::spawn_blocking(files).await;
        let files = files.expect("a thread").expect("files");
        let serving = Serving::start(engine, &files, &ServingConfig::default()).await.expect("serves");
        let champions = Arc::new(Champions::new(store.clone(), Arc::clone(&serving)));
        champions.start().await.expect("starts");
        let program = env!("CARGO_BIN_EXE_hone").into();
        let lease = SignedDuration::from_millis(400);
        let jobs = Jobs::new(store.clone(), triggers.clone());
        let (gate, canary) = (GateConfig::default(), CanaryConfig::default());
        let suites = suites(dir).settings().expect("a file");
        let options = Options { program, triggers, gate, canary, suites, lease, fail_at };
        let scheduler = Scheduler::new(store.clone(), Arc::clone(&champions), options);
        Self { jobs, store, serving, champions, scheduler }
    }

    async fn ask(&self, kind: JobKind, params: Value) -> JobId {
        self.jobs.create(kind, params, "ada").await.expect("queues")
    }

    async fn job(&self, id: &JobId) -> Job {
        self.jobs.get(id).await.expect("reads").job
    }

    /// Ticks until `done` says so.
    async fn tick_until(
        &mut self,
        mut done: impl FnMut(&Scheduler, &Job) -> bool,
        id: &JobId,
    ) -> Result<Job, JobError> {
        let began = Instant::now();
        loop {
            if self.scheduler.tick().await? != Tick::Stepped {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let job = self.job(id).await;
            if done(&self.scheduler, &job) {
                return Ok(job);
            }
            assert!(began.elapsed() < Duration::from_secs(120), "stuck: {job:?}");
        }
    }

    async fn finish(&mut self, id: &JobId) -> Job {
        self.tick_until(|_, job| job.state.is_final(), id).await.expect("ticks")
    }

    async fn policies(&self) -> Vec<Policy> {
        self.store.read(policies::list).await.expect("reads")
    }

    fn served(&self) -> PolicyId {
        self.serving.live().id().clone()
    }
}

fn made_by(job: &Job) -> PolicyId {
    PolicyId::from_raw(job.work["policy"].as_str().expect("a policy"))
}

#[tokio::test]
async fn a_cycle_promotes_what_passes_and_it_can_be_rolled_back() {
    let dir = data_folder();
    let mut house = House::open(dir.path(), None).await;
    let line = json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]});
    import_lines(&house.store, dir.path(), std::iter::once(line));
    let id = house.ask(JobKind::Cycle, quick(&open_gate())).await;
    let job = house.finish(&id).await;
    assert_eq!((job.state, job.error.as_deref()), (JobState::Succeeded, None));
    let new = made_by(&job);
    assert_eq!(house.served(), new);
    let policy = house.policies().await.into_iter().find(|p| p.id == new).expect("listed");
    assert_eq!(policy.state, PolicyState::Champion);
    assert_eq!(policy.parent_id, Some(PolicyId::base("tiny")));
    let report = policy.gate_report.expect("a gate report");
    // The demonstration may be held out by its hash, and then has rules of its own.
    let rules = report["rules"].as_array().into_iter().flatten().filter_map(|rule| rule["name"].as_str());
    let rules: Vec<&str> = rules.filter(|name| !name.contains("demonstrations")).collect();
    let wanted = ["win_rate_at_equal_length", "judge_accuracy", "no_regression_crows_pairs_stereotype"];
    assert_eq!((rules.len(), &rules[6..9]), (10, &wanted[..]));
    assert_eq!(report["inputs"]["changes"].as_array().and_then(|all| all.last()).map(|c| &c["n"]), Some(&json!(20)));
    let view = house.jobs.get(&id).await.expect("reads");
    let kinds: Vec<RunKind> = view.phases.iter().map(|p| p.run.kind).collect();
    // The demonstration may be held out by its hash; everything else is fixed.
    assert!(kinds.ends_with(&[RunKind::Reward, RunKind::Judge, RunKind::Ppo, RunKind::Evaluate]), "{kinds:?}");
    let judged = view.phases.iter().find(|p| p.run.kind == RunKind::Evaluate).expect("an evaluation");
    let metrics = judged.run.metrics.as_ref().expect("figures");
    assert!(metrics["eval/crows_pairs_entropy"].is_number() && metrics["eval/crows_pairs_entropy_old"].is_number());
    let ppo = view.phases.iter().find(|p| p.run.kind == RunKind::Ppo).expect("a PPO run");
    assert!(ppo.curves.contains_key("objective/kl"), "{:?}", ppo.curves.keys());
    let log = house.jobs.log(&id, 1_000).await.expect("reads");
    let said = |kind, what: &str| log.iter().any(|line| line.phase == kind && line.text.contains(what));
    assert!(said(RunKind::Reward, "the base model is loaded") && said(RunKind::Ppo, "objective/kl"), "{log:?}");
    assert_eq!(house.jobs.log(&id, 1).await.expect("reads"), log[log.len() - 1..]);
    let page = house.jobs.decision(&new).await.expect("draws");
    for wanted in
        ["Whose preferences", "the 1 person whose", "<td>imports</td>", "What the reward model rewards", "Liked least"]
    {
        assert!(page.contains(wanted), "{wanted} is missing in {page}");
    }
    let told = serde_json::to_value(house.jobs.preferences(&new).await.expect("reads")).expect("JSON");
    let labelers = told["labelers"].as_object().into_iter().flatten().map(|(_, labeler)| &labeler["role"]);
    assert_eq!(labelers.collect::<Vec<_>>(), [&json!("imports")], "{told}");
    assert!(told["rewarded"]["most_liked"][0]["answer"].is_string(), "{told}");
    let none = house.jobs.preferences(&PolicyId::base("tiny")).await;
    assert!(matches!(none, Err(JobError::Store(StoreError::NotFound { .. }))), "{none:?}");

    house.champions.roll_back("ada").await.expect("rolls back");
    assert_eq!(house.served(), PolicyId::base("tiny"));
    let history = house.store.read(policies::promotions).await.expect("reads");
    let kinds: Vec<_> = history.iter().map(|p| p.kind).collect();
    assert_eq!(kinds, [PromotionKind::Start, PromotionKind::Promote, PromotionKind::Rollback]);
    // Somebody at the command line, while the server runs:
    let named = new.clone();
    house.store.write(move |tx| policies::promote(tx, &named, "command line")).await.expect("promotes");
    house.scheduler.tick().await.expect("ticks");
    assert_eq!(house.served(), new);
}

#[tokio::test]
async fn what_fails_the_gate_is_rejected_and_not_served() {
    let dir = data_folder();
    let mut house = House::open(dir.path(), None).await;
    let mut gate = open_gate();
    gate["reward_gain_min"] = json!(1e9);
    let id = house.ask(JobKind::Cycle, quick(&gate)).await;
    let job = house.finish(&id).await;
    assert_eq!(job.state, JobState::Rejected);
    assert!(job.error.as_ref().is_some_and(|e| e.contains("held-out prompts")), "{:?}", job.error);
    assert_eq!(house.served(), PolicyId::base("tiny"));
    let rejected = house.policies().await.into_iter().find(|p| p.id == made_by(&job)).expect("kept");
    let unjudged = Policy { state: PolicyState::Candidate, gate_report: None, ..rejected.clone() };
    assert!(matches!(champions::refuse_ungated(&unjudged), Err(JobError::Conflict(_))));
    assert_eq!(rejected.state, PolicyState::Rejected);
    assert!(matches!(house.champions.promote(&rejected.id, "ada").await, Err(JobError::Conflict(_))));

    // The same run judged by hand, with lower bounds: it passes, and waits for a person to promote it.
    let view = house.jobs.get(&id).await.expect("reads");
    let run = view.phases.iter().find(|p| p.run.kind == RunKind::Ppo).expect("a PPO run").run.id.clone();
    let id =
        house.ask(JobKind::Evaluate, json!({"run": run, "gate": open_gate(), "evaluate": {"max_new_tokens": 8}})).await;
    let job = house.finish(&id).await;
    assert_eq!((job.state, job.error.as_deref()), (JobState::Succeeded, None));
    let policy = house.policies().await.into_iter().find(|p| p.id == made_by(&job)).expect("listed");
    let inputs = &policy.gate_report.expect("a gate report")["inputs"];
    assert!(inputs["reward_accuracy"]["share"].is_number(), "of the other job's reward model: {inputs}");
    assert_eq!(house.served(), PolicyId::base("tiny"));
    house.champions.promote(&made_by(&job), "ada").await.expect("promotes");
    assert_eq!(house.served(), made_by(&job));
}

#[tokio::test]
async fn a_crash_at_any_step_loses_nothing_and_does_nothing_twice() {
    let dir = data_folder();
    for fail_at in [
        FailAt::JobStarted,
        FailAt::SnapshotTaken,
        FailAt::RunCreated,
        FailAt::ProcessStarted,
        FailAt::ProcessEnded,
        FailAt::PolicyNamed,
        FailAt::PolicyJudged,
        FailAt::Promoted,
    ] {
        let mut house = House::open(dir.path(), Some(fail_at)).await;
        let (policies_before, served_before) = (house.policies().await.len(), house.served());
        let id = house.ask(JobKind::Cycle, quick(&open_gate())).await;
        let crashed = house.tick_until(|_, job| job.state.is_final(), &id).await;
        assert!(matches!(crashed, Err(JobError::Planned(at)) if at == fail_at), "{fail_at:?}: {crashed:?}");
        assert_eq!(house.served(), served_before, "{fail_at:?}");
        drop(house);

        let mut house = House::open(dir.path(), None).await;
        let job = house.finish(&id).await;
        assert_eq!((job.state, job.error.as_deref()), (JobState::Succeeded, None), "{fail_at:?}");
        assert_eq!(house.served(), made_by(&job), "{fail_at:?}");
        assert_eq!(house.policies().await.len(), policies_before + 1, "{fail_at:?}: one new policy");
        let runs = house.jobs.get(&id).await.expect("reads").phases;
        let kinds: Vec<RunKind> = runs.iter().map(|p| p.run.kind).collect();
        assert_eq!(kinds, [RunKind::Reward, RunKind::Judge, RunKind::Ppo, RunKind::Evaluate], "{fail_at:?}");
        assert!(runs.iter().all(|p| p.run.state == RunState::Succeeded), "{fail_at:?}");
        let history = house.store.read(policies::promotions).await.expect("reads");
        assert_eq!(history.iter().filter(|p| p.policy_id == made_by(&job)).count(), 1, "{fail_at:?}");
    }
}

/// PPO is at work and has done a step.
fn in_ppo(scheduler: &Scheduler, job: &Job) -> bool {
    let steps = job.progress.as_ref().and_then(|p| p["step"].as_u64());
    job.phase == "ppo" && steps.is_some_and(|n| n > 0) && scheduler.process_id().is_some()
}

/// The iterations that PPO has told of.
async fn ppo_steps(house: &House, id: &JobId) -> Vec<u64> {
    let ppo = house.jobs.get(id).await.expect("reads").phases.remove(2);
    ppo.curves["objective/kl"].iter().map(|point| point.0).collect()
}

#[tokio::test]
async fn a_frozen_loop_stops_a_training_process_and_goes_on_with_it_when_thawed() {
    let dir = data_folder();
    let mut house = House::open(dir.path(), None).await;
    let mut params = quick(&open_gate());
    // So many iterations that the first is far from the last.
    params["ppo"]["total_episodes"] = json!(8 * 150);
    let id = house.ask(JobKind::Cycle, params).await;
    house.tick_until(in_ppo, &id).await.expect("ticks");
    house.store.write(|tx| frozen::set(tx, "holidays", "olga")).await.expect("freezes");
    for _ in 0..3 {
        assert_eq!(house.scheduler.tick().await.expect("ticks"), Tick::Idle);
        assert_eq!(house.scheduler.process_id(), None);
    }
    let (job, done) = (house.job(&id).await, ppo_steps(&house, &id).await);
    assert_eq!((job.state, job.phase.as_str()), (JobState::Running, "ppo"));
    assert!(done.len() < 150, "it stopped half-way: {done:?}");
    assert_eq!(house.served(), PolicyId::base("tiny"));
    house.store.write(frozen::end).await.expect("thaws");
    let job = house.finish(&id).await;
    assert_eq!((job.state, job.error.as_deref()), (JobState::Succeeded, None));
    assert_eq!(ppo_steps(&house, &id).await, (1..=150).collect::<Vec<_>>(), "every iteration once");
    assert_eq!(house.served(), made_by(&job));
}

#[tokio::test]
async fn a_killed_process_is_resumed_and_a_cancelled_one_stops() {
    let dir = data_folder();
    let mut house = House::open(dir.path(), None).await;
    // Long enough to be caught at it.
    let mut params = quick(&open_gate());
    params["ppo"]["total_episodes"] = json!(64);
    let id = house.ask(JobKind::Cycle, params.clone()).await;
    house.tick_until(in_ppo, &id).await.expect("ticks");
    let process = house.scheduler.process_id().expect("a process").to_string();
    let killed = std::process::Command::new("kill").args(["-9", &process]).status().expect("kills");
    assert!(killed.success());
    let job = house.finish(&id).await;
    assert_eq!((job.state, job.error.as_deref()), (JobState::Succeeded, None));
    assert_eq!(ppo_steps(&house, &id).await, (1..=8).collect::<Vec<_>>(), "every iteration once");

    params["ppo"]["total_episodes"] = json!(100_000);
    let id = house.ask(JobKind::Cycle, params).await;
    house.tick_until(in_ppo, &id).await.expect("ticks");
    house.jobs.cancel(&id).await.expect("asks");
    let job = house.finish(&id).await;
    assert_eq!(job.state, JobState::Cancelled);
    let run = house.jobs.get(&id).await.expect("reads").phases.remove(2).run;
    assert_eq!((run.kind, run.state), (RunKind::Ppo, RunState::Cancelled));
    assert_eq!(house.scheduler.process_id(), None);
    let checkpoints = dir.path().join("runs").join(run.id.as_str()).join("checkpoints");
    assert!(std::fs::read_dir(checkpoints).expect("lists").count() > 0, "it can be resumed");
}

#[tokio::test]
async fn what_cannot_work_fails_at_once_and_says_why() {
    let dir = tempfile::tempdir().expect("temp dir");
    tiny::write(&dir.path().join("models/tiny"), &TinySpec::default()).expect("writes the base");
    let mut house = House::open(dir.path(), None).await;
    for (kind, wanted) in [
        (JobKind::Cycle, "no rankings"),
        (JobKind::Sft, "no demonstrations"),
        (JobKind::Reward, "no rankings"),
        (JobKind::Ppo, "no prompts"),
        (JobKind::Evaluate, "no PPO run"),
    ] {
        let id = house.ask(kind, Value::Null).await;
        let job = house.finish(&id).await;
        assert_eq!(job.state, JobState::Failed);
        assert!(job.error.as_ref().is_some_and(|e| e.contains(wanted)), "{kind}: {:?}", job.error);
    }
    add_rankings(&house.store, dir.path(), 0..10);
    let id = house.ask(JobKind::Ppo, Value::Null).await;
    let job = house.finish(&id).await;
    assert!(job.error.as_ref().is_some_and(|e| e.contains("no reward model")), "{:?}", job.error);
    let queued = house.ask(JobKind::Sft, Value::Null).await;
    house.jobs.cancel(&queued).await.expect("cancels");
    assert_eq!(house.finish(&queued).await.state, JobState::Cancelled);
    assert!(house.store.read(|c| runs::list(c, 9)).await.expect("reads").is_empty(), "nothing was trained");
}

#[tokio::test]
async fn enough_new_rankings_start_a_cycle() {
    let dir = data_folder();
    let triggers = Triggers::new(&Retrain { min_new_rankings: Some(31), ..Retrain::default() }).expect("triggers");
    let mut house = House::with_triggers(dir.path(), None, triggers).await;
    assert_eq!(house.scheduler.tick().await.expect("ticks"), Tick::Idle);
    add_rankings(&house.store, dir.path(), 30..31);
    assert_eq!(house.scheduler.tick().await.expect("ticks"), Tick::Stepped);
    let job = house.jobs.list(1).await.expect("lists").remove(0);
    assert_eq!((job.kind, job.reason.as_str()), (JobKind::Cycle, "threshold"));
    // It fails for want of held-out prompts; that is no reason to start it again and again.
    assert_eq!(house.finish(&job.id).await.state, JobState::Failed);
    assert_eq!(house.scheduler.tick().await.expect("ticks"), Tick::Idle, "those have been learned from");
}
