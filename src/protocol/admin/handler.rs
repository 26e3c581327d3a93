//! The admin API's routes: decode, verb, encode.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, header};

use super::{
    AdoptRequest, CreateAnswer, CreateRequest, DrainAnswer, DrainRequest, Findings, Kind, Nothing,
    OldFilesRequest, PREFIX, ProtectRequest, ReleaseRequest, ResizeRequest, TasksAnswer,
    TrashAnswer, TrimAnswer, UndeleteAnswer, UndeleteRequest, Version, Volumes,
};
use super::{schedules, snapshots};
use crate::protocol::body::{self, Received, Unreadable};
use crate::protocol::calls::{echo, parse_name};
use crate::protocol::jobs::Jobs;
use crate::protocol::path;
use crate::protocol::reply::Reply;
use crate::service::{ErrorKind, Result, VolumeError};
use crate::volume::{ByteSize, ImageSpec, RemovePolicy, VolumeName};

/// What a method and a path ask for. The names are as they were given, decoded but unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Route {
    Version,
    Volumes,
    Create,
    Inspect(String),
    Remove(String),
    Resize(String),
    Trim(String),
    OldFiles(String),
    Flatten(String),
    Protect(String),
    Release(String),
    Who(String),
    Snapshots(snapshots::Route),
    Schedules(schedules::Route),
    Tasks,
    Adopt,
    Trash,
    Undelete,
    Drain,
    Rebuild,
    Doctor,
}

/// Answers one request that is none of Docker's.
pub(in crate::protocol) async fn handle(
    jobs: &Arc<Jobs>,
    daemon: &Version,
    request: Request<Incoming>,
) -> Reply {
    let (head, body) = request.into_parts();
    let Some(route) = Route::parse(&head.method, head.uri.path()) else {
        return no_route(&head.method, head.uri.path());
    };
    let body = body::read(body, jobs.limits.body_size, jobs.limits.body).await;
    let answered = match route {
        Route::Version => Ok(Reply::admin(daemon)),
        Route::Volumes => Ok(volumes(jobs).await),
        Route::Create => create(jobs, body).await,
        Route::Inspect(name) => Ok(inspect(jobs, &name).await),
        Route::Remove(name) => Ok(remove(jobs, &name, head.uri.query()).await),
        Route::Resize(name) => resize(jobs, &name, body).await,
        Route::Trim(name) => Ok(trim(jobs, &name).await),
        Route::OldFiles(name) => old_files(jobs, &name, body).await,
        Route::Flatten(name) => Ok(flatten(jobs, &name).await),
        Route::Protect(name) => protect(jobs, &name, body).await,
        Route::Release(name) => release(jobs, &name, body).await,
        Route::Who(name) => Ok(who(jobs, &name).await),
        Route::Snapshots(route) => snapshots::handle(jobs, route, head.uri.query(), body).await,
        Route::Schedules(route) => schedules::handle(jobs, route, body).await,
        Route::Tasks => Ok(tasks(jobs).await),
        Route::Adopt => adopt(jobs, body).await,
        Route::Trash => Ok(trash(jobs).await),
        Route::Undelete => undelete(jobs, body).await,
        Route::Drain => drain(jobs, body).await,
        Route::Rebuild => Ok(Reply::admin_result(jobs.rebuild().await)),
        Route::Doctor => Ok(doctor(jobs).await),
    };
    answered.unwrap_or_else(|error| unreadable(&error))
}

impl Route {
    fn parse(method: &Method, path: &str) -> Option<Self> {
        let rest = path.strip_prefix(PREFIX)?.strip_prefix('/')?;
        let segments: Vec<&str> = rest.split('/').collect();
        Some(match (method.as_str(), &segments[..]) {
            ("GET", ["version"]) => Self::Version,
            ("GET", ["volumes"]) => Self::Volumes,
            ("POST", ["volumes"]) => Self::Create,
            ("GET", ["volumes", name]) => Self::Inspect(path::decode(name)?),
            ("DELETE", ["volumes", name]) => Self::Remove(path::decode(name)?),
            ("POST", ["volumes", name, "resize"]) => Self::Resize(path::decode(name)?),
            ("POST", ["volumes", name, "trim"]) => Self::Trim(path::decode(name)?),
            ("POST", ["volumes", name, "old-files"]) => Self::OldFiles(path::decode(name)?),
            ("POST", ["volumes", name, "flatten"]) => Self::Flatten(path::decode(name)?),
            ("POST", ["volumes", name, "protect"]) => Self::Protect(path::decode(name)?),
            ("POST", ["volumes", name, "release"]) => Self::Release(path::decode(name)?),
            ("GET", ["volumes", name, "who"]) => Self::Who(path::decode(name)?),
            (method, ["snapshots"] | ["volumes", _, "snapshots", ..]) => {
                Self::Snapshots(snapshots::Route::parse(method, &segments)?)
            }
            (method, ["schedules"] | ["volumes", _, "schedule", ..]) => {
                Self::Schedules(schedules::Route::parse(method, &segments)?)
            }
            ("GET", ["tasks"]) => Self::Tasks,
            ("POST", ["adopt"]) => Self::Adopt,
            ("GET", ["trash"]) => Self::Trash,
            ("POST", ["undelete"]) => Self::Undelete,
            ("POST", ["drain"]) => Self::Drain,
            ("POST", ["catalog", "rebuild"]) => Self::Rebuild,
            ("GET", ["doctor"]) => Self::Doctor,
            _ => return None,
        })
    }
}

