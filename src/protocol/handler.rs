//! Docker's calls: decode, verb, encode.
//!
//! An error of a verb is HTTP 500 with `Err`, which the engine shows to its user; a body that
//! cannot be read is 400, and never means the volume "". Get is the exception: where the truth
//! is not known, or the question cannot be read, nothing is answered at all (see [`super`]).

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use super::body::{self, Received, Unreadable};
use super::calls::{echo, parse_id, parse_name};
use super::delivery::Undelivered;
use super::jobs::Jobs;
use super::reply::{Closed, Reply};
use super::{admin, wire};
use crate::service::{ErrorKind, Lookup, Result, VolumeError};

/// Docker's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PluginCall {
    Activate,
    Capabilities,
    Create,
    Remove,
    Mount,
    Unmount,
    Path,
    Get,
    List,
}

const PLUGIN_CALLS: [(&str, PluginCall); 9] = [
    ("/Plugin.Activate", PluginCall::Activate),
    ("/VolumeDriver.Capabilities", PluginCall::Capabilities),
    ("/VolumeDriver.Create", PluginCall::Create),
    ("/VolumeDriver.Remove", PluginCall::Remove),
    ("/VolumeDriver.Mount", PluginCall::Mount),
    ("/VolumeDriver.Unmount", PluginCall::Unmount),
    ("/VolumeDriver.Path", PluginCall::Path),
    ("/VolumeDriver.Get", PluginCall::Get),
    ("/VolumeDriver.List", PluginCall::List),
];

type Answer = std::result::Result<Reply, Closed>;

/// Answers one request, of either language.
pub(super) async fn handle(
    jobs: &Arc<Jobs>,
    daemon: &admin::Version,
    request: Request<Incoming>,
) -> Answer {
    let path = request.uri().path();
    let known = PLUGIN_CALLS.iter().find(|(known, _)| *known == path);
    let Some((path, call)) = known else {
        if path.starts_with("/VolumeDriver.") || path.starts_with("/Plugin.") {
            let error = format!("{} is no call that this driver knows", echo(path));
            return Ok(Reply::plugin_error(StatusCode::NOT_FOUND, error));
        }
        return Ok(admin::handler::handle(jobs, daemon, request).await);
    };
    if request.method() != Method::POST {
        let error = format!("{path} takes POST, not {}", request.method());
        return Ok(Reply::plugin_error(StatusCode::METHOD_NOT_ALLOWED, error));
    }
    let limits = &jobs.limits;
    let body = body::read(request.into_body(), limits.body_size, limits.body).await;
    answer(jobs, *call, body).await
}

async fn answer(jobs: &Jobs, call: PluginCall, body: Received) -> Answer {
    let answered = match call {
        // Three name no volume: whatever came with them, or did not, changes nothing.
        PluginCall::Activate => Ok(Reply::plugin(&wire::ActivateAnswer::volume_driver())),
        PluginCall::Capabilities => Ok(Reply::plugin(&wire::CapabilitiesAnswer::global())),
        PluginCall::List => Ok(list(jobs).await),
        PluginCall::Create => create(jobs, body).await,
        PluginCall::Remove => remove(jobs, body).await,
        PluginCall::Mount => mount(jobs, body).await,
        PluginCall::Unmount => unmount(jobs, body).await,
        PluginCall::Path => return path(jobs, body).await,
        PluginCall::Get => return get(jobs, body).await,
    };
    Ok(answered.unwrap_or_else(|error| unreadable(&error)))
}

type Decoded = std::result::Result<Reply, Unreadable>;

async fn create(jobs: &Jobs, body: Received) -> Decoded {
    let wire::CreateRequest { name, options } = body::decode(body)?;
    let created = match parse_name("create", &name) {
        Ok(name) => jobs.create(name, options.unwrap_or_default()).await,
        Err(error) => Err(error),
    };
    Ok(done(created.map(drop)))
}

async fn remove(jobs: &Jobs, body: Received) -> Decoded {
    let wire::NameRequest { name } = body::decode(body)?;
    let removed = match parse_name("remove", &name) {
        Ok(name) => jobs.remove(name, None).await,
        Err(error) => Err(error),
    };
    Ok(done(removed))
}

