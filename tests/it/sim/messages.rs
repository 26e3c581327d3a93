//! Messages between the daemons, and the signs of life of who has an image open.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use docker_volume_ceph::ceph::{
    Answer, Hear, Interval, Liveness, LockOwner, Messages, Notified, Result, Watch,
};
use docker_volume_ceph::volume::{ImageSpec, Location};

use super::client::{SimClient, live};
use super::cluster::SimCluster;

/// Somebody who hears what is sent to an object.
#[derive(Clone)]
pub(super) struct Ear {
    at: Location,
    object: String,
    hear: Arc<Mutex<Hear>>,
}

impl Ear {
    /// What it answers, if it does in time. It may ask the cluster something first, or wait for what
    /// its host is just doing, and does then what it was asked to, though nobody waits any more.
    fn ask(self, message: Vec<u8>, wait: Duration) -> Option<Vec<u8>> {
        let (answer, answered) = mpsc::channel();
        thread::spawn(move || {
            let hear = self.hear.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody may wait for it any more.
            drop(answer.send(hear(&message)));
        });
        answered.recv_timeout(wait).ok()
    }
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ear({}/{})", self.at, self.object)
    }
}

struct SimWatch {
    cluster: Arc<SimCluster>,
    number: u64,
}

impl Watch for SimWatch {
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl Drop for SimWatch {
    fn drop(&mut self) {
        self.cluster.state().ears.remove(&self.number);
    }
}

impl Messages for SimClient {
    fn notify(
        &self,
        at: &Location,
        object: &str,
        message: &[u8],
        wait: Duration,
    ) -> Result<Notified> {
        let ears = self.reach("notify")?.ears.clone();
        let here = ears.into_iter().filter(|(_, ear)| ear.at == *at && ear.object == object);
        let mut notified = Notified::default();
        for (client, ear) in here {
            match ear.ask(message.to_vec(), wait) {
                Some(message) => notified.answers.push(Answer { client, cookie: 1, message }),
                None => notified.silent.push((client, 1)),
            }
        }
        Ok(notified)
    }

    fn watch(&self, at: &Location, object: &str, hear: Hear) -> Result<Box<dyn Watch>> {
        let mut state = self.reach("watch")?;
        let hear = Arc::new(Mutex::new(hear));
        let number = state.number();
        state.ears.insert(number, Ear { at: at.clone(), object: object.to_owned(), hear });
        Ok(Box::new(SimWatch { cluster: self.cluster(), number }))
    }
}

impl Liveness for SimClient {
    fn lock_owner(&self, image: &ImageSpec) -> Result<Option<LockOwner>> {
        let mut state = self.reach("read lock")?;
        let found = live(&mut state, "read lock", image)?;
        let owner = found.writer.clone().map(|address| {
            let watch = found.watches.iter().find(|watch| watch.watcher.address == address);
            LockOwner { client: watch.map_or(0, |watch| watch.watcher.client), address }
        });
        Ok(owner)
    }

    fn ask_watchers(&self, image: &ImageSpec, _: Duration) -> Result<Notified> {
        let mut state = self.reach("ask watchers")?;
        let mut notified = Notified::default();
        let silent = state.silent.clone();
        for watch in &live(&mut state, "ask watchers", image)?.watches {
            let (client, cookie) = (watch.watcher.client, watch.watcher.cookie);
            if watch.until.is_none() && !silent.contains(&watch.watcher.address) {
                notified.answers.push(Answer { client, cookie, message: Vec::new() });
            } else {
                notified.silent.push((client, cookie));
            }
        }
        Ok(notified)
    }

    fn interval(&self, image: &ImageSpec) -> Result<Interval> {
        let mut state = self.reach("find OSDs")?;
        live(&mut state, "find OSDs", image)?;
        Ok(Interval { acting: vec![0], primary: 0, up_from: 8 })
    }
}