fn no_route(method: &Method, path: &str) -> Reply {
    let mut allowed = vec![Method::GET, Method::POST, Method::DELETE];
    allowed.retain(|method| Route::parse(method, path).is_some());
    let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    if allowed.is_empty() {
        let error = format!("there is nothing at {}", echo(path));
        return Reply::refusal(Kind::NoSuchPath, error);
    }
    let allowed = allowed.join(", ");
    let error = format!("{} takes {allowed}, not {}", echo(path), echo(method.as_str()));
    let mut reply = Reply::refusal(Kind::WrongMethod, error);
    let allowed = header::HeaderValue::from_str(&allowed).expect("methods are plain text");
    reply.response.headers_mut().insert(header::ALLOW, allowed);
    reply
}

pub(super) type Decoded = std::result::Result<Reply, Unreadable>;

async fn volumes(jobs: &Jobs) -> Reply {
    let volumes = jobs.ask("list", None, |verbs, _| Ok(verbs.volumes())).await;
    Reply::admin_result(volumes.map(|volumes| Volumes { volumes }))
}

async fn create(jobs: &Jobs, body: Received) -> Decoded {
    let CreateRequest { name, options } = body::decode(body)?;
    let created = match parse_name("create", &name) {
        Ok(name) => jobs.create(name, options).await,
        Err(error) => Err(error),
    };
    Ok(Reply::admin_result(created.map(|created| CreateAnswer { created })))
}

async fn inspect(jobs: &Jobs, name: &str) -> Reply {
    let inspected = match parse_name("inspect", name) {
        Ok(name) => {
            let volume = name.clone();
            jobs.ask("inspect", Some(&volume), move |verbs, by| verbs.inspect(&name, by)).await
        }
        Err(error) => Err(error),
    };
    Reply::admin_result(inspected)
}

async fn remove(jobs: &Jobs, name: &str, query: Option<&str>) -> Reply {
    let asked = parse_name("remove", name).and_then(|name| {
        let policy = remove_policy(query).map_err(|why| wrong("remove", name.as_str(), why))?;
        Ok((name, policy))
    });
    let removed = match asked {
        Ok((name, policy)) => jobs.remove(name, policy).await,
        Err(error) => Err(error),
    };
    Reply::admin_result(removed.map(|()| Nothing {}))
}

fn remove_policy(query: Option<&str>) -> std::result::Result<Option<RemovePolicy>, String> {
    // Whatever is not understood is refused: it may have been meant to keep the data.
    match query.filter(|query| !query.is_empty()) {
        None => Ok(None),
        Some(query) => match query.strip_prefix("policy=") {
            Some(policy) => policy.parse().map(Some),
            None => Err(format!("{:?} is not known; give policy=trash, delete or keep", query)),
        },
    }
}

async fn resize(jobs: &Jobs, name: &str, body: Received) -> Decoded {
    let ResizeRequest { size } = body::decode(body)?;
    let asked = parse_name("resize", name).and_then(|name| {
        let size: ByteSize = size.parse().map_err(|error| wrong("resize", name.as_str(), error))?;
        Ok((name, size))
    });
    let resized = match asked {
        Ok((name, size)) => jobs.resize(name, size).await,
        Err(error) => Err(error),
    };
    Ok(Reply::admin_result(resized))
}

async fn trim(jobs: &Jobs, name: &str) -> Reply {
    let trimmed = match parse_name("trim", name) {
        Ok(name) => jobs.trim(name).await,
        Err(error) => Err(error),
    };
    Reply::admin_result(trimmed.map(|bytes| TrimAnswer { bytes }))
}

async fn old_files(jobs: &Jobs, name: &str, body: Received) -> Decoded {
    let OldFilesRequest { remove } = body::decode(body)?;
    let found = match parse_name("old files of", name) {
        Ok(name) => jobs.old_files(name, remove).await,
        Err(error) => Err(error),
    };
    Ok(Reply::admin_result(found))
}

async fn flatten(jobs: &Jobs, name: &str) -> Reply {
    let flattened = match parse_name("flatten", name) {
        Ok(name) => jobs.flatten(name).await,
        Err(error) => Err(error),
    };
    Reply::admin_result(flattened)
}

