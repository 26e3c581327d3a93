//! How the volumes are, looked up at a scrape.

use prometheus::{GaugeVec, IntCounter, IntGauge, Opts, Registry};

use crate::logging::VERSION;
use crate::protocol::Verbs;
use crate::service::{TaskView, VolumeView};
use crate::volume::is_scheduled;

/// Registers all of it, as it is now.
pub(super) fn register(registry: &Registry, verbs: &dyn Verbs) -> prometheus::Result<()> {
    let volumes = verbs.volumes();
    count(registry, &volumes)?;
    mounted(registry, volumes.iter().filter(|of| is_here(of)))?;
    scheduled(registry, volumes.iter().filter(|of| is_scheduled(&of.status.options)))?;
    tasks(registry, &verbs.tasks())?;
    let figures = verbs.figures();
    let up = IntGauge::new("cluster_up", "1: the cluster answers, as far as is known.")?;
    up.set(i64::from(!figures.cluster_is_away));
    registry.register(Box::new(up))?;
    let help = "Clients of other hosts that this daemon has shut out of the cluster.";
    let fences = IntCounter::new("fences_total", help)?;
    fences.inc_by(figures.fences);
    registry.register(Box::new(fences))?;
    gauges(registry, "build_info", "1, with the daemon's version.", &["version"])?
        .with_label_values(&[VERSION])
        .set(1.0);
    Ok(())
}

fn is_here(volume: &VolumeView) -> bool {
    !volume.status.mounts.is_empty() || volume.status.device.is_some()
}

fn count(registry: &Registry, volumes: &[VolumeView]) -> prometheus::Result<()> {
    let help = "Volumes of the cluster, by kind and state.";
    let all = gauges(registry, "volumes", help, &["kind", "state"])?;
    for volume in volumes {
        all.with_label_values(&[volume.status.kind.as_str(), &volume.status.state]).inc();
    }
    Ok(())
}

fn mounted<'a>(
    registry: &Registry,
    volumes: impl Iterator<Item = &'a VolumeView>,
) -> prometheus::Result<()> {
    let mounts = by_volume(registry, "volume_mounts", "Mount IDs of a volume on this host.")?;
    let size =
        by_volume(registry, "volume_size_bytes", "The size of a volume that is attached here.")?;
    let used =
        by_volume(registry, "volume_used_bytes", "Bytes used in a volume that is attached here.")?;
    let help = "1: the last work on a volume that is attached here failed.";
    let failing = by_volume(registry, "volume_failing", help)?;
    for volume in volumes {
        let (name, status) = ([volume.name.as_str()], &volume.status);
        mounts.with_label_values(&name).set(float(status.mounts.len() as u64));
        size.with_label_values(&name).set(float(status.size.bytes()));
        if let Some(bytes) = status.used {
            used.with_label_values(&name).set(float(bytes.bytes()));
        }
        failing.with_label_values(&name).set(f64::from(status.last_error.is_some()));
    }
    Ok(())
}

fn scheduled<'a>(
    registry: &Registry,
    volumes: impl Iterator<Item = &'a VolumeView>,
) -> prometheus::Result<()> {
    let count = by_volume(registry, "snapshots", "Snapshots of a volume that has a schedule.")?;
    let help = "When the newest snapshot of a volume that has a schedule was made.";
    let newest = by_volume(registry, "snapshot_newest_timestamp_seconds", help)?;
    let help = "1: the last attempt at a snapshot by the volume's schedule failed.";
    let failing = by_volume(registry, "schedule_failing", help)?;
    let paused = by_volume(registry, "schedule_paused", "1: the volume's schedule rests.")?;
    for volume in volumes {
        let (name, state) = ([volume.name.as_str()], &volume.status.snapshots);
        count.with_label_values(&name).set(float(state.count as u64));
        if let Some(last) = state.newest.last() {
            let at = last.created.as_duration().as_secs_f64();
            newest.with_label_values(&name).set(at);
        }
        failing.with_label_values(&name).set(f64::from(state.trouble.is_some()));
        paused.with_label_values(&name).set(f64::from(state.paused));
    }
    Ok(())
}

fn tasks(registry: &Registry, all: &[TaskView]) -> prometheus::Result<()> {
    let help = "Work that takes long and is under way here, by kind.";
    let running = gauges(registry, "tasks_running", help, &["kind"])?;
    for task in all.iter().filter(|task| task.end.is_none()) {
        running.with_label_values(&[task.what.as_str()]).inc();
    }
    Ok(())
}

fn by_volume(registry: &Registry, name: &str, help: &str) -> prometheus::Result<GaugeVec> {
    gauges(registry, name, help, &["volume"])
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<GaugeVec> {
    let gauges = GaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows no other numbers")]
fn float(number: u64) -> f64 {
    number as f64
}
