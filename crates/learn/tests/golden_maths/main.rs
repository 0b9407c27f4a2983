//! The maths of the trainers against PyTorch: `golden.json` holds inputs and torch's values and autograd gradients, made once by
//! `make_golden.py` beside it.

use hone_domain::Ranking;
use hone_learn::Params;
use hone_learn::schedule::{Decay, Schedule};
use hone_learn::{gae, losses, optim};
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("golden.json")).expect("golden.json is JSON")
}

fn list(v: &Value) -> Vec<f64> {
    v.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn number(v: &Value) -> f64 {
    v.as_f64().expect("a number")
}

/// Equal to `tolerance`, relative above 1 and absolute below.
fn close(got: &[f64], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance * w.abs().max(1.0), "{what}[{i}]: {g}, torch says {w}");
    }
}

#[test]
fn softplus_and_sigmoid() {
    let g = &golden()["softplus"];
    let x = list(&g["x"]);
    close(&x.iter().map(|&x| losses::softplus(x)).collect::<Vec<_>>(), &list(&g["softplus"]), 1e-14, "softplus");
    close(&x.iter().map(|&x| losses::sigmoid(x)).collect::<Vec<_>>(), &list(&g["sigmoid"]), 1e-14, "sigmoid");
}

#[test]
fn cross_entropy() {
    let g = &golden()["cross_entropy"];
    let logprobs = list(&g["logprobs"]);
    let loss = losses::cross_entropy(&logprobs, logprobs.len() as f64);
    close(&[loss.value], &[number(&g["value"])], 1e-14, "loss");
    close(&loss.grad, &list(&g["grad"]), 1e-14, "gradient");
}

#[test]
fn ranking_with_and_without_ties() {
    for (i, g) in golden()["ranking"].as_array().expect("cases").iter().enumerate() {
        let ranks: Vec<u32> = list(&g["ranks"]).iter().map(|&r| r as u32).collect();
        let pairs = Ranking::from_ranks(&ranks).expect("a ranking").pairs();
        let loss = losses::ranking(&list(&g["scores"]), &pairs);
        close(&[loss.value], &[number(&g["value"])], 1e-14, &format!("case {i} loss"));
        close(&loss.grad, &list(&g["grad"]), 1e-14, &format!("case {i} gradient"));
    }
}

#[test]
fn ranking_with_margins_and_label_smoothing() {
    for (i, g) in golden()["doubted_ranking"].as_array().expect("cases").iter().enumerate() {
        let ranks: Vec<u32> = list(&g["ranks"]).iter().map(|&r| r as u32).collect();
        let pairs = Ranking::from_ranks(&ranks).expect("a ranking").pairs();
        let loss = losses::ranking_with(&list(&g["scores"]), &pairs, &list(&g["margins"]), number(&g["smoothing"]));
        close(&[loss.value], &[number(&g["value"])], 1e-14, &format!("case {i} loss"));
        close(&loss.grad, &list(&g["grad"]), 1e-14, &format!("case {i} gradient"));
    }
}

#[test]
fn clipped_objective() {
    let g = &golden()["policy"];
    let new = list(&g["new"]);
    let n = new.len() as f64;
    let p = losses::ppo_policy(&new, &list(&g["old"]), &list(&g["advantages"]), number(&g["clip"]), n);
    close(&[p.loss.value], &[number(&g["value"])], 1e-14, "loss");
    close(&p.loss.grad, &list(&g["grad"]), 1e-14, "gradient");
    let want = [number(&g["approx_kl"]), number(&g["clip_fraction"]), number(&g["ratio"])];
    close(&[p.approx_kl, p.clip_fraction, p.ratio], &want, 1e-14, "statistics");
    assert!(p.clip_fraction > 0.1 && p.clip_fraction < 0.9, "both branches are covered");
}

#[test]
fn clipped_value_loss() {
    let g = &golden()["value"];
    let new = list(&g["new"]);
    let n = new.len() as f64;
    let v = losses::ppo_value(&new, &list(&g["old"]), &list(&g["returns"]), number(&g["clip"]), n);
    close(&[v.loss.value, v.clip_fraction], &[number(&g["value"]), number(&g["clip_fraction"])], 1e-14, "loss");
    close(&v.loss.grad, &list(&g["grad"]), 1e-14, "gradient");
}

#[test]
fn rewards_and_advantages() {
    let g = &golden()["gae"];
    let (logprobs, reference, values) = (list(&g["logprobs"]), list(&g["reference"]), list(&g["values"]));
    let pairs = || logprobs.iter().zip(&reference);
    let k1: Vec<f64> = pairs().map(|(&p, &r)| losses::kl_k1(p, r)).collect();
    let k3: Vec<f64> = pairs().map(|(&p, &r)| losses::kl_k3(p, r)).collect();
    close(&k1, &list(&g["k1"]), 1e-14, "k1");
    close(&k3, &list(&g["k3"]), 1e-14, "k3");
    let rewards = gae::token_rewards(&k1, number(&g["kl_coef"]), number(&g["score"]));
    close(&rewards, &list(&g["rewards"]), 1e-14, "rewards");
    let mut out = gae::gae(&rewards, &values, number(&g["gamma"]), number(&g["lambda"]));
    close(&out.advantages, &list(&g["advantages"]), 1e-14, "advantages");
    close(&out.returns, &list(&g["returns"]), 1e-14, "returns");
    let explained = gae::explained_variance(&values, &out.returns);
    close(&[explained], &[number(&g["explained_variance"])], 1e-12, "explained variance");
    gae::whiten(&mut out.advantages);
    close(&out.advantages, &list(&g["whitened"]), 1e-12, "whitened");
}

#[test]
fn adamw_with_clipping() {
    let g = &golden()["adamw"];
    let tensor = |v: &Value| {
        let data: Vec<f32> = list(v).iter().map(|&x| x as f32).collect();
        let mut p = Params::new();
        p.push("w", vec![data.len()], data);
        p
    };
    let mut w = tensor(&g["start"]);
    let mut adam = optim::AdamW::new(&w, number(&g["weight_decay"]));
    for step in g["steps"].as_array().expect("steps") {
        let mut grad = tensor(&step["grad"]);
        let norm = optim::clip_global_norm(&mut grad, number(&g["norm_max"]));
        close(&[norm], &[number(&step["norm"])], 1e-6, "norm");
        adam.step(&mut w, &grad, number(&g["learning_rate"])).expect("finite");
        let got: Vec<f64> = w.get("w").expect("w").data.iter().map(|&x| f64::from(x)).collect();
        close(&got, &list(&step["weights"]), 1e-6, "weights");
    }
}

#[test]
fn cosine_to_a_tenth() {
    let g = &golden()["schedule"];
    let want = list(&g["cosine"]);
    let s = Schedule {
        peak: number(&g["peak"]),
        floor: number(&g["floor"]),
        warmup_steps: 0,
        steps_total: want.len(),
        decay: Decay::Cosine,
    };
    close(&(0..want.len()).map(|i| s.rate(i)).collect::<Vec<_>>(), &want, 1e-12, "rates");
}
