//! `serve`: puts the layers together and runs until it is told to stop.
//!
//! ```text
//! settings ─▶ log ─▶ socket ─▶ cluster, host ─▶ service ─┬─▶ reconciler, every few seconds
//!                                                        └─▶ requests, until SIGTERM or SIGINT
//! ```
//!
//! * The socket comes before the service: of two daemons, the second ends there, and has not
//!   touched what the first one keeps on this host.
//! * Nothing waits for the cluster. While it is away the daemon starts, listens, and answers what
//!   it can; the reconciler catches up.
//! * A stop answers the requests in flight and leaves every volume mounted: containers go on
//!   without the daemon.
//! * SIGHUP does nothing. Settings are read at the start; a restart is cheap, and cuts nothing off.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use clap::ArgMatches;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use super::outcome::{Exit, Failure, Outcome};
use super::settings;
use crate::around::behind;
use crate::ceph::{Cluster, RadosCluster};
use crate::config::{MetricsAddress, Settings, peer_variables};
use crate::deadline::{Deadline, Stop};
use crate::logging::{self, VERSION};
use crate::protocol::socket::{DEFAULT_MODE, Listening, listen_on, passed_by_manager};
use crate::protocol::{Limits, Listeners, MetricsListener, serve};
use crate::service::{Service, ServiceSettings};
use crate::steps::{Stopwatch, watched};
use crate::system::{LinuxSettings, LinuxSystem, System};
use crate::volume::Location;

/// How long the reconciler is waited for after the last request has ended. It was told to end at
/// the signal; what it leaves undone, the next start does. Together with the time that requests
/// are given, it is less than the 10 s after which the engine kills a managed plugin.
const LAST_RECONCILE: Duration = Duration::from_millis(500);

/// How often it is looked whether what is held here still is: a host whose volume was taken has to
/// notice within seconds.
const HOLD_CHECK: Duration = Duration::from_secs(3);

/// How often the cluster is asked what time it is.
const CLOCK: Duration = Duration::from_secs(10);

/// How often it is looked what is due by the volumes' schedules.
const SCHEDULES: Duration = Duration::from_millis(500);

pub(super) fn run(matches: &ArgMatches) -> Result<Outcome, Failure> {
    let settings = settings::load(matches)?;
    logging::start(&settings.log);
    tracing::info!(version = VERSION, pid = std::process::id(), "docker-ceph started");
    warn_of_peers();
    let listeners = listeners(&settings)?;
    let service = open(&settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| failure("start the runtime", &error))?;
    let no_more_reconciling = Stop::default();
    let ended = look_after(&no_more_reconciling, &service, &settings);
    let verbs = Arc::clone(&service) as Arc<_>;
    let served = runtime.block_on(async {
        let shutdown = shutdown(no_more_reconciling.clone())?;
        tell_manager(&[NotifyState::Ready]);
        serve(listeners, verbs, limits(&settings), Stop::default(), shutdown).await
    });
    no_more_reconciling.stop();
    // An error says that the reconciler has ended, which is what is waited for.
    let _ = ended.recv_timeout(LAST_RECONCILE);
    service.close();
    // A verb that hangs in the cluster or the kernel must not hold up the end.
    runtime.shutdown_background();
    served.map_err(|error| failure("serve", &error))?;
    tracing::info!("docker-ceph stopped; volumes stay mounted");
    Ok(Outcome::default())
}

fn failure(step: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{step}: {error}"))
}

/// A variable of a driver that was here before, and means nothing now, is not passed over.
fn warn_of_peers() {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    for (variable, instead) in peer_variables(is_set) {
        tracing::warn!(variable, instead, "the variable of another driver is not read");
    }
}

/// Where the daemon is spoken to.
fn listeners(settings: &Settings) -> Result<Listeners, Failure> {
    let verbs = verb_listeners(settings)?;
    Ok(Listeners { verbs, metrics: settings.metrics.as_ref().and_then(metrics_listener) })
}

/// The sockets that systemd holds for us, or our own.
fn verb_listeners(settings: &Settings) -> Result<Vec<Listening>, Failure> {
    let passed = passed_by_manager().map_err(|error| failure("listen", &error))?;
    if !passed.is_empty() {
        tracing::info!(sockets = passed.len(), "listening on the service manager's sockets");
        return Ok(passed);
    }
    let socket = listen_on(&settings.socket, DEFAULT_MODE);
    let socket = socket.map_err(|error| failure("listen", &error))?;
    tracing::info!(socket = %settings.socket.display(), "listening");
    Ok(vec![socket])
}

/// Where metrics are asked for. Volumes are served without them where that cannot be.
fn metrics_listener(address: &MetricsAddress) -> Option<MetricsListener> {
    let listener = match address {
        MetricsAddress::Tcp(port) => MetricsListener::tcp(*port).map_err(|error| error.to_string()),
        MetricsAddress::Unix(path) => {
            MetricsListener::unix(path).map_err(|error| error.to_string())
        }
    };
    let told = listener.inspect(|_| tracing::info!(%address, "metrics can be asked for"));
    told.inspect_err(|error| tracing::error!(%address, error, "no metrics can be asked for")).ok()
}

