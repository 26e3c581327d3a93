//! A watch on an object.
//!
//! librados calls back on the thread that completes all other operations. So what is heard is only
//! passed on there, to a thread of the watch's own, which may take its time to answer. A watch that
//! the cluster dropped (an outage, a fence) is not made anew here: its owner finds out by asking.

use std::ffi::{c_int, c_void};
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use super::connection::c_string;
use super::failure::{Failure, Outcome, check};
use super::ffi::rados::*;
use super::io_context::IoContext;
use super::{Hear, Result, Watch};

/// More than this at once is not heard; who sent it sees that there was no answer.
const MOST_UNHEARD: usize = 64;

/// A watch that stands, until it is dropped or the cluster drops it.
pub(super) struct Standing {
    io: Mutex<IoContext>,
    cookie: u64,
    ear: Box<Ear>,
}

/// What librados' callbacks are given.
struct Ear {
    heard: mpsc::SyncSender<Heard>,
    lost: AtomicBool,
}

/// A message, and what is needed to answer it.
struct Heard {
    notify: u64,
    cookie: u64,
    message: Vec<u8>,
}

impl Standing {
    /// Watches; `answers` is for the thread that answers.
    pub(super) fn begin(
        io: IoContext,
        answers: IoContext,
        object: &str,
        hear: Hear,
    ) -> Outcome<Self> {
        io.create(object)?;
        let (heard, messages) = mpsc::sync_channel(MOST_UNHEARD);
        let ear = Box::new(Ear { heard, lost: AtomicBool::new(false) });
        let name = c_string(object)?;
        let mut cookie = 0;
        let argument = (&raw const *ear).cast_mut().cast::<c_void>();
        // SAFETY: the context is alive, and so is the ear for as long as the callbacks are made:
        // until the watch has ended and its callbacks are through, which `drop` waits for.
        check(unsafe {
            rados_watch3(
                io.as_ptr(),
                name.as_ptr(),
                &raw mut cookie,
                Some(on_message),
                Some(on_loss),
                0,
                argument,
            )
        })?;
        let object = object.to_owned();
        thread::spawn(move || answer_all(&answers, &object, &messages, &hear));
        Ok(Self { io: Mutex::new(io), cookie, ear })
    }

    fn io(&self) -> MutexGuard<'_, IoContext> {
        self.io.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Standing {
    fn check(&self) -> Result<()> {
        let stands = if self.ear.lost.load(Ordering::Acquire) {
            Err(Failure::of_errno(libc::ENOTCONN))
        } else {
            // SAFETY: the context is alive, and the cookie is that of its watch.
            check(unsafe { rados_watch_check(self.io().as_ptr(), self.cookie) }).map(drop)
        };
        stands.map_err(|failure| failure.during("keep", "a watch".to_owned()))
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let io = self.io();
        // SAFETY: the context is alive. What is left of the watch in the cluster, where it cannot
        // be told, ends by itself; here no callback is made after the flush.
        unsafe {
            rados_unwatch2(io.as_ptr(), self.cookie);
            rados_watch_flush(io.connection.as_ptr());
        }
    }
}

extern "C" fn on_message(
    ear: *mut c_void,
    notify: u64,
    cookie: u64,
    _notifier: u64,
    data: *mut c_void,
    length: usize,
) {
    let message = if data.is_null() {
        Vec::new()
    } else {
        // SAFETY: librados gives a buffer of that length, which lives as long as this call.
        unsafe { slice::from_raw_parts(data.cast::<u8>(), length) }.to_vec()
    };
    // SAFETY: the ear outlives the watch.
    let ear = unsafe { &*ear.cast::<Ear>() };
    // Not heard where too many wait: this thread must not.
    drop(ear.heard.try_send(Heard { notify, cookie, message }));
}

extern "C" fn on_loss(ear: *mut c_void, _cookie: u64, _error: c_int) {
    // SAFETY: the ear outlives the watch.
    let ear = unsafe { &*ear.cast::<Ear>() };
    ear.lost.store(true, Ordering::Release);
}

/// Ends with the watch, whose ear holds the other end.
fn answer_all(io: &IoContext, object: &str, messages: &mpsc::Receiver<Heard>, hear: &Hear) {
    for Heard { notify, cookie, message } in messages {
        let reply = hear(&message);
        if let Err(failure) = io.answer(object, notify, cookie, &reply) {
            tracing::debug!(object, error = failure.message, "a message was not answered");
        }
    }
}
