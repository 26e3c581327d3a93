//! Shell completions and man pages, from the same definitions as the command line itself.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::outcome::{Exit, Failure, Outcome};

/// `completions`
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// `man`
#[derive(Debug, Args)]
pub(super) struct ManPages {
    /// Writes a page for each command into this folder, instead of one page to standard output
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl Completions {
    pub(super) fn run(&self, mut command: Command) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "docker-ceph", &mut script);
        Outcome::text(String::from_utf8_lossy(&script))
    }
}

impl ManPages {
    pub(super) fn run(&self, command: Command) -> Result<Outcome, Failure> {
        let failed = |error: std::io::Error| Failure::new(Exit::Failed, error);
        match &self.folder {
            Some(folder) => {
                fs::create_dir_all(folder).map_err(failed)?;
                clap_mangen::generate_to(command, folder).map_err(failed)?;
                Ok(Outcome::default())
            }
            None => {
                let mut page = Vec::new();
                Man::new(command).render(&mut page).map_err(failed)?;
                Ok(Outcome::text(String::from_utf8_lossy(&page)))
            }
        }
    }
}
