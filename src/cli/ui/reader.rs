//! What the page shows, read from the daemon.
//!
//! The daemon is asked for no more than is looked at, and while Ceph is away not for what it would have
//! to ask Ceph for: each such question would wait, and be an error in its log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::kept::{Kept, Seen};
use crate::protocol::admin::Version;
use crate::protocol::client::{AdminClient, ClientError};
use crate::service::{Finding, Inspection, ScheduleView, SnapshotView, TaskView, VolumeView};
use crate::volume::VolumeName;

/// How long the list of volumes counts as new.
const VOLUMES_FRESH: Duration = Duration::from_secs(4);
/// The same of one volume's snapshots, and of what only its image knows.
const VOLUME_FRESH: Duration = Duration::from_secs(8);
/// The same of the doctor's findings, which are work for the daemon.
const FINDINGS_FRESH: Duration = Duration::from_secs(30);

/// How long the daemon may take for the list; it answers in 2 s whatever the cluster does.
const VOLUMES_LIMIT: Duration = Duration::from_secs(20);
/// And for what it asks the cluster for.
const CLUSTER_LIMIT: Duration = Duration::from_secs(60);

/// How long a person who looks waits for new answers.
const PATIENCE: Duration = Duration::from_millis(2500);
/// The same for the doctor, whose findings come when they come.
const PATIENCE_WITH_DOCTOR: Duration = Duration::from_millis(700);

/// Volumes of which more than the list has is kept at once.
const VOLUMES_KEPT: usize = 32;

/// The daemon's answers.
#[derive(Debug)]
pub(super) struct Reader {
    client: AdminClient,
    overview: Arc<Kept<Overview>>,
    findings: Arc<Kept<Vec<Finding>>>,
    volumes: Mutex<BTreeMap<VolumeName, Arc<Kept<Details>>>>,
}

/// What is known of all volumes.
#[derive(Debug)]
pub(super) struct Overview {
    pub(super) daemon: Version,
    pub(super) volumes: Vec<VolumeView>,
    pub(super) tasks: Vec<TaskView>,
    /// The schedules, by volume; none is there while the cluster is away.
    pub(super) schedules: BTreeMap<VolumeName, ScheduleView>,
    /// Why there are none.
    pub(super) schedules_error: Option<String>,
}

/// What is known of one volume besides.
#[derive(Debug)]
pub(super) struct Details {
    pub(super) inspection: Result<Inspection, String>,
    pub(super) snapshots: Result<Vec<SnapshotView>, String>,
}

impl Reader {
    pub(super) fn new(client: AdminClient) -> Self {
        Self {
            client,
            overview: Kept::new(VOLUMES_FRESH),
            findings: Kept::new(FINDINGS_FRESH),
            volumes: Mutex::default(),
        }
    }

    /// All volumes.
    pub(super) async fn overview(&self) -> Seen<Overview> {
        let client = self.client.clone().with_limit(VOLUMES_LIMIT);
        self.overview.look(PATIENCE, async move { overview(&client).await.map_err(said) }).await
    }

    /// What the doctor found.
    pub(super) async fn findings(&self) -> Seen<Vec<Finding>> {
        let client = self.client.clone().with_limit(CLUSTER_LIMIT);
        let ask = async move { client.doctor().await.map_err(said) };
        self.findings.look(PATIENCE_WITH_DOCTOR, ask).await
    }

    /// More of one volume that is on the list.
    pub(super) async fn details(&self, volume: &VolumeName) -> Seen<Details> {
        let client = self.client.clone().with_limit(CLUSTER_LIMIT);
        let name = volume.clone();
        let ask = async move {
            let (inspection, snapshots) =
                tokio::join!(client.inspect(name.as_str()), client.snapshots(name.as_str()));
            match (inspection.map_err(said), snapshots.map_err(said)) {
                // What was known before is better than nothing.
                (Err(error), Err(_)) => Err(error),
                (inspection, snapshots) => Ok(Details { inspection, snapshots }),
            }
        };
        self.kept_of(volume).look(PATIENCE, ask).await
    }

    fn kept_of(&self, volume: &VolumeName) -> Arc<Kept<Details>> {
        let mut kept = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= VOLUMES_KEPT && !kept.contains_key(volume) {
            kept.clear();
        }
        Arc::clone(kept.entry(volume.clone()).or_insert_with(|| Kept::new(VOLUME_FRESH)))
    }
}

async fn overview(client: &AdminClient) -> Result<Overview, ClientError> {
    let (daemon, volumes) = (client.version().await?, client.volumes().await?);
    let tasks = client.tasks().await?;
    let is_away = volumes.iter().any(|volume| volume.status.as_of.is_some());
    let is_scheduled =
        |volume: &VolumeView| volume.status.options.contains_key("snapshot-schedule");
    let schedules = match !is_away && volumes.iter().any(is_scheduled) {
        true => client.schedules().await,
        false => Ok(Vec::new()),
    };
    let (schedules, schedules_error) = match schedules {
        Ok(schedules) => (schedules, None),
        Err(error) => (Vec::new(), Some(said(error))),
    };
    let schedules = schedules.into_iter().map(|of| (of.volume.clone(), of)).collect();
    Ok(Overview { daemon, volumes, tasks, schedules, schedules_error })
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn said(error: ClientError) -> String {
    error.to_string()
}
