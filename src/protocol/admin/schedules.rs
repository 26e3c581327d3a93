//! The routes for schedules.

use std::sync::Arc;

use super::handler::Decoded;
use super::{PauseRequest, ScheduleRequest, SchedulesAnswer};
use crate::protocol::Verbs;
use crate::protocol::body::{self, Received};
use crate::protocol::calls::parse_name;
use crate::protocol::jobs::Jobs;
use crate::protocol::path;
use crate::protocol::reply::Reply;

/// What a method and a path ask for. The names are as they were given, decoded but unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    List,
    Set(String),
    Pause(String),
    Run(String),
}

impl Route {
    pub(super) fn parse(method: &str, segments: &[&str]) -> Option<Self> {
        Some(match (method, segments) {
            ("GET", ["schedules"]) => Self::List,
            ("POST", ["volumes", name, "schedule"]) => Self::Set(path::decode(name)?),
            ("POST", ["volumes", name, "schedule", "pause"]) => Self::Pause(path::decode(name)?),
            ("POST", ["volumes", name, "schedule", "run"]) => Self::Run(path::decode(name)?),
            _ => return None,
        })
    }
}

pub(super) async fn handle(jobs: &Arc<Jobs>, route: Route, body: Received) -> Decoded {
    match route {
        Route::List => Ok(list(jobs).await),
        Route::Set(name) => set(jobs, &name, body).await,
        Route::Pause(name) => pause(jobs, &name, body).await,
        Route::Run(name) => Ok(run(jobs, &name).await),
    }
}

async fn list(jobs: &Jobs) -> Reply {
    let list = |verbs: &dyn Verbs, by: &_| verbs.schedules(by);
    let listed = jobs.ask("list schedules", None, list).await;
    Reply::admin_result(listed.map(|schedules| SchedulesAnswer { schedules }))
}

async fn set(jobs: &Jobs, name: &str, body: Received) -> Decoded {
    let ScheduleRequest { options } = body::decode(body)?;
    let set = match parse_name("schedule snapshots of", name) {
        Ok(name) => jobs.set_schedule(name, options).await,
        Err(error) => Err(error),
    };
    Ok(Reply::admin_result(set))
}

async fn pause(jobs: &Jobs, name: &str, body: Received) -> Decoded {
    let PauseRequest { paused } = body::decode(body)?;
    let done = match parse_name("pause the schedule of", name) {
        Ok(name) => jobs.pause_schedule(name, paused).await,
        Err(error) => Err(error),
    };
    Ok(Reply::admin_result(done))
}

async fn run(jobs: &Jobs, name: &str) -> Reply {
    let made = match parse_name("run the schedule of", name) {
        Ok(name) => jobs.run_schedule(name).await,
        Err(error) => Err(error),
    };
    Reply::admin_result(made)
}