async fn mount(jobs: &Jobs, body: Received) -> Decoded {
    let wire::MountRequest { name, id } = body::decode(body)?;
    let named = parse_name("mount", &name).and_then(|name| {
        let id = parse_id("mount", &name, &id)?;
        Ok((name, id))
    });
    let mounted = match named {
        Ok((name, id)) => jobs.mount(name, id).await,
        Err(error) => Err(error),
    };
    Ok(match mounted {
        Ok(mounted) => mounted_at(mounted),
        Err(error) => failed(&error),
    })
}

fn mounted_at(mounted: Undelivered) -> Reply {
    let mountpoint = mounted.mountpoint().display().to_string();
    let answer = wire::MountpointAnswer { mountpoint, err: "" };
    let mut reply = Reply::plugin(&answer);
    reply.mount = Some(mounted);
    reply
}

async fn unmount(jobs: &Jobs, body: Received) -> Decoded {
    let wire::MountRequest { name, id } = body::decode(body)?;
    let named = parse_name("unmount", &name).and_then(|name| {
        let id = parse_id("unmount", &name, &id)?;
        Ok((name, id))
    });
    let unmounted = match named {
        // To Podman an error means "still mounted": it would never ask for that mount again, and its
        // containers would not find it. The error is in the log, and what is left is done later.
        Ok((name, id)) if id.as_str() == wire::PODMAN => jobs.unmount(name, id).await.or(Ok(())),
        Ok((name, id)) => jobs.unmount(name, id).await,
        Err(error) => Err(error),
    };
    Ok(done(unmounted))
}

async fn path(jobs: &Jobs, body: Received) -> Answer {
    let name = match body::decode(body) {
        Ok(wire::NameRequest { name }) => parse_name("path", &name),
        Err(error) => return Ok(unreadable(&error)),
    };
    let looked_up = match name {
        Ok(name) => jobs.get("path", name.clone()).await.map(|lookup| (name, lookup)),
        Err(error) => Err(error),
    };
    Ok(match looked_up {
        Ok((_, Lookup::Found(view))) => {
            let mountpoint = view.mountpoint.display().to_string();
            Reply::plugin(&wire::MountpointAnswer { mountpoint, err: "" })
        }
        Ok((name, Lookup::Absent)) => absent("path", name.as_str()),
        Ok((name, Lookup::Unknown)) => {
            return Err(Closed(format!("path {name}: the cluster is away")));
        }
        Err(error) => failed(&error),
    })
}

async fn get(jobs: &Jobs, body: Received) -> Answer {
    let name = match body::decode(body) {
        Ok(wire::NameRequest { name }) => name,
        Err(error) => return Err(Closed(format!("get: {error}"))),
    };
    // The engine asks for whatever its user typed: a name that cannot be ours is nobody's. And it
    // asks for "" when it starts, once for every volume that it knows and has not made: it keeps
    // those without their names. Left without an answer it would try for 15 s before it goes on.
    let Ok(volume) = name.parse() else {
        tracing::debug!(name = ?echo(&name), "looked up a name that no volume can have");
        return Ok(absent("get", &name));
    };
    match jobs.get("get", volume).await {
        Ok(Lookup::Found(view)) => Ok(Reply::plugin(&wire::GetAnswer::from(*view))),
        Ok(Lookup::Absent) => Ok(absent("get", &name)),
        Ok(Lookup::Unknown) => Err(Closed(format!("get {name}: the cluster is away"))),
        Err(error) => Err(Closed(error.to_string())),
    }
}

async fn list(jobs: &Jobs) -> Reply {
    match jobs.list().await {
        Ok(listed) => Reply::plugin(&wire::ListAnswer::from_iter(listed)),
        Err(error) => failed(&error),
    }
}

fn absent(op: &'static str, name: &str) -> Reply {
    failed(&VolumeError::new(op, echo(name), ErrorKind::NotFound, "no such volume"))
}

fn done(result: Result<()>) -> Reply {
    match result {
        Ok(()) => Reply::plugin(&wire::PlainAnswer::default()),
        Err(error) => failed(&error),
    }
}

fn failed(error: &VolumeError) -> Reply {
    Reply::plugin_error(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

fn unreadable(error: &Unreadable) -> Reply {
    tracing::warn!(%error, "refused a request");
    let status = match error {
        Unreadable::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Unreadable::TooSlow(_)
        | Unreadable::Broken(_)
        | Unreadable::Empty
        | Unreadable::Json(_) => StatusCode::BAD_REQUEST,
    };
    Reply::plugin_error(status, error.to_string())
}
