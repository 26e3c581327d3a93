//! `ui`: a page for people, read from the daemon.
//!
//! ```text
//!  browser ──HTTP, loopback──▶ page, as nobody ──gate: GET, of a list──▶ root ──▶ daemon's socket
//! ```
//!
//! Whoever may use the daemon's socket may mount anything, so no root process speaks HTTP: started by
//! root, this program starts itself once more, as a user who may do nothing, and keeps to itself no more
//! than the [`Gate`]. Started by another user who may use the socket, it is one process. Either process
//! ends with the other: the page at the end of its standard input, which nobody but its parent holds.

mod concern;
mod filter;
mod frame;
mod html;
mod http;
mod kept;
mod overview;
mod reader;
mod timeline;
mod volume;
mod words;

use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use clap::{ArgMatches, Args};
use nix::sys::prctl;
use nix::unistd::{User, geteuid, gethostname};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use self::http::Shown;
use self::reader::Reader;
use super::outcome::{Exit, Failure, Outcome};
use super::settings;
use crate::protocol::client::AdminClient;
use crate::protocol::gate::{self, Gate};
use crate::system::{close_inherited, privileges};

/// How long the page may take to end once it is told to.
const END: Duration = Duration::from_secs(2);

/// `ui`
#[derive(Debug, Args)]
pub(super) struct Ui {
    /// Where the page is served
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9285")]
    listen: SocketAddr,
    /// Serve it on an address that others reach: nobody is asked who they are
    #[arg(long)]
    allow_remote: bool,
    /// Who serves it, where root starts it
    #[arg(long, value_name = "NAME", default_value = "nobody")]
    user: String,
    /// The gate that the page asks, in the process that serves it for root
    #[arg(long, hide = true)]
    gate: Option<String>,
}

impl Ui {
    pub(super) fn run(&self, matches: &ArgMatches) -> Result<Outcome, Failure> {
        if let Some(gate) = &self.gate {
            close_inherited();
            // Else it is called as the link that it was started by.
            let _ = prctl::set_name(c"docker-ceph-ui");
            return self.serve(gate::client_of(gate), parent_is_gone());
        }
        self.check_address()?;
        let socket = settings::socket(matches)?;
        if geteuid().is_root() {
            return self.guard(AdminClient::new(socket));
        }
        self.serve(AdminClient::new(socket), std::future::pending())
    }

    fn check_address(&self) -> Result<(), Failure> {
        if self.allow_remote || self.listen.ip().is_loopback() {
            return Ok(());
        }
        let message = format!(
            "--listen {}: whoever reaches that address would see the names and the state of all \
             volumes, and nobody is asked who they are. Listen on 127.0.0.1, and reach it with ssh -L, \
             or through a proxy that asks for a password; or say --allow-remote",
            self.listen
        );
        Err(Failure::new(Exit::Usage, message))
    }

    /// Serves the page until it is told to end.
    fn serve(
        &self,
        client: AdminClient,
        gone: impl Future<Output = ()>,
    ) -> Result<Outcome, Failure> {
        privileges::gain_no_more().map_err(|error| failure("give up privileges", &error))?;
        runtime()?.block_on(async {
            let cannot_listen = |error| failure(&format!("listen on {}", self.listen), &error);
            let listener = TcpListener::bind(self.listen).await.map_err(cannot_listen)?;
            let address = listener.local_addr().map_err(cannot_listen)?;
            // The one thing that has to be said before the end.
            let _ = writeln!(io::stdout(), "http://{address}/ shows the volumes, until ^C");
            let host = gethostname().unwrap_or_default().to_string_lossy().into_owned();
            let shown = Shown { reader: Reader::new(client), host, address };
            tokio::select! {
                never = http::serve(listener, shown) => match never {},
                told = told_to_end() => told,
                () = gone => Ok(()),
            }
        })?;
        Ok(Outcome::default())
    }

    /// Has the page served by somebody who may do nothing, and asks the daemon for it.
    fn guard(&self, daemon: AdminClient) -> Result<Outcome, Failure> {
        let user = self.unprivileged()?;
        let gate = Gate::listen().map_err(|error| failure("make a gate", &error))?;
        privileges::gain_no_more().map_err(|error| failure("give up privileges", &error))?;
        runtime()?.block_on(async {
            let mut page = self.start(&user, gate.name())?;
            privileges::drop_capabilities().map_err(|error| failure("drop privileges", &error))?;
            let pid = page.id().ok_or_else(|| Failure::new(Exit::Failed, "the page is gone"))?;
            // To wait for a child closes what is left in its place.
            let lifeline = page.stdin.take();
            let ended = tokio::select! {
                ended = page.wait() => return of_page(ended),
                told = told_to_end() => told,
                broken = gate.serve(daemon, pid) => match broken {
                    Ok(never) => match never {},
                    Err(error) => Err(failure("keep the gate", &error)),
                },
            };
            drop(lifeline);
            // It ends in a moment, and we do not wait for more than that.
            let _ = tokio::time::timeout(END, page.wait()).await;
            ended.map(|()| Outcome::default())
        })
    }

    fn unprivileged(&self) -> Result<User, Failure> {
        let refused = |why: &str| {
            let message = format!("--user {}: {why}; name one who may do nothing", self.user);
            Failure::new(Exit::Usage, message)
        };
        let user =
            User::from_name(&self.user).map_err(|error| failure("look for users", &error))?;
        let user = user.ok_or_else(|| refused("there is no such user"))?;
        if user.uid.is_root() || user.gid.as_raw() == 0 {
            return Err(refused("root does not serve it"));
        }
        Ok(user)
    }

    /// This program once more, in the hands of `user` from its first instruction on, and with no other
    /// groups.
    #[expect(clippy::disallowed_methods, reason = "it has no deadline: it lives as long as we do")]
    fn start(&self, user: &User, gate: &str) -> Result<Child, Failure> {
        let mut program = std::process::Command::new("/proc/self/exe");
        program.arg("ui").arg(format!("--listen={}", self.listen)).arg(format!("--gate={gate}"));
        program.env_clear().current_dir("/").stdin(Stdio::piped());
        program.arg0("docker-ceph").uid(user.uid.as_raw()).gid(user.gid.as_raw());
        let started = Command::from(program).spawn();
        started.map_err(|error| failure(&format!("start the page as {}", self.user), &error))
    }
}

fn of_page(ended: io::Result<ExitStatus>) -> Result<Outcome, Failure> {
    let ended = ended.map_err(|error| failure("wait for the page", &error))?;
    match ended.code() {
        Some(0) => Ok(Outcome::default()),
        // It has said why.
        Some(code) => {
            let exit =
                if code == i32::from(Exit::Usage.code()) { Exit::Usage } else { Exit::Failed };
            Ok(Outcome { verdict: Some(exit), ..Outcome::default() })
        }
        None => Err(Failure::new(Exit::Failed, format!("the page's process has ended: {ended}"))),
    }
}

fn runtime() -> Result<Runtime, Failure> {
    // One thread: privileges are given up thread by thread.
    super::runtime().map_err(|error| failure("start the runtime", &error))
}

async fn told_to_end() -> Result<(), Failure> {
    let cannot = |error| failure("listen for signals", &error);
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(cannot)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

/// Resolves at the end of standard input: the other end is the parent's alone.
fn parent_is_gone() -> impl Future<Output = ()> {
    let (tell, hear) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        drop(tell);
    });
    async move { drop(hear.await) }
}

fn failure(step: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{step}: {error}"))
}
