//! A run of many actions, killed at any instant: whoever stands by and `twin recover` put everything back, also side by side.

use std::process::Stdio;
use std::time::{Duration, Instant};

use twin::units::{Random, Seed};

use crate::sabotage::{clocks, mark_disks, picture, same, same_clocks};
use crate::support::{TestLab, full, qemu_directory, text, wait_for};

/// How many are tried.
const DEATHS: u64 = 60;
const SAMPLE: u64 = 2;

/// Everything is as before within this.
const RECOVERED: Duration = Duration::from_secs(180);

/// Actions of all kinds: inside a guest, in its nova-compute, in QEMU, in libvirt, and in this machine's own tables.
const MIXTURE: &str = r#"
schema: twin/scenario/v1
name: mixture
title: Many actions
variants: {only: {expect: {}}}
safety: {baseline: preferred}
probes: []
steps:
  - {id: reserve, do: {compute-reserve: {host: a, memory: 256MiB}}}
  - {id: file, do: {file-change: {host: a, path: /etc/hosts, content: "127.0.0.1 elsewhere"}}}
  - {id: slow, do: {net-emulate: {host: a, nic: "${nic.a.metal}", delay: 20ms}}}
  - {id: route, do: {policy-route: {host: a, from: "${address.a.provider}", via: "${gateway.provider}", nic: "${nic.a.provider}", table: 77}}}
  - {id: autostart, do: {host-autostart: {host: b, autostart: "on"}}}
  - id: inside
    together:
      - {id: stop, do: {process-signal: {host: a, process: mysqld, signal: stop}}}
      - {id: service, do: {service-stop: {host: b, service: apache2}}}
      - {id: balloon, do: {memory-balloon: {host: b, memory: 900MiB}}}
  - {id: narrow, do: {nic-bandwidth: {host: a, network: metal, rate-kbit: 4000}}}
  - {id: more, do: {nic-attach: {host: b, network: provider, address: "${free.provider}"}}}
  - {id: out, do: {nic-detach: {host: a, network: provider}}}
  - {id: forward, do: {forward-policy: {from: metal, to: provider, policy: refuse}}}
  - {id: names, do: {dns: {host: b, server: "${gateway.metal}", is: refuses}}}
  - {id: throttle, do: {disk-throttle: {host: a, rate: 8MiB}}}
  - {id: boot, do: {instance-boot: {host: a, flavor: nano, name: one-more}}}
  - {id: clock, do: {clock-step: {host: a, by: 90s}}}
  - {id: cut, do: {partition: {between: [a], and: [b]}}, for: 1s}
  - {id: calm, pause: 2s}
  - {id: release, do: {host-release: {host: b}}}
  - {id: on, do: {host-power: {host: b, power: "on"}}}
  - {id: kept, pause: 1s}
recover: {services: healthy, instances: as-before, within: 3m}
"#;

/// Runs that do nothing but take a baseline: the hosts stand still for it, and their clocks are as they were all the same.
fn many_runs_leave_the_clocks_alone(lab: &TestLab, directory: &std::path::Path) {
    const RUNS: usize = 4;
    let file = directory.join("calm.yaml");
    let (head, _) = MIXTURE.split_once("steps:").unwrap();
    std::fs::write(
        &file,
        format!("{head}steps: [{{id: calm, pause: 1ms}}]\nobserve: 0s\n"),
    )
    .unwrap();
    let before = clocks(lab);
    for _ in 0..RUNS {
        lab.done(&["scenario", &file.display().to_string()]);
    }
    for ((host, was), (_, now)) in before.iter().zip(clocks(lab)) {
        let off = (now - was) / 1000;
        println!("the clock of {host} is {off} ms from what it was {RUNS} runs ago");
        // One pause alone takes some 50 ms.
        assert!(off.abs() < 50, "{host}: {off} ms after {RUNS} runs");
    }
}

#[test]
fn a_run_killed_at_any_instant_is_put_back() {
    let lab = TestLab::new();
    lab.done(&["up", "tiny", "--wait", "services"]);
    let directory = qemu_directory("deaths");
    let file = directory.path().join("mixture.yaml");
    std::fs::write(&file, MIXTURE).unwrap();
    let arguments = ["scenario", &file.display().to_string()].map(str::to_owned);
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    many_runs_leave_the_clocks_alone(&lab, directory.path());
    mark_disks(&lab);
    let before = picture(&lab);
    let started = Instant::now();
    lab.done(&words);
    let whole = started.elapsed();
    same(&before, &picture(&lab), "a run that comes to its end");
    // Each run of the tests has instants of its own; the seed is told, to go through them again.
    let chosen = std::env::var("TWIN_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = chosen.unwrap_or_else(|| now.unwrap().as_secs());
    let mut random = Random::new(Seed(seed));
    // Fewer where several processes share them.
    let fewer = std::env::var("TWIN_DEATHS").ok();
    let fewer = fewer.and_then(|text| text.parse().ok());
    let deaths = fewer.unwrap_or(if full() { DEATHS } else { SAMPLE });
    for death in 0..deaths {
        let at = Duration::from_millis(random.below(u64::try_from(whole.as_millis()).unwrap()));
        let what = format!("TWIN_SEED={seed}: death {death} after {at:?} of {whole:?}");
        let told = clocks(&lab);
        let mut command = lab.command(&words);
        let spawned = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = spawned.unwrap();
        std::thread::sleep(at);
        child.kill().unwrap();
        child.wait().unwrap();
        // Beside whoever stands by. One that finds the other at work says so.
        let recovered = lab.run(&["recover"]);
        let said = text(&recovered.stdout) + &text(&recovered.stderr);
        let code = recovered.status.code();
        assert!(
            code == Some(0) || code == Some(4),
            "{what}: {code:?} {said}"
        );
        wait_for(
            &format!("{what}: nothing is open: {said}"),
            RECOVERED,
            || {
                let output = lab.run(&["--json", "status"]);
                let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
                (status["dirty"] == false).then_some(())
            },
        );
        let said = said + &lab.done(&["recover"]);
        same(&before, &picture(&lab), &what);
        same_clocks(&told, &clocks(&lab), &what);
        assert_eq!(
            lab.json(&["status"])["baselines"],
            serde_json::json!([]),
            "{what}: {said}"
        );
    }
    println!("deaths of a run: {deaths} at random instants of {whole:?}, seed {seed}");
}
