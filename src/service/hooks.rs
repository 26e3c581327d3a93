//! The hooks around a snapshot: what programs in two folders do to the applications that write a
//! volume, on the host where those run.

use std::cell::OnceCell;
use std::time::Duration;

use super::Service;
use super::references::Reference;
use super::still::Order;
use crate::deadline::Deadline;
use crate::engine::Engine;
use crate::system::AfterFailure;

/// How long the engine may take to say which containers use a volume.
const ASKED: Duration = Duration::from_secs(5);

/// The most hooks that are waited for, as a multiple of what one may take.
const HOOKS: u32 = 8;

/// What the hooks before and after a snapshot are told of it.
pub(super) struct Hooked<'a> {
    order: &'a Order,
    reference: &'a Reference,
    /// Those that ran when the first hook began: one that it has paused, the last is to find.
    containers: OnceCell<Vec<String>>,
}

impl<'a> Hooked<'a> {
    pub(super) fn new(order: &'a Order, reference: &'a Reference) -> Self {
        Self { order, reference, containers: OnceCell::new() }
    }
}

impl Service {
    /// Has the applications write out what they have: how many hooks there are, or what the first
    /// that failed said.
    pub(super) fn run_pre_hooks(&self, of: &Hooked<'_>) -> std::result::Result<usize, String> {
        self.run_hooks("pre-snapshot", of, AfterFailure::Stop)
    }

    /// Has the applications go on: all hooks, whatever becomes of one of them.
    pub(super) fn run_post_hooks(&self, of: &Hooked<'_>) {
        if let Err(why) = self.run_hooks("post-snapshot", of, AfterFailure::GoOn) {
            tracing::error!(volume = %of.order.volume, why, "a hook after a snapshot failed");
        }
    }

    fn run_hooks(
        &self,
        event: &str,
        of: &Hooked<'_>,
        after_failure: AfterFailure,
    ) -> std::result::Result<usize, String> {
        let folder = self.settings.hooks_folder.join(event);
        if !folder.is_dir() {
            return Ok(0);
        }
        let limit = self.settings.hook_limit;
        let socket = &self.settings.engine_socket;
        let Hooked { order, reference, containers } = of;
        let containers = containers.get_or_init(|| {
            Engine::at(socket).containers_of(order.volume.as_str(), &Deadline::after(ASKED))
        });
        let environment = [
            ("DOCKER_CEPH_EVENT", event.to_owned()),
            ("DOCKER_CEPH_VOLUME", order.volume.to_string()),
            ("DOCKER_CEPH_SNAPSHOT", order.snapshot.to_string()),
            ("DOCKER_CEPH_MOUNTPOINT", reference.mountpoint().display().to_string()),
            ("DOCKER_CEPH_CONTAINERS", containers.join(" ")),
            ("DOCKER_CEPH_CONSISTENCY", order.consistency.to_string()),
            ("DOCKER_HOST", format!("unix://{}", socket.display())),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        let deadline = Deadline::after(limit * HOOKS);
        self.hooks
            .run_hooks(&folder, &environment, limit, after_failure, &deadline)
            .map_err(|error| error.to_string())
    }
}
