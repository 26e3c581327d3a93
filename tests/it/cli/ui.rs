//! The page for people, against a daemon that answers from a table: who serves it, for whom, and what
//! it says of what it hears.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use nix::sys::signal::Signal;

use super::Program;
use super::fake_daemon::{Asked, Canned, start};
use crate::support::ui::{Ui, is_gone, send, status};

const ANSWERS: &[Canned] = &[
    (
        "GET /ceph/v1/version",
        200,
        r#"{"version":"9.9.9","api":1,"pid":42,"started":"2026-01-02T03:04:05Z"}"#,
    ),
    (
        "GET /ceph/v1/volumes",
        200,
        concat!(
            r#"{"volumes":[{"name":"calm","mountpoint":"/m/calm","created":"2026-01-02T03:04:05Z","#,
            r#""status":{"kind":"rbd","state":"ready","pool":"ssd","namespace":"","image":"x","#,
            r#""size":536870912,"used":null,"file-system":null,"options":{},"device":null,"#,
            r#""mapper":null,"holder":null,"mounts":[],"last-error":null}},"#,
            r#"{"name":"full","mountpoint":"/m/full","created":"2026-01-02T03:04:05Z","#,
            r#""status":{"kind":"rbd","state":"mounted","pool":"rbd","namespace":"docker","#,
            r#""image":"full","size":1000,"used":970,"file-system":"ext4","#,
            r#""options":{"mkfs-options":"<script>alert(1)</script>"},"device":"/dev/rbd0","#,
            r#""mapper":"krbd","holder":{"host":"web1","address":null,"#,
            r#""since":"2026-01-03T00:00:00Z","here":true},"mounts":["<b>ab12</b>"],"#,
            r#""last-error":null}}]}"#
        ),
    ),
    ("GET /ceph/v1/tasks", 200, r#"{"tasks":[]}"#),
    (
        "GET /ceph/v1/doctor",
        200,
        r#"{"findings":[{"check":"catalog","verdict":"ok","detail":"the cluster answers","advice":null},
        {"check":"leftovers","verdict":"warning","detail":"/dev/rbd7 is here for nobody",
        "advice":"unmap <it>"}]}"#,
    ),
    (
        "GET /ceph/v1/volumes/full/snapshots",
        200,
        r#"{"snapshots":[{"name":"a","created":"2026-01-02T03:04:05Z","size":1,"consistency":null,
        "by":null,"labels":{"<img src=x onerror=alert(1)>":"</td>"},"protected":true,"whole":true}]}"#,
    ),
    (
        "GET /ceph/v1/volumes/full",
        503,
        r#"{"error":"inspect full: the cluster cannot be reached","kind":"unavailable"}"#,
    ),
];

/// The answers of a daemon whose cluster is away.
const AWAY: &[Canned] = &[
    ANSWERS[0],
    (
        "GET /ceph/v1/volumes",
        200,
        r#"{"volumes":[{"name":"calm","mountpoint":"/m/calm","created":"2026-01-02T03:04:05Z",
        "status":{"kind":"rbd","state":"ready","pool":"ssd","namespace":"","image":"x",
        "size":536870912,"used":null,"file-system":null,"options":{"snapshot-schedule":"@daily"},
        "device":null,"mapper":null,"holder":null,"mounts":[],"last-error":null,
        "as-of":"2026-01-05T06:07:08Z"}}]}"#,
    ),
    ANSWERS[2],
    ANSWERS[3],
];

