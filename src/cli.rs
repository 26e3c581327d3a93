//! The command line: the daemon (`serve`) and the operator's tool, one program.
//!
//! The tool is a thin client of the daemon's admin API and uses the words of `docker volume`.
//! `--json` prints that API's JSON, which is a promise to scripts; tables are for people and may
//! change. Commands return an [`Outcome`] and print nothing themselves.

mod changes;
mod doctor;
mod generate;
mod old_files;
mod outcome;
mod plugin;
mod progress;
mod rollback;
mod schedules;
mod serve;
mod settings;
mod snapshots;
mod support;
mod table;
mod ui;
mod volumes;

pub use outcome::{Exit, Failure, Outcome};

use std::ffi::OsString;
use std::future::Future;
use std::io;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::config::Raw;
use crate::logging::VERSION;
use crate::protocol::client::{AdminClient, ClientError};

/// Docker volumes in Ceph: the volume driver, and its tool.
#[derive(Debug, Parser)]
#[command(name = "docker-ceph", version, arg_required_else_help = true)]
#[command(after_help = Exit::HELP)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
struct Global {
    /// The daemon's socket [default: /run/docker/plugins/ceph.sock, or what the settings say]
    #[arg(long, env = "DOCKER_CEPH_SOCKET", value_name = "PATH", global = true)]
    socket: Option<String>,

    /// The file of settings [default: /etc/docker-volume-ceph/config.toml, where it exists]
    #[arg(long, env = "DOCKER_CEPH_CONFIG", value_name = "FILE", global = true)]
    config: Option<String>,

    /// Print JSON for scripts instead of text for people
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(volumes::Ls),
    /// Show all that is known of volumes
    Inspect(volumes::Inspect),
    /// Show who has a volume: hosts, clients, mounts and processes
    Who(volumes::One),
    /// Have a volume given up by the host that holds it
    Release(changes::Release),
    /// Give up all volumes that this host holds and that no container uses
    Drain(changes::Drain),
    /// Create a volume
    Create(changes::Create),
    /// Remove volumes; into the trash, unless they or you say otherwise
    #[command(visible_alias = "remove")]
    Rm(changes::Remove),
    /// Bring a removed volume back from the trash
    Undelete(changes::Undelete),
    /// Grow a volume, and its file system where it is mounted
    Resize(changes::Resize),
    /// Copy what a clone shares with its origin, so that it stands alone; waits for the end
    Flatten(changes::Flatten),
    /// Give the blocks that a mounted volume no longer uses back to the cluster
    Trim(volumes::One),
    /// Show the files that a mounted volume's keep-files= is about, or remove them now
    OldFiles(old_files::Files),
    /// Make a volume of an RBD image that is there, without changing the image
    Adopt(changes::Adopt),
    /// Refuse to remove a volume until it is unprotected
    Protect(volumes::One),
    /// Let a volume be removed again
    Unprotect(volumes::One),
    /// Take snapshots of volumes, and look after them
    #[command(subcommand)]
    Snapshot(snapshots::Snapshot),
    /// Make snapshots of volumes by themselves, and look after their schedules
    #[command(subcommand)]
    Schedule(schedules::Schedule),
    /// Look after the catalog of volumes
    #[command(subcommand)]
    Catalog(changes::Catalog),
    /// Check this host, its settings and the cluster, and say what to do
    Doctor(Daemon),
    /// Print all that a person who helps will ask for, without secrets
    Support(Daemon),
    /// Serve a page for people, which only looks
    Ui(ui::Ui),
    /// Run the daemon
    Serve(Daemon),
    /// Show the versions of this program and of the daemon
    Version,
    /// Print the completions for a shell
    Completions(generate::Completions),
    /// Print the man page, or write all of them into a folder
    Man(generate::ManPages),
}

/// The daemon's settings as flags.
#[derive(Debug, Args)]
struct Daemon {
    #[command(flatten)]
    settings: Raw,
}

