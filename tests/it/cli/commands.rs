//! The operator's commands against a daemon that answers from a table.

use super::fake_daemon::{Asked, Canned, start};
use super::{Program, Ran};

const PGDATA: &str = r#"{"name":"pgdata","mountpoint":"/m/pgdata","created":"2026-01-02T03:04:05.678Z",
"status":{"kind":"rbd","state":"mounted","pool":"rbd","namespace":"docker","image":"pgdata",
"size":10737418240,"used":1610612736,"file-system":"ext4","options":{"size":"10G","uid":"999"},
"device":"/dev/rbd0","mapper":"krbd","holder":{"host":"web1","address":"10.0.0.7:0/31875",
"since":"2026-01-03T00:00:00Z","here":true},"mounts":["ab12","cd34"],"last-error":null}}"#;

const ANSWERS: &[Canned] = &[
    (
        "GET /ceph/v1/volumes",
        200,
        concat!(
            r#"{"volumes":[{"name":"a","mountpoint":"/m/a","created":"2026-01-02T03:04:05Z","#,
            r#""status":{"kind":"rbd","state":"ready","pool":"ssd","namespace":"","image":"x","#,
            r#""size":536870912,"used":null,"file-system":null,"options":{},"device":null,"#,
            r#""mapper":null,"holder":null,"mounts":[],"last-error":null,"#,
            r#""as-of":"2026-01-02T03:04:05Z"}},"#,
            r#"{"name":"pgdata","mountpoint":"/m/pgdata","created":"2026-01-02T03:04:05Z","#,
            r#""status":{"kind":"rbd","state":"mounted","pool":"rbd","namespace":"docker","#,
            r#""image":"pgdata","size":10737418240,"used":1610612736,"file-system":"ext4","#,
            r#""options":{},"device":"/dev/rbd0","mapper":"krbd","holder":{"host":"web1","#,
            r#""address":null,"since":"2026-01-03T00:00:00Z","here":true},"mounts":["ab12"],"#,
            r#""last-error":null}}]}"#
        ),
    ),
    (
        "GET /ceph/v1/trash",
        200,
        r#"{"volumes":[{"name":"old","id":"5e6f","image":"old","pool":"rbd",
        "namespace":"docker","deleted":"2026-01-02T03:04:05Z","kept-until":"2026-01-09T03:04:05Z"}]}"#,
    ),
    ("POST /ceph/v1/volumes", 200, r#"{"created":"created"}"#),
    (
        "GET /ceph/v1/volumes/nope",
        404,
        r#"{"error":"inspect nope: there is no such volume","kind":"not-found"}"#,
    ),
    ("DELETE /ceph/v1/volumes/a", 200, "{}"),
    ("DELETE /ceph/v1/volumes/b?policy=keep", 200, "{}"),
    (
        "DELETE /ceph/v1/volumes/pgdata",
        423,
        r#"{"error":"remove pgdata: volume is in use by 2 mounts","kind":"in-use"}"#,
    ),
    (
        "POST /ceph/v1/volumes/a/resize",
        200,
        r#"{"from":1073741824,"to":21474836480,"file-system-grown":false}"#,
    ),
    ("POST /ceph/v1/volumes/full/resize", 507, r#"{"error":"no room","kind":"no-space"}"#),
    ("POST /ceph/v1/volumes/a/trim", 200, r#"{"bytes":1610612736}"#),
    ("POST /ceph/v1/volumes/a/protect", 200, "{}"),
    (
        "GET /ceph/v1/volumes/a/who",
        200,
        r#"{"name":"a","holder":null,"sharers":[{"host":"web2",
        "address":"10.0.0.8:0/1","since":"2026-01-03T00:00:00Z","here":false}],
        "watchers":["10.0.0.8:0/1"],"mounts":[],"processes":[{"pid":7,"command":"postgres",
        "target":"/data"}]}"#,
    ),
    (
        "POST /ceph/v1/volumes/a/release",
        200,
        r#"{"released":"fenced","addresses":["10.0.0.8:0/1","10.0.0.8:0/2"]}"#,
    ),
    ("POST /ceph/v1/volumes/b/release", 200, r#"{"released":"there","host":"web2"}"#),
    (
        "POST /ceph/v1/volumes/busy/release",
        423,
        r#"{"error":"release busy: host web2 refused","kind":"in-use"}"#,
    ),
    (
        "POST /ceph/v1/drain",
        200,
        r#"{"volumes":[{"name":"a","kept":null},{"name":"pgdata","kept":"drain pgdata: in use"}]}"#,
    ),
    (
        "GET /ceph/v1/volumes/a/snapshots/before/rollback",
        200,
        r#"{"snapshot":"before","created":"2020-01-02T03:04:05Z","changed":12582912,
        "newer":["later","last"],"size":2147483648,"size-then":1073741824}"#,
    ),
    (
        "POST /ceph/v1/volumes/a/snapshots/before/rollback",
        200,
        r#"{"snapshot":"before","safety":"before-rollback-1","outcome":"goes-on"}"#,
    ),
    (
        "GET /ceph/v1/volumes/full/snapshots/before/rollback",
        423,
        r#"{"error":"rollback full: volume is in use on host web2","kind":"in-use"}"#,
    ),
    (
        "POST /ceph/v1/volumes/full/snapshots/before/rollback",
        200,
        r#"{"snapshot":"before","safety":"before-rollback-1","outcome":"goes-on"}"#,
    ),
    (
        "POST /ceph/v1/volumes/lost/snapshots/before/rollback",
        200,
        r#"{"snapshot":"before","safety":"before-rollback-1","outcome":"goes-on"}"#,
    ),
    (
        "POST /ceph/v1/volumes/a/old-files",
        200,
        r#"{"older-than":"2026-01-02T03:04:05Z","removed":false,"count":3,"bytes":1048576,
        "names":["a.log","old/b.log"],"kept":1,"whole":false}"#,
    ),
    (
        "GET /ceph/v1/tasks",
        200,
        r#"{"tasks":[{"volume":"a","what":"rollback","done":8,"total":8,
        "since":"2026-01-02T03:04:05Z","end":{"at":"2026-01-02T03:04:06Z"}},
        {"volume":"full","what":"rollback","done":3,"total":8,"since":"2026-01-02T03:04:05Z",
        "end":{"at":"2026-01-02T03:04:06Z",
        "failure":{"kind":"no-space","error":"rollback full: no room"}}},
        {"volume":"lost","what":"flatten","done":3,"total":8,"since":"2026-01-02T03:04:05Z"}]}"#,
    ),
    ("POST /ceph/v1/adopt", 200, r#"{"created":"already-there"}"#),
    ("POST /ceph/v1/undelete", 200, r#"{"name":"new"}"#),
    (
        "POST /ceph/v1/catalog/rebuild",
        200,
        r#"{"added":["b"],"kept":["a","pgdata"],"without-image":["lost"],"foreign":[]}"#,
    ),
    (
        "GET /ceph/v1/version",
        200,
        r#"{"version":"9.9.9","api":1,"pid":42,"started":"2026-01-02T03:04:05Z"}"#,
    ),
];

fn daemon() -> (Program, Asked) {
    let program = Program::new();
    let asked = start(&program.socket(), ANSWERS);
    (program, asked)
}

#[track_caller]
fn json(ran: Ran) -> serde_json::Value {
    serde_json::from_str(&ran.succeeded()).expect("JSON")
}

#[test]
fn ls_is_a_table_that_says_what_may_be_out_of_date() {
    let (program, _) = daemon();
    let table = "\
NAME    SIZE     USED     STATE    HOLDER  PLACE
a       512 MiB  -        ready?   -       ssd/x
pgdata  10 GiB   1.5 GiB  mounted  web1    rbd/docker/pgdata
? The cluster gives no answer: this is what was known at 2026-01-02 03:04:05Z.
";
    assert_eq!(program.run(&["ls"]).succeeded(), table);
    assert_eq!(program.run(&["list", "-q"]).succeeded(), "a\npgdata\n");
}

#[test]
fn ls_of_the_trash_says_until_when_a_volume_can_be_brought_back() {
    let (program, _) = daemon();
    let table = "\
NAME  REMOVED               KEPT UNTIL            PLACE           ID
old   2026-01-02 03:04:05Z  2026-01-09 03:04:05Z  rbd/docker/old  5e6f
";
    assert_eq!(program.run(&["ls", "--trash"]).succeeded(), table);
    assert_eq!(program.run(&["ls", "--trash", "--quiet"]).succeeded(), "old\n");
}

#[test]
fn json_is_what_the_daemon_said() {
    let (program, _) = daemon();
    let said = |request: &str| -> serde_json::Value {
        let (_, _, body) = ANSWERS.iter().find(|(known, ..)| *known == request).expect("canned");
        serde_json::from_str(body).expect("JSON")
    };
    for (words, request) in [
        (&["--json", "ls"][..], "GET /ceph/v1/volumes"),
        (&["ls", "--trash", "--json"], "GET /ceph/v1/trash"),
        (&["who", "a", "--json"], "GET /ceph/v1/volumes/a/who"),
        (&["create", "a", "--json"], "POST /ceph/v1/volumes"),
        (&["adopt", "rbd/x", "--name", "a", "--json"], "POST /ceph/v1/adopt"),
        (&["resize", "a", "20G", "--json"], "POST /ceph/v1/volumes/a/resize"),
        (&["trim", "a", "--json"], "POST /ceph/v1/volumes/a/trim"),
        (&["undelete", "old", "--json"], "POST /ceph/v1/undelete"),
        (&["protect", "a", "--json"], "POST /ceph/v1/volumes/a/protect"),
    ] {
        assert_eq!(json(program.run(words)), said(request), "{words:?}");
    }
    let version = json(program.run(&["version", "--json"]));
    assert_eq!(version["daemon"], said("GET /ceph/v1/version"));
}

#[test]
fn inspect_shows_what_there_is_and_fails_for_the_rest() {
    let program = Program::new();
    let inspection = format!(
        r#"{},"features":["layering","exclusive-lock"],"id":"5e6f","stored":4096,"watchers":["10.0.0.7:0/31875"]}}"#,
        PGDATA.strip_suffix('}').expect("an object")
    );
    let found = ("GET /ceph/v1/volumes/pgdata", 200, &*inspection.leak());
    start(&program.socket(), Vec::from([found, ANSWERS[3]]).leak());
    let text = "\
Name:         pgdata
State:        mounted
Mountpoint:   /m/pgdata
Created:      2026-01-02 03:04:05Z
Kind:         rbd
Place:        rbd/docker/pgdata
ID:           5e6f
Size:         10 GiB
Stored:       4 KiB
Used:         1.5 GiB
File system:  ext4
Features:     layering, exclusive-lock
Options:      size=10G
              uid=999
Device:       /dev/rbd0
Mapper:       krbd
Holder:       web1 (10.0.0.7:0/31875) since 2026-01-03 00:00:00Z, this host
Watchers:     10.0.0.7:0/31875
Mounts here:  ab12
              cd34
";
    assert_eq!(program.run(&["inspect", "pgdata"]).succeeded(), text);
    let ran = program.run(&["inspect", "nope", "pgdata"]);
    assert_eq!(ran.stdout, text);
    assert_eq!(ran.failed(3), "Error: inspect nope: there is no such volume\n");
    let listed = json(program.run(&["inspect", "pgdata", "--json"]));
    assert_eq!(listed[0]["status"]["holder"]["host"], "web1");
    assert_eq!(listed[0]["id"], "5e6f");
}

#[test]
fn who_names_hosts_clients_and_processes() {
    let (program, _) = daemon();
    let text = "\
Name:            a
Holder:          -
Shared by:       web2 (10.0.0.8:0/1) since 2026-01-03 00:00:00Z
Watchers:        10.0.0.8:0/1
Processes here:  7 postgres at /data
";
    assert_eq!(program.run(&["who", "a"]).succeeded(), text);
}

#[test]
fn what_changes_a_volume_sends_what_was_said_and_prints_the_name() {
    let (program, asked) = daemon();
    for (words, request, body, said) in [
        (
            &["create", "a", "-o", "size=1G", "--opt", "mount-options=a=b"][..],
            "POST /ceph/v1/volumes",
            r#"{"name":"a","options":{"mount-options":"a=b","size":"1G"}}"#,
            "a\n",
        ),
        (&["rm", "a"], "DELETE /ceph/v1/volumes/a", "", "a\n"),
        (&["rm", "b", "--policy=keep"], "DELETE /ceph/v1/volumes/b?policy=keep", "", "b\n"),
        (
            &["undelete", "old", "--as", "new"],
            "POST /ceph/v1/undelete",
            r#"{"name":"old","as":"new"}"#,
            "new\n",
        ),
        (
            &["resize", "a", "20G"],
            "POST /ceph/v1/volumes/a/resize",
            r#"{"size":"20G"}"#,
            "a: 1 GiB to 20 GiB; the file system grows at the next mount, or on the host that \
             holds it\n",
        ),
        (&["trim", "a"], "POST /ceph/v1/volumes/a/trim", "{}", "a: 1.5 GiB given back\n"),
        (
            &["adopt", "rbd/ns/x", "--name", "a", "-o", "read-only=true"],
            "POST /ceph/v1/adopt",
            r#"{"name":"a","image":"rbd/ns/x","options":{"read-only":"true"}}"#,
            "a\n",
        ),
        (
            &["release", "a", "--fence"],
            "POST /ceph/v1/volumes/a/release",
            r#"{"fence":true}"#,
            "a: taken by force from client 10.0.0.8:0/1, 10.0.0.8:0/2\n",
        ),
        (
            &["release", "b"],
            "POST /ceph/v1/volumes/b/release",
            r#"{"fence":false}"#,
            "b: given up by host web2\n",
        ),
        (&["protect", "a"], "POST /ceph/v1/volumes/a/protect", r#"{"protected":true}"#, "a\n"),
        (&["unprotect", "a"], "POST /ceph/v1/volumes/a/protect", r#"{"protected":false}"#, "a\n"),
    ] {
        assert_eq!(program.run(words).succeeded(), said, "{words:?}");
        assert_eq!(asked.take(), [(request.to_owned(), body.to_owned())], "{words:?}");
    }
}

#[test]
fn rm_of_many_removes_what_it_can() {
    let (program, _) = daemon();
    let ran = program.run(&["rm", "pgdata", "a"]);
    assert_eq!(ran.stdout, "a\n");
    assert_eq!(ran.failed(4), "Error: remove pgdata: volume is in use by 2 mounts\n");
}

#[test]
fn what_is_still_held_after_a_drain_or_refused_by_its_host_does_not_look_like_success() {
    let (program, _) = daemon();
    let drained = program.run(&["drain"]);
    assert_eq!(drained.stdout, "a: given up\npgdata: still held: drain pgdata: in use\n");
    drained.failed(1);
    let refused = program.run(&["release", "busy"]);
    assert_eq!(refused.failed(4), "Error: release busy: host web2 refused\n");
}

#[test]
fn a_rebuild_that_leaves_records_without_image_does_not_look_like_success() {
    let (program, _) = daemon();
    let ran = program.run(&["catalog", "rebuild"]);
    let text = "\
Records that were there:                           2
Records added:                                     1
                                                   b
Records without an image, left for you to decide:  1
                                                   lost
Images that are no volumes, and can be adopted:    0
";
    assert_eq!((ran.code, &ran.stdout[..]), (1, text));
}

#[test]
fn each_kind_of_failure_has_its_exit_code() {
    let (program, _) = daemon();
    program.run(&["inspect", "nope"]).failed(3);
    program.run(&["rm", "pgdata"]).failed(4);
    program.run(&["resize", "full", "1T"]).failed(7);
    program.run(&["trim", "unknown-path"]).failed(1);
    program.run(&["rm"]).failed(2);
    program.run(&["fly"]).failed(2);
    let nobody = Program::new();
    let error = nobody.run(&["ls"]).failed(5);
    assert!(error.contains("no daemon listens on") && error.contains("--socket"), "{error}");
}

#[test]
fn a_bad_name_or_policy_is_refused_before_anything_is_asked() {
    let (program, asked) = daemon();
    let long = "x".repeat(300);
    for name in ["../x", "a/b", "ünï", "", "-o", &long] {
        let error = program.run(&["rm", "--", name]).failed(2);
        assert!(error.contains("volume name"), "{name:?}: {error}");
    }
    let error = program.run(&["rm", "a", "--policy", "burn"]).failed(2);
    assert!(error.contains("one of trash, delete, keep"), "{error}");
    let error = program.run(&["adopt", "x", "--name", "a"]).failed(2);
    assert!(error.contains("pool/namespace/image"), "{error}");
    assert_eq!(asked.take(), []);
}

#[test]
fn option_help_needs_no_daemon() {
    let text = Program::new().run(&["create", "a", "-o", "help"]).succeeded();
    assert!(text.contains("  fs-type") && text.contains("  size"), "{text}");
}

#[test]
fn the_socket_may_stand_in_the_file_of_settings() {
    let (program, _) = daemon();
    let file = format!("socket = {:?}\n", program.socket());
    std::fs::write(program.path("config.toml"), file).expect("a file");
    let mut command = program.command_of(&["ls", "-q"]);
    assert_eq!(Ran::of(command.env_remove("DOCKER_CEPH_SOCKET")).succeeded(), "a\npgdata\n");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let program = Program::new();
    let mut command = program.command(std::path::Path::new("sh"));
    let script = format!(
        "{{ {} man; echo $? >&2; }} | head -c 1 >/dev/null",
        Program::executable().display()
    );
    let ran = Ran::of(command.args(["-c", &script]));
    assert_eq!(ran.stderr, "0\n");
}

#[test]
fn version_works_with_and_without_a_daemon() {
    let (program, _) = daemon();
    let text = program.run(&["version"]).succeeded();
    assert!(text.contains("daemon 9.9.9 (API 1, process 42, since 2026-01-02"), "{text}");
    let text = Program::new().run(&["version"]).succeeded();
    assert!(text.contains("no daemon answers"), "{text}");
}

#[test]
fn a_rollback_says_what_it_loses_and_does_it_only_when_told_to() {
    let (program, asked) = daemon();
    let ran = program.run(&["snapshot", "rollback", "a", "before"]);
    let said = ran.failed(2);
    for text in [
        "written since 2020-01-02 03:04:05Z (",
        "d ago) is lost (12 MiB, in whole objects)",
        "the 2 newer snapshots stay",
        "had 1 GiB then; it keeps its 2 GiB of now",
        "give --yes to go on",
    ] {
        assert!(said.contains(text), "{said} lacks {text}");
    }
    assert!(asked.take().iter().all(|(request, _)| request.starts_with("GET ")), "it changed it");
    let said = program.run(&["snapshot", "rollback", "full", "before"]).failed(4);
    assert!(said.contains("in use on host web2"), "{said}");
}

#[test]
fn work_that_goes_on_is_waited_for_and_its_end_is_the_commands_end() {
    let (program, asked) = daemon();
    let rolled = program.run(&["snapshot", "rollback", "a", "before", "--yes"]).succeeded();
    assert_eq!(
        rolled,
        "a: rolled back to before\nWhat it held until now is in a@before-rollback-1\n"
    );
    let requests: Vec<String> = asked.take().into_iter().map(|(request, _)| request).collect();
    let post = "POST /ceph/v1/volumes/a/snapshots/before/rollback";
    assert_eq!(requests, [post, "GET /ceph/v1/tasks"], "nothing is drawn on a pipe");
    let answer = json(program.run(&["--json", "snapshot", "rollback", "a", "before", "-y"]));
    assert_eq!(answer["outcome"], "done");
    let said = program.run(&["snapshot", "rollback", "full", "before", "--yes"]).failed(7);
    assert!(said.contains("rollback full: no room"), "{said}");
    let said = program.run(&["snapshot", "rollback", "lost", "before", "--yes"]).failed(5);
    assert!(said.contains("the daemon was started anew"), "{said}");
}

#[test]
fn old_files_are_named_and_what_is_not_said_is_counted() {
    let (program, asked) = daemon();
    let said = "\
a.log
old/b.log
and 1 more
a: 3 files (1 MiB), not written since 2026-01-02 03:04:05Z, would be removed; 1 cannot be removed, \
because of their attributes; not all was looked at in time
";
    assert_eq!(program.run(&["old-files", "a"]).succeeded(), said);
    program.run(&["old-files", "--remove", "a"]).succeeded();
    let bodies: Vec<String> = asked.take().into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [r#"{"remove":false}"#, r#"{"remove":true}"#]);
}