fn open(settings: &Settings) -> Result<Arc<Service>, Failure> {
    let access = settings::access(&settings.ceph, None);
    let cluster: Arc<dyn Cluster> = Arc::new(RadosCluster::new(access));
    let system: Arc<dyn System> = Arc::new(host(settings)?);
    #[cfg(feature = "failpoints")]
    let (cluster, system) = crate::fault::wrap(cluster, system);
    let (cluster, system) = behind(&Arc::new(Stopwatch), cluster, system);
    Service::open(service_settings(settings), cluster, system)
        .map_err(|error| failure("open the folders", &error))
}

fn host(settings: &Settings) -> Result<LinuxSystem, Failure> {
    let (ceph, state) = (&settings.ceph, &settings.folders.state);
    let mut linux = LinuxSettings::new(state, &ceph.conf, &ceph.client_id);
    linux.keyring.clone_from(&ceph.keyring);
    LinuxSystem::new(linux).map_err(|error| failure("look at this host", &error))
}

fn service_settings(settings: &Settings) -> ServiceSettings {
    ServiceSettings {
        home: Location::from(&settings.home),
        state_folder: settings.folders.state.clone(),
        cache_folder: settings.folders.cache.clone(),
        mount_root: settings.folders.mount_root.clone(),
        mapper: settings.mapper,
        cephfs_own_key: settings.cephfs_own_key,
        defaults: settings.volumes.options.clone(),
        max_size: settings.volumes.max_size,
        bare_size_unit: settings.volumes.compatibility.bare_size_unit(),
        busy_wait: settings.times.busy_wait,
        fence_after: settings.times.fence_after,
        reference_grace: settings.times.reference_grace,
        clock_refresh: CLOCK,
        hooks_folder: settings.snapshots.hooks_folder.clone(),
        hook_limit: settings.snapshots.hook_limit,
        freeze_limit: settings.snapshots.freeze_limit,
        engine_socket: settings.snapshots.engine_socket.clone(),
    }
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        create: settings.times.create_deadline,
        mount: settings.times.mount_deadline,
        other: settings.times.call_deadline,
        undo: settings.times.call_deadline,
        ..Limits::default()
    }
}

/// What is done in the background, until `stop`: looks around at once and then after each
/// interval, and on a thread of its own looks whether what is held here still is, so that a long
/// unmount does not delay it. The receiver hears the end of both.
fn look_after(stop: &Stop, service: &Arc<Service>, settings: &Settings) -> mpsc::Receiver<()> {
    let limit = settings.times.mount_deadline;
    let (ended, hear) = mpsc::channel::<()>();
    let reconcile = |service: &Arc<Service>, deadline: &Deadline| service.reconcile(deadline);
    let check_holds = |service: &Arc<Service>, deadline: &Deadline| {
        service.listen();
        service.check_holds(deadline);
    };
    let serve_schedules =
        |service: &Arc<Service>, deadline: &Deadline| drop(service.serve_schedules(deadline));
    let interval = settings.times.reconcile_interval;
    repeat("reconciler", stop, service, (interval, limit), &ended, reconcile);
    let snapshot_limit = Limits::default().snapshot;
    repeat("scheduler", stop, service, (SCHEDULES, snapshot_limit), &ended, serve_schedules);
    repeat("check of holds", stop, service, (HOLD_CHECK, limit), &ended, check_holds);
    hear
}

/// Does something at once and then after each pause, with a time limit for each, until `stop`.
fn repeat(
    what: &'static str,
    stop: &Stop,
    service: &Arc<Service>,
    (pause, limit): (Duration, Duration),
    ended: &mpsc::Sender<()>,
    act: impl Fn(&Arc<Service>, &Deadline) + Send + 'static,
) {
    let (stop, service, ended) = (stop.clone(), Arc::clone(service), ended.clone());
    thread::spawn(move || {
        let _ended = ended;
        while !stop.is_stopped() {
            let deadline = Deadline::with_stop(limit, stop.clone());
            let work = || watched(|| act(&service, &deadline));
            let span = tracing::info_span!("background", what);
            if catch_unwind(AssertUnwindSafe(|| span.in_scope(work))).is_err() {
                tracing::error!(what, "panicked; it is tried again");
            }
            // The pause is over, or the stop has come: the loop's condition tells.
            let _ = Deadline::with_stop(pause * 2, stop.clone()).wait(pause);
        }
    });
}

/// Ends at the first SIGTERM or SIGINT, and calls the reconciler off. SIGHUP, which would end the
/// process, is swallowed.
fn shutdown(reconciler: Stop) -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let _ignored_from_now_on = signal(SignalKind::hangup())?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping");
        tell_manager(&[NotifyState::Stopping]);
        reconciler.stop();
    })
}

/// Tells systemd, where it listens.
fn tell_manager(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "could not tell the service manager");
    }
}