const NONE: &[Canned] = &[
    ANSWERS[0],
    ("GET /ceph/v1/volumes", 200, r#"{"volumes":[]}"#),
    ANSWERS[2],
    ("GET /ceph/v1/doctor", 200, r#"{"findings":[]}"#),
];

fn served(answers: &'static [Canned]) -> (Program, Asked, Ui) {
    let program = Program::new();
    let asked = start(&program.socket(), answers);
    let ui = Ui::start(&mut program.command_of(&["ui", "--listen", "127.0.0.1:0"]));
    (program, asked, ui)
}

#[test]
fn the_page_says_what_needs_somebody_first_and_takes_nothing_for_html() {
    let (_program, _, ui) = served(ANSWERS);
    let page = ui.get("/").body;
    assert!(page.contains("1 problem, 1 warning"), "{page}");
    assert!(page.contains("97\u{a0}% full") && page.contains("unmap &lt;it&gt;"), "{page}");
    let place = |name: &str| page.find(&format!("id=\"volume-{name}\"")).expect("a row");
    assert!(place("full") < place("calm"));
    let volume = ui.get("/volumes/full").body;
    for said in [
        "&lt;script&gt;alert(1)",
        "&lt;b&gt;ab12",
        "&lt;img src=x onerror=alert(1)&gt;=&lt;/td&gt;",
        "the cluster cannot be reached",
        "protected",
    ] {
        assert!(volume.contains(said), "{said}: {volume}");
    }
    assert!(!volume.contains("<b>ab12") && !volume.contains("<img"), "{volume}");
    let absent = ui.get("/volumes/nobody");
    assert_eq!(absent.status, 404);
    assert!(absent.body.contains("There is no volume nobody"), "{}", absent.body);
    let filtered = ui.get("/?q=SSD&show=unused").body;
    assert!(filtered.contains("volume-calm") && !filtered.contains("volume-full"), "{filtered}");
}

#[test]
fn many_who_look_ask_the_daemon_once() {
    let (_program, asked, ui) = served(ANSWERS);
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| assert_eq!(ui.get("/").status, 200));
        }
    });
    let mut asked: Vec<String> = asked.take().into_iter().map(|(request, _)| request).collect();
    asked.sort();
    let once = ["doctor", "tasks", "version", "volumes"].map(|it| format!("GET /ceph/v1/{it}"));
    assert_eq!(asked, once);
}

#[test]
fn what_the_cluster_would_have_to_answer_is_not_asked_for_while_it_is_away() {
    let (_program, asked, ui) = served(AWAY);
    let page = ui.get("/").body;
    assert!(page.contains("Ceph does not answer the daemon"), "{page}");
    assert!(page.contains("what was known at 2026-01-05 06:07:08Z"), "{page}");
    let volume = ui.get("/volumes/calm").body;
    assert!(volume.contains("what was known at 2026-01-05 06:07:08Z"), "{volume}");
    let asked = asked.take();
    let of_cluster = |(request, _): &&(String, String)| {
        request.contains("schedules") || request.contains("volumes/")
    };
    assert_eq!(asked.iter().find(of_cluster), None);
}

#[test]
fn where_there_is_nothing_the_page_says_what_to_do() {
    let (program, _, ui) = served(NONE);
    let page = ui.get("/").body;
    assert!(page.contains("All is well") && page.contains("docker volume create"), "{page}");
    drop(ui);
    std::fs::remove_file(program.socket()).expect("a socket");
    let ui = Ui::start(&mut program.command_of(&["ui", "--listen", "127.0.0.1:0"]));
    let page = ui.get("/").body;
    assert!(page.contains("The daemon does not answer"), "{page}");
    assert!(page.contains("systemctl start docker-volume-ceph"), "{page}");
}

#[test]
fn only_questions_for_this_host_are_answered_and_nothing_from_elsewhere_is_allowed_in() {
    let (_program, asked, ui) = served(ANSWERS);
    let with = |method: &str, host: &str| ui.send(&format!("{method} / HTTP/1.1\r\n{host}\r\n"));
    for host in ["Host: localhost\r\n", "Host: localhost:8000\r\n", "Host: [::1]:80\r\n"] {
        assert_eq!(with("GET", host).status, 200, "{host}");
    }
    for host in [
        "Host: example.org\r\n",
        "Host: 127.0.0.1.example.org\r\n",
        "Host: 192.0.2.7\r\n",
        "Host: localhost\r\nHost: example.org\r\n",
        "",
    ] {
        let answer = with("GET", host);
        assert_eq!(answer.status, 421, "{host}");
        assert!(!answer.body.contains("full"), "{}", answer.body);
    }
    let absolute = "GET http://example.org/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(ui.send(absolute).status, 421);
    asked.take();
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(
            with(method, "Host: localhost\r\nContent-Length: 0\r\n").status,
            405,
            "{method}"
        );
    }
    assert!(asked.take().is_empty());
    let head = with("HEAD", "Host: localhost\r\n");
    assert_eq!((head.status, &head.body[..]), (200, ""));
    for path in ["/", "/page.css", "/page.js", "/icon.svg", "/nothing", "/volumes/..%2fx"] {
        let head = ui.get(path).head;
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
            "connection: close",
        ] {
            assert!(head.contains(header), "{path} without {header}: {head}");
        }
    }
}

