//! Commands that change something. Like those of `docker volume`, they print the volume's name.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use super::outcome::Exit;
use super::table::Table;
use super::{Failure, Outcome, Tool, json};
use crate::config::duration;
use crate::protocol::admin::{CreateAnswer, DrainAnswer, Nothing, UndeleteAnswer};
use crate::service::{Drained, Flattened, Rebuilt, Released, Resized};
use crate::volume::{ImageSpec, Options, RemovePolicy, VolumeName, options_help};

/// Between two looks at what is still held.
const AGAIN: Duration = Duration::from_millis(500);

/// `create`
#[derive(Debug, Args)]
pub(super) struct Create {
    /// The volume's name
    #[arg(value_name = "NAME")]
    name: VolumeName,
    #[command(flatten)]
    options: GivenOptions,
}

/// Volume options.
#[derive(Debug, Args)]
struct GivenOptions {
    /// An option of the volume; may be repeated. -o help lists them
    #[arg(long = "opt", short = 'o', value_name = "KEY=VALUE")]
    options: Vec<String>,
}

/// `rm`
#[derive(Debug, Args)]
pub(super) struct Remove {
    /// Names of volumes
    #[arg(value_name = "NAME", required = true)]
    names: Vec<VolumeName>,
    /// What becomes of the data: trash, delete (for good) or keep (only the volume is forgotten)
    #[arg(long, value_name = "POLICY")]
    policy: Option<RemovePolicy>,
}

/// `drain`
#[derive(Debug, Args)]
pub(super) struct Drain {
    /// How long to wait for containers to end
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    wait: Duration,
    /// Also give up what an engine that has ended never unmounted
    #[arg(long)]
    engine_stopped: bool,
}

/// `undelete`
#[derive(Debug, Args)]
pub(super) struct Undelete {
    /// The name that the volume had
    #[arg(value_name = "NAME")]
    name: String,
    /// The name that it is to have
    #[arg(long = "as", value_name = "NEW")]
    rename: Option<VolumeName>,
}

/// `resize`
#[derive(Debug, Args)]
pub(super) struct Resize {
    /// The volume's name
    #[arg(value_name = "NAME")]
    name: VolumeName,
    /// The new size, such as 20G; larger than the old one
    #[arg(value_name = "SIZE")]
    size: String,
}

/// `flatten`
#[derive(Debug, Args)]
pub(super) struct Flatten {
    /// The volume's name
    #[arg(value_name = "NAME")]
    name: VolumeName,
    /// Begin only, and say how far it is
    #[arg(long, short)]
    detach: bool,
}

/// `release`
#[derive(Debug, Args)]
pub(super) struct Release {
    /// The volume's name
    #[arg(value_name = "NAME")]
    name: VolumeName,
    /// Take it by force, where its host refuses or does not answer: what its containers have not
    /// written yet is lost, and they have to be restarted
    #[arg(long)]
    fence: bool,
}

/// `adopt`
#[derive(Debug, Args)]
pub(super) struct Adopt {
    /// The image: pool/image or pool/namespace/image
    #[arg(value_name = "IMAGE")]
    image: ImageSpec,
    /// The volume's name
    #[arg(long, value_name = "NAME")]
    name: VolumeName,
    #[command(flatten)]
    options: GivenOptions,
}

/// `catalog`
#[derive(Debug, Subcommand)]
pub(super) enum Catalog {
    /// Write the records that are missing, from what the images say of themselves
    Rebuild,
}

impl GivenOptions {
    /// As Docker reads them: a word without `=` is an option without a value.
    fn options(&self) -> Options {
        let pairs = self.options.iter().map(|word| word.split_once('=').unwrap_or((word, "")));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// The answer to `-o help`.
    fn help(&self) -> Option<Outcome> {
        let asked = self.options.iter().any(|word| word == "help");
        asked.then(|| Outcome::text(format!("Options of a volume:\n{}\n", options_help())))
    }
}

impl Create {
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        if let Some(help) = self.options.help() {
            return Ok(help);
        }
        let options = self.options.options();
        let call = tool.client.create(self.name.as_str(), &options);
        let answer = CreateAnswer { created: tool.ask(call)? };
        Ok(tool.show(&answer, |_| format!("{}\n", self.name)))
    }
}

impl Remove {
    /// Removes what can be removed, one after the other; what cannot does not keep the rest.
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        for name in &self.names {
            match tool.ask(tool.client.remove(name.as_str(), self.policy)) {
                Ok(()) if tool.json => outcome.text += &json(&Nothing {}),
                Ok(()) => outcome.text += &format!("{name}\n"),
                Err(failure) => outcome.failures.push(failure),
            }
        }
        Ok(outcome)
    }
}

