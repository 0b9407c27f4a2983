//! What may not be gone on with is refused, and the refusal says why: another base, other settings, a changed snapshot, a damaged
//! checkpoint. What goes wrong on the way, a full disk or a loss that isn't finite, leaves the last good checkpoint.

use super::{Lab, SFT, files, json_of};
use hone_learn::tiny::TinySpec;
use std::path::Path;
use std::process::{Command, Output};

/// An SFT run that was killed by its own clock: two checkpoints are there, steps are left.
fn interrupted(lab: &Lab) -> String {
    let mut process = lab.training(&SFT).spawn().expect("starts");
    loop {
        let steps = std::fs::read_dir(lab.path("runs")).into_iter().flatten().flatten();
        let has_two = |dir: std::path::PathBuf| dir.join("checkpoints/step-000006").exists();
        if steps.map(|e| e.path()).any(has_two) {
            break;
        }
        assert!(process.try_wait().expect("a status").is_none(), "it ended before its second checkpoint was seen");
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
    process.kill().expect("kills");
    process.wait().expect("ends");
    lab.newest_run()["run"].as_str().expect("an id").to_owned()
}

/// Sets the first value of a tensor. The format: 8 bytes with the header's length, the header in JSON, the data.
fn poison(file: &Path, tensor: &str, value: f32) {
    let mut bytes = std::fs::read(file).expect("reads");
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"))).expect("small");
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
    let start = header[tensor]["data_offsets"][0].as_u64().expect("an offset");
    let at = 8 + length + usize::try_from(start).expect("small");
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    std::fs::write(file, bytes).expect("writes");
}

#[test]
fn a_run_does_not_go_on_with_another_base_snapshot_or_settings() {
    let lab = Lab::new();
    let run = interrupted(&lab);
    let resume = ["train", "resume", &run];
    let weights = lab.path("models/tiny/model.safetensors");
    let ours = std::fs::read(&weights).expect("reads");

    lab.write_base(&TinySpec { seed: 99, ..TinySpec::default() });
    let said = lab.refused(&resume);
    assert!(said.contains("base model"), "other weights, same name and shape: {said}");
    for tensor in ["model.layers.1.self_attn.k_proj.weight", "model.norm.weight", "lm_head.weight"] {
        std::fs::write(&weights, &ours).expect("writes");
        poison(&weights, tensor, 0.125);
        let said = lab.refused(&resume);
        assert!(said.contains("base model"), "one value of {tensor} is another: {said}");
    }
    std::fs::write(&weights, &ours).expect("writes");

    let database = rusqlite::Connection::open(lab.path("hone.db")).expect("opens");
    let set = |rate: f64| {
        let sql = "update runs set config_json = json_set(config_json, '$.settings.learning_rate', ?1) where id = ?2";
        assert_eq!(database.execute(sql, rusqlite::params![rate, run]).expect("updates"), 1);
    };
    set(0.5);
    let said = lab.refused(&resume);
    assert!(said.contains("settings"), "{said}");
    set(1e-2);

    let (snapshot, before) = files(&lab.path("snapshots")).into_iter().find(|(n, _)| n.contains("json")).expect("one");
    let snapshot = lab.path("snapshots").join(snapshot);
    std::fs::write(&snapshot, [before.as_slice(), b" "].concat()).expect("writes");
    let said = lab.refused(&resume);
    assert!(said.contains("changed") && said.contains("hash"), "{said}");
    std::fs::write(&snapshot, before).expect("writes");

    let steps = std::fs::read_dir(lab.run_dir(&run).join("checkpoints")).expect("lists");
    let last = steps.map(|e| e.expect("an entry").path()).filter(|p| !p.ends_with("tmp")).max().expect("a checkpoint");
    let (tensors, whole) = (last.join("tensors.safetensors"), std::fs::read(last.join("tensors.safetensors")));
    let whole = whole.expect("reads");
    std::fs::write(&tensors, &whole[..whole.len() / 2]).expect("writes");
    let said = lab.refused(&resume);
    assert!(said.contains("checkpoint"), "half a file: {said}");
    std::fs::write(&tensors, whole).expect("writes");

    let done = lab.ok(&resume);
    assert_eq!(done["run"], run.as_str(), "every refusal left the run as it was");
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_and_leaves_its_last_good_checkpoint() {
    let lab = Lab::new();
    // A base with one infinite weight: nothing can be learnt, and no checkpoint comes to be.
    let weights = lab.path("models/tiny/model.safetensors");
    let sound = std::fs::read(&weights).expect("reads");
    poison(&weights, "model.layers.0.mlp.up_proj.weight", f32::INFINITY);
    let output = lab.training(&SFT).output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not finite") && said.contains("step 1") && said.contains("NaN"), "{said}");
    let run = lab.newest_run();
    assert_eq!(run["state"], "failed");
    assert!(run["error"].as_str().is_some_and(|e| e.contains("not finite")), "{run}");

    // A rate that throws the weights out: the steps before are kept, the artifact of an earlier run is untouched.
    std::fs::write(&weights, sound).expect("writes");
    let wild = ["train", "sft", "--init", "base", "--set", "learning_rate=1e30", "--set", "warmup_steps=0"];
    let output = lab.training(&wild).output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not finite") && said.contains("learning rate"), "what it saw and what to do: {said}");
    let run = lab.newest_run();
    assert!(!lab.run_dir(run["run"].as_str().expect("an id")).join("artifact").exists(), "nothing half-good is left");
}

/// A shell that may mount: the test's own file systems, seen by nobody else. `None` where the system doesn't allow it.
fn shell_that_mounts(script: &str) -> Option<Output> {
    let unshare = |script: &str| Command::new("unshare").args(["-rm", "sh", "-ec", script]).output().ok();
    unshare("mount -t tmpfs -o size=64k none /mnt").filter(|o| o.status.success())?;
    unshare(script)
}

#[test]
fn a_full_disk_is_named_and_the_run_goes_on_when_there_is_room() {
    let lab = Lab::new();
    let whole = json_of(&lab.training(&SFT).args(["--init", "base"]).output().expect("starts"));
    let artifact = std::path::PathBuf::from(whole["artifact"].as_str().expect("a folder"));
    let quote = |command: &Command| {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|w| format!("'{}'", w.to_string_lossy())).collect::<Vec<_>>().join(" ")
    };
    let mut train = lab.training(&SFT);
    train.args(["--init", "base"]);
    let (small, out) = (lab.path("small"), lab.path("artifact-after"));
    std::fs::create_dir(&small).expect("makes a folder");
    // The runs of this shell lie on a disk that holds one checkpoint and not a second.
    let script = format!(
        "mount -t tmpfs -o size=SIZEk none {small}; cp -r {runs}/. {small}; mount --bind {small} {runs}
         if {train}; then echo 'it fitted'; exit 9; fi
         id=$({list} | sed 's/.*\"run\":\"\\([^\"]*\\)\".*/\\1/')
         ls {runs}/$id/checkpoints
         mount -o remount,size=64m {small}
         {hone} train resume $id
         cp -r {runs}/$id/artifact {out}",
        small = small.display(),
        runs = lab.path("runs").display(),
        train = quote(&train),
        list = quote(&lab.hone(&["train", "list", "--limit", "1"])),
        hone = quote(&lab.hone(&[])),
        out = out.display(),
    );
    let one = folder_kib(&lab.run_dir(whole["run"].as_str().expect("an id")));
    let script = script.replace("SIZE", &(one + 96).to_string());
    let Some(output) = shell_that_mounts(&script) else {
        println!("skipped: this system doesn't let a test mount a small file system");
        return;
    };
    let (stdout, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{said}");
    assert!(said.contains("no space left"), "{said}");
    assert!(stdout.contains("step-"), "a checkpoint is kept: {stdout}");
    assert!(files(&artifact) == files(&out), "the same bytes as on a disk with room");
}

/// What a folder takes on a file system with pages of 4 KiB.
fn folder_kib(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("lists").map(|e| e.expect("an entry").path());
    let kib = |p: std::path::PathBuf| {
        if p.is_dir() { folder_kib(&p) } else { std::fs::metadata(&p).expect("a size").len().div_ceil(4096) * 4 }
    };
    entries.map(kib).sum()
}