#[test]
fn an_address_that_others_reach_has_to_be_allowed() {
    let program = Program::new();
    let refused = program.run(&["ui", "--listen", "0.0.0.0:0"]).failed(2);
    assert!(refused.contains("--allow-remote") && refused.contains("ssh -L"), "{refused}");
    program.run(&["ui", "--listen", "nowhere"]).failed(2);
    let refused = program.run(&["ui", "--listen", "127.0.0.1:0", "--user", "root"]).failed(2);
    assert!(refused.contains("root does not serve it"), "{refused}");
    program.run(&["ui", "--user", "no-such-user"]).failed(2);
    start(&program.socket(), ANSWERS);
    let ui = Ui::start(&mut program.command_of(&["ui", "--listen", "0.0.0.0:0", "--allow-remote"]));
    assert_eq!(ui.send("GET / HTTP/1.1\r\nHost: 192.0.2.7\r\n\r\n").status, 200);
    let taken = ui.address.to_string();
    let refused = program.run(&["ui", "--listen", &taken, "--allow-remote"]).failed(1);
    assert!(refused.contains("listen on") && refused.contains("in use"), "{refused}");
}

#[test]
fn who_serves_the_page_for_root_may_do_nothing_and_root_keeps_no_privilege_either() {
    let (program, _, ui) = served(ANSWERS);
    let server = ui.server().expect("a process of its own");
    let of = |field: &str| status(server, field).expect("it runs");
    assert_eq!(of("Uid"), "65534\t65534\t65534\t65534");
    assert_eq!(of("Gid"), "65534\t65534\t65534\t65534");
    assert_eq!(of("Groups"), "");
    for pid in [server, ui.pid()] {
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(pid, set).as_deref(), Some("0000000000000000"), "{set} of {pid}");
        }
        assert_eq!(status(pid, "NoNewPrivs").as_deref(), Some("1"));
    }
    let environment = std::fs::read(format!("/proc/{server}/environ")).expect("root may read it");
    assert!(environment.is_empty());
    let sockets = std::fs::read_to_string("/proc/net/unix").expect("procfs");
    let name = format!("docker-ceph-ui-{}-", ui.pid());
    let gate = sockets.lines().filter_map(|line| line.split('@').nth(1));
    let gate = gate.into_iter().find(|of| of.starts_with(&name)).expect("a gate");
    let gate = SocketAddr::from_abstract_name(gate).expect("a name");
    let mut stream = UnixStream::connect_addr(&gate).expect("everybody may connect");
    let _ = stream.write_all(b"GET /ceph/v1/volumes HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty(), "another process is answered: {}", String::from_utf8_lossy(&answer));
    assert_eq!(ui.get("/").status, 200);
    drop(program);
}

#[test]
fn either_process_ends_with_the_other() {
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
        let (_program, _, mut ui) = served(ANSWERS);
        let server = ui.server().expect("a process of its own");
        ui.signal(signal);
        assert!(is_gone(server), "after {signal} the page is there");
        let ended = ui.end();
        assert_eq!(ended.success(), signal != Signal::SIGKILL, "{signal}: {ended}");
    }
    let (_program, _, mut ui) = served(ANSWERS);
    send(ui.server().expect("a process of its own"), Signal::SIGKILL);
    assert_eq!(ui.end().code(), Some(1));
}

#[test]
fn who_may_use_the_socket_without_being_root_needs_no_second_process() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let program = Program::new();
    start(&program.socket(), ANSWERS);
    for (path, mode) in [(program.folder.path(), 0o755), (&*program.socket(), 0o666)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("permissions");
    }
    // The program may lie where only root may go.
    let copy = program.path("docker-ceph");
    std::fs::copy(Program::executable(), &copy).expect("a copy");
    let mut command = program.command(&copy);
    command.args(["ui", "--listen", "127.0.0.1:0"]).uid(65534).gid(65534);
    let ui = Ui::start(&mut command);
    assert!(ui.get("/").body.contains("volume-full"));
    assert_eq!(ui.server(), None);
    assert_eq!(status(ui.pid(), "NoNewPrivs").as_deref(), Some("1"));
}
