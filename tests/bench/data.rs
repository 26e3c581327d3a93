//! fio in a volume, at the path that a container gets, beside fio's own librbd engine on an image
//! of the same layout in the same pool.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::by_hand::run;
use crate::control::call;
use crate::daemon::{Daemon, Lab};

/// Name, fio's pattern, block size, read share of a mix.
const JOBS: [(&str, &str, &str, u32); 5] = [
    ("random write 8 KiB", "randwrite", "8k", 0),
    ("random read 8 KiB", "randread", "8k", 100),
    ("70:30 mix 8 KiB", "randrw", "8k", 70),
    ("sequential write 512 KiB", "write", "512k", 0),
    ("sequential read 512 KiB", "read", "512k", 100),
];

pub(crate) fn report(lab: &Lab, driver: &Daemon, seconds: u32) {
    let cached = json!({"size": "3G", "map-options": "rbd_cache=true"});
    one(lab, driver, seconds, "the volume", &json!({"size": "3G"}));
    one(lab, driver, seconds, "the volume with map-options=rbd_cache=true", &cached);
}

/// The same jobs in two folders.
pub(crate) fn beside(lab: &Lab, what: &str, volume: &Path, bare: &Path, seconds: u32) {
    let targets = [in_file(volume), in_file(bare)];
    for target in &targets {
        fio(lab, target, "fill", "write", "4m", 0, None);
    }
    print_head(what, "by hand", seconds);
    compare(lab, &targets, seconds);
    std::fs::remove_file(volume.join("data")).unwrap();
    std::fs::remove_file(bare.join("data")).unwrap();
}

fn print_head(what: &str, other: &str, seconds: u32) {
    println!("\nfio in {what}, {seconds} s a job, queue depth 16");
    println!("{:<26}{:>12}{other:>12}{:>8}", "", "volume", "ratio");
}

fn compare(lab: &Lab, [volume, other]: &[Vec<String>; 2], seconds: u32) {
    for (name, pattern, block, reads) in JOBS {
        let volume = fio(lab, volume, "job", pattern, block, reads, Some(seconds));
        let other = fio(lab, other, "job", pattern, block, reads, Some(seconds));
        let unit = if block == "512k" { "MiB/s" } else { "IOPS" };
        println!("{name:<26}{volume:>12.0}{other:>12.0}{:>8.2}  {unit}", volume / other);
    }
}

fn one(lab: &Lab, driver: &Daemon, seconds: u32, what: &str, options: &Value) {
    call(driver, "Create", &json!({"Name": "fio", "Opts": options}));
    let mounted = call(driver, "Mount", &json!({"Name": "fio", "ID": "fio"}));
    let folder = Path::new(mounted["Mountpoint"].as_str().unwrap()).to_owned();
    as_admin(lab, &["create", "--size", "2G", "rbd/fio-raw"]);
    let targets = [in_file(&folder), by_librbd()];
    // Both have their space written before anything is measured.
    for target in &targets {
        fio(lab, target, "fill", "write", "4m", 0, None);
    }
    print_head(what, "librbd", seconds);
    compare(lab, &targets, seconds);
    call(driver, "Unmount", &json!({"Name": "fio", "ID": "fio"}));
    call(driver, "Remove", &json!({"Name": "fio"}));
    as_admin(lab, &["rm", "--no-progress", "rbd/fio-raw"]);
}

fn in_file(folder: &Path) -> Vec<String> {
    let file = folder.join("data");
    let engine = ["--ioengine=libaio", "--direct=1", "--size=2G"].map(str::to_owned);
    engine.into_iter().chain([format!("--filename={}", file.display())]).collect()
}

fn as_admin(lab: &Lab, arguments: &[&str]) {
    run(Command::new("rbd").env("CEPH_CONF", lab.conf()).args(arguments));
}

/// fio's engine knows neither namespaces nor keyrings: the image lies in the pool's own namespace,
/// and is opened with the key that the configuration names.
fn by_librbd() -> Vec<String> {
    let engine = ["--ioengine=rbd", "--clientname=admin", "--pool=rbd", "--rbdname=fio-raw"];
    engine.into_iter().map(str::to_owned).collect()
}

/// One job: operations a second, or MiB a second where blocks are large.
fn fio(
    lab: &Lab,
    target: &[String],
    name: &str,
    pattern: &str,
    block: &str,
    reads: u32,
    seconds: Option<u32>,
) -> f64 {
    let mut command = Command::new("fio");
    // fio's engine reads no other name of the configuration than this.
    command.env("CEPH_CONF", lab.conf());
    command.args([format!("--name={name}"), format!("--rw={pattern}"), format!("--bs={block}")]);
    command.args(["--iodepth=16", "--output-format=json", "--randseed=1"]);
    if pattern == "randrw" {
        command.arg(format!("--rwmixread={reads}"));
    }
    if let Some(seconds) = seconds {
        command.args(["--time_based".to_owned(), format!("--runtime={seconds}")]);
    }
    command.args(target);
    let output = run(&mut command);
    let json: Value = serde_json::from_str(&output[output.find('{').unwrap()..]).unwrap();
    let sum = |field: &str| -> f64 {
        ["read", "write"].iter().map(|way| json["jobs"][0][way][field].as_f64().unwrap()).sum()
    };
    if block == "512k" { sum("bw") / 1024.0 } else { sum("iops") }
}
