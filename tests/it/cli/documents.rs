//! Help, completions and man pages: one definition, so every command is in all of them.

use super::Program;

const COMMANDS: [&str; 20] = [
    "ls",
    "inspect",
    "who",
    "create",
    "rm",
    "undelete",
    "resize",
    "trim",
    "adopt",
    "protect",
    "unprotect",
    "snapshot",
    "schedule",
    "catalog",
    "doctor",
    "ui",
    "serve",
    "version",
    "completions",
    "man",
];

#[test]
fn help_names_every_command_and_every_exit_code() {
    let program = Program::new();
    let help = program.run(&["--help"]).succeeded();
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in the help");
        let own = program.run(&[command, "--help"]).succeeded();
        assert!(own.contains(&format!("Usage: docker-ceph {command}")), "{own}");
    }
    assert!(help.contains("  4  somebody uses it"), "{help}");
    assert_eq!(program.run(&[] as &[&str]).code, 2);
}

#[test]
fn completions_know_every_command_and_setting() {
    let program = Program::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = program.run(&["completions", shell]).succeeded();
        for word in COMMANDS.iter().chain(&["mount-root", "trash"]) {
            assert!(script.contains(word), "{word} is not in the completions for {shell}");
        }
    }
    program.run(&["completions", "cmd"]).failed(2);
}

#[test]
fn there_is_a_man_page_for_every_command() {
    let program = Program::new();
    let folder = program.path("man");
    let words = ["man".as_ref(), folder.as_os_str()];
    assert_eq!(program.run(&words).succeeded(), "");
    for command in COMMANDS {
        let page = folder.join(format!("docker-ceph-{command}.1"));
        assert!(page.exists(), "{page:?} is missing");
    }
    assert!(folder.join("docker-ceph-catalog-rebuild.1").exists());
    let page = program.run(&["man"]).succeeded();
    assert!(page.contains("Exit codes:"), "{page}");
}