async fn protect(jobs: &Jobs, name: &str, body: Received) -> Decoded {
    let ProtectRequest { protected } = body::decode(body)?;
    let done = match parse_name("protect", name) {
        Ok(name) => jobs.protect(name, protected).await,
        Err(error) => Err(error),
    };
    Ok(Reply::admin_result(done.map(|()| Nothing {})))
}

async fn release(jobs: &Jobs, name: &str, body: Received) -> Decoded {
    let ReleaseRequest { fence } = body::decode(body)?;
    let released = match parse_name("release", name) {
        Ok(name) => jobs.release(name, fence).await,
        Err(error) => Err(error),
    };
    Ok(Reply::admin_result(released))
}

async fn drain(jobs: &Jobs, body: Received) -> Decoded {
    let DrainRequest { engine_stopped } = body::decode(body)?;
    let drained = jobs.drain(engine_stopped).await;
    Ok(Reply::admin_result(drained.map(|volumes| DrainAnswer { volumes })))
}

async fn who(jobs: &Jobs, name: &str) -> Reply {
    let who = match parse_name("who", name) {
        Ok(name) => {
            let volume = name.clone();
            jobs.ask("who", Some(&volume), move |verbs, by| verbs.who(&name, by)).await
        }
        Err(error) => Err(error),
    };
    Reply::admin_result(who)
}

async fn tasks(jobs: &Jobs) -> Reply {
    Reply::admin_result(jobs.tasks().await.map(|tasks| TasksAnswer { tasks }))
}

async fn adopt(jobs: &Jobs, body: Received) -> Decoded {
    let AdoptRequest { name, image, options } = body::decode(body)?;
    let asked = parse_name("adopt", &name).and_then(|name| {
        let image: ImageSpec =
            image.parse().map_err(|error| wrong("adopt", name.as_str(), error))?;
        Ok((name, image))
    });
    let adopted = match asked {
        Ok((name, image)) => jobs.adopt(name, image, options).await,
        Err(error) => Err(error),
    };
    Ok(Reply::admin_result(adopted.map(|created| CreateAnswer { created })))
}

async fn trash(jobs: &Jobs) -> Reply {
    let trashed = jobs.ask("trash", None, |verbs, by| verbs.trash(by)).await;
    Reply::admin_result(trashed.map(|volumes| TrashAnswer { volumes }))
}

async fn undelete(jobs: &Jobs, body: Received) -> Decoded {
    let UndeleteRequest { name, rename } = body::decode(body)?;
    let rename = rename.map(|rename| parse_name("undelete", &rename)).transpose();
    let back: Result<VolumeName> = match rename {
        Ok(_) if name.is_empty() => Err(wrong("undelete", "", "volume name is empty")),
        Ok(rename) => jobs.undelete(name, rename).await,
        Err(error) => Err(error),
    };
    Ok(Reply::admin_result(back.map(|name| UndeleteAnswer { name })))
}

async fn doctor(jobs: &Jobs) -> Reply {
    let found = jobs.ask("doctor", None, |verbs, by| Ok(verbs.doctor(by))).await;
    Reply::admin_result(found.map(|findings| Findings { findings }))
}

pub(super) fn wrong(op: &'static str, volume: &str, why: impl ToString) -> VolumeError {
    let error = VolumeError::new(op, volume, ErrorKind::InvalidArgument, why.to_string());
    tracing::info!(%error, "refused");
    error
}

fn unreadable(error: &Unreadable) -> Reply {
    tracing::info!(%error, "refused a request");
    let kind = match error {
        Unreadable::TooLarge(_) => Kind::TooLarge,
        Unreadable::TooSlow(_)
        | Unreadable::Broken(_)
        | Unreadable::Empty
        | Unreadable::Json(_) => Kind::InvalidArgument,
    };
    Reply::refusal(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_paths_are_decoded_once_and_stay_one_segment() {
        let route = |path| Route::parse(&Method::GET, path);
        assert_eq!(route("/ceph/v1/volumes/a%2Fb"), Some(Route::Inspect("a/b".into())));
        assert_eq!(route("/ceph/v1/volumes/a%252Fb"), Some(Route::Inspect("a%2Fb".into())));
        assert_eq!(route("/ceph/v1/volumes/a/who"), Some(Route::Who("a".into())));
        for path in ["/ceph/v1/volumes/%zz", "/ceph/v1", "/ceph/v2/volumes", "/ceph/v1x/version"] {
            assert_eq!(route(path), None, "{path}");
        }
    }

    #[test]
    fn a_policy_that_is_not_understood_is_never_the_default() {
        assert_eq!(remove_policy(None), Ok(None));
        assert_eq!(remove_policy(Some("policy=keep")), Ok(Some(RemovePolicy::Keep)));
        for query in ["policy=", "policy=kep", "polcy=keep", "policy=keep&x=1"] {
            assert!(remove_policy(Some(query)).is_err(), "{query} was understood");
        }
    }
}