/// Runs the program with these words, the program's own name first, and says how to end.
pub fn run(words: Vec<OsString>) -> Exit {
    let (words, by_docker) = plugin::without_docker(words);
    if words.get(1).is_some_and(|word| word == plugin::METADATA_COMMAND) {
        return Outcome::text(plugin::metadata()).print();
    }
    let called = if by_docker { "docker ceph" } else { "docker-ceph" };
    let matches = match Cli::command().bin_name(called).try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => {
            // Help for a reader that has gone away is no failure.
            let _ = error.print();
            return if error.exit_code() == 0 { Exit::Ok } else { Exit::Usage };
        }
    };
    dispatch(&matches).unwrap_or_else(Outcome::from).print()
}

fn dispatch(matches: &ArgMatches) -> Result<Outcome, Failure> {
    let cli = Cli::from_arg_matches(matches).map_err(|e| Failure::new(Exit::Usage, e))?;
    let of_command = matches.subcommand().map_or(matches, |(_, matches)| matches);
    let tool = || Tool::new(of_command, cli.global.json);
    match cli.command {
        Command::Ls(ls) => ls.run(&tool()?),
        Command::Inspect(inspect) => inspect.run(&tool()?),
        Command::Who(volume) => volume.who(&tool()?),
        Command::Release(release) => release.run(&tool()?),
        Command::Drain(drain) => drain.run(&tool()?),
        Command::Create(create) => create.run(&tool()?),
        Command::Rm(remove) => remove.run(&tool()?),
        Command::Undelete(undelete) => undelete.run(&tool()?),
        Command::Resize(resize) => resize.run(&tool()?),
        Command::Flatten(flatten) => flatten.run(&tool()?),
        Command::Trim(volume) => volume.trim(&tool()?),
        Command::OldFiles(files) => files.run(&tool()?),
        Command::Adopt(adopt) => adopt.run(&tool()?),
        Command::Protect(volume) => volume.protect(true, &tool()?),
        Command::Unprotect(volume) => volume.protect(false, &tool()?),
        Command::Snapshot(snapshot) => snapshot.run(&tool()?),
        Command::Schedule(schedule) => schedule.run(&tool()?),
        Command::Catalog(catalog) => catalog.run(&tool()?),
        Command::Doctor(_) => doctor::run(of_command, &tool()?),
        Command::Support(_) => support::run(of_command, &tool()?),
        Command::Ui(ui) => ui.run(of_command),
        Command::Serve(_) => serve::run(of_command),
        Command::Version => version(&tool()?),
        Command::Completions(completions) => Ok(completions.run(Cli::command())),
        Command::Man(pages) => pages.run(Cli::command()),
    }
}

/// For everything but the daemon: one thread.
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// What the operator's commands work with: the daemon, and how to print.
#[derive(Debug)]
struct Tool {
    client: AdminClient,
    json: bool,
    runtime: Runtime,
}

impl Tool {
    fn new(matches: &ArgMatches, json: bool) -> Result<Self, Failure> {
        let runtime = runtime().map_err(|error| Failure::new(Exit::Failed, error))?;
        Ok(Self { client: AdminClient::new(settings::socket(matches)?), json, runtime })
    }

    /// The daemon's answer.
    fn ask<T>(&self, call: impl Future<Output = Result<T, ClientError>>) -> Result<T, Failure> {
        self.runtime.block_on(call).map_err(Failure::from)
    }

    /// An answer as JSON, or as text for people.
    fn show<T: Serialize>(&self, answer: &T, text: impl FnOnce(&T) -> String) -> Outcome {
        Outcome::text(if self.json { json(answer) } else { text(answer) })
    }
}

fn json(answer: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(answer).expect("answers are plain data");
    text + "\n"
}

/// The versions of the two: they differ between an upgrade and the daemon's restart.
fn version(tool: &Tool) -> Result<Outcome, Failure> {
    #[derive(Serialize)]
    struct Versions {
        version: &'static str,
        daemon: Option<crate::protocol::admin::Version>,
    }
    let versions = Versions { version: VERSION, daemon: tool.ask(tool.client.version()).ok() };
    Ok(tool.show(&versions, |Versions { version, daemon }| match daemon {
        Some(daemon) => format!(
            "docker-ceph {version}\ndaemon {} (API {}, process {}, since {})\n",
            daemon.version,
            daemon.api,
            daemon.pid,
            table::moment(daemon.started)
        ),
        None => format!("docker-ceph {version}\nno daemon answers on {:?}\n", tool.client.socket()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_of_the_command_line_agree_with_each_other() {
        Cli::command().debug_assert();
    }
}