impl Undelete {
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let rename = self.rename.as_ref().map(VolumeName::as_str);
        let answer = UndeleteAnswer { name: tool.ask(tool.client.undelete(&self.name, rename))? };
        Ok(tool.show(&answer, |answer| format!("{}\n", answer.name)))
    }
}

impl Resize {
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let resized = tool.ask(tool.client.resize(self.name.as_str(), &self.size))?;
        Ok(tool.show(&resized, |Resized { from, to, file_system_grown }| {
            let rest = match file_system_grown {
                true => "",
                false => "; the file system grows at the next mount, or on the host that holds it",
            };
            format!("{}: {from} to {to}{rest}\n", self.name)
        }))
    }
}

impl Flatten {
    /// It goes on by itself, also where nobody waits.
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let mut told = None;
        loop {
            let flattened = tool.ask(tool.client.flatten(self.name.as_str()))?;
            let Flattened { done, percent } = flattened;
            if done || self.detach {
                return Ok(tool.show(&flattened, |_| match done {
                    true => format!("{}: it stands alone\n", self.name),
                    false => format!("{}: {percent} % copied\n", self.name),
                }));
            }
            if !tool.json && told.replace(percent) != Some(percent) {
                eprintln!("{}: {percent} % copied", self.name);
            }
            std::thread::sleep(AGAIN);
        }
    }
}

impl Release {
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let released = tool.ask(tool.client.release(self.name.as_str(), self.fence))?;
        Ok(tool.show(&released, |released| {
            let how = match released {
                Released::Free => "nobody held it".to_owned(),
                Released::Here => "given up by this host".to_owned(),
                Released::There { host } => format!("given up by host {host}"),
                Released::Fenced { addresses } => {
                    format!("taken by force from client {}", addresses.join(", "))
                }
            };
            format!("{}: {how}\n", self.name)
        }))
    }
}

impl Drain {
    /// A script has to notice what is still held.
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let answer = DrainAnswer { volumes: self.drained(tool)? };
        let kept = answer.volumes.iter().any(|volume| volume.kept.is_some());
        let outcome = tool.show(&answer, |DrainAnswer { volumes }| {
            let line = |Drained { name, kept }: &Drained| match kept {
                None => format!("{name}: given up\n"),
                Some(why) => format!("{name}: still held: {why}\n"),
            };
            volumes.iter().map(line).collect()
        });
        Ok(Outcome { verdict: kept.then_some(Exit::Failed), ..outcome })
    }

    /// What became of each volume at last, those that were given up first included.
    fn drained(&self, tool: &Tool) -> Result<Vec<Drained>, Failure> {
        let end = Instant::now() + self.wait;
        let mut given_up = Vec::new();
        loop {
            let met = tool.ask(tool.client.drain(self.engine_stopped))?;
            let (kept, gone): (Vec<_>, Vec<_>) = met.into_iter().partition(|of| of.kept.is_some());
            given_up.extend(gone);
            if kept.is_empty() || Instant::now() >= end {
                return Ok(given_up.into_iter().chain(kept).collect());
            }
            std::thread::sleep(AGAIN);
        }
    }
}

impl Adopt {
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        if let Some(help) = self.options.help() {
            return Ok(help);
        }
        let image = self.image.to_string();
        let options = self.options.options();
        let call = tool.client.adopt(self.name.as_str(), &image, &options);
        let answer = CreateAnswer { created: tool.ask(call)? };
        Ok(tool.show(&answer, |_| format!("{}\n", self.name)))
    }
}

impl Catalog {
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let Self::Rebuild = self;
        let rebuilt = tool.ask(tool.client.rebuild())?;
        let left = rebuilt.without_image.len();
        let outcome = tool.show(&rebuilt, rebuilt_text);
        // A record without an image may be a lost volume: a script has to notice.
        let verdict = (left > 0).then_some(Exit::Failed);
        Ok(Outcome { verdict, ..outcome })
    }
}

fn rebuilt_text(rebuilt: &Rebuilt) -> String {
    let Rebuilt { added, kept, without_image, foreign } = rebuilt;
    let mut table = Table::of_pairs();
    table.pair("Records that were there", kept.len());
    table.pair("Records added", added.len());
    table.lines("", added.iter().cloned());
    table.pair("Records without an image, left for you to decide", without_image.len());
    table.lines("", without_image.iter().cloned());
    table.pair("Images that are no volumes, and can be adopted", foreign.len());
    table.lines("", foreign.iter().cloned());
    table.print()
}
