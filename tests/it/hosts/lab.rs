//! The lab does to a host what it says.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::daemon::within;
use crate::support::machine::{SOON, on_two};

#[test]
fn a_host_can_be_cut_off_and_frozen() {
    on_two(|one, other| {
        // Nobody listens there: a host that is reached says so.
        let knock = "timeout 3 bash -c ': < /dev/tcp/10.77.0.1/1' 2>&1 | grep -q refused";
        let reaches = || one.try_run(30, knock).expect("commands reach it").status == 0;
        assert!(within(SOON, reaches));
        one.cut();
        assert!(!reaches());
        one.mend();
        assert!(within(SOON, reaches));

        let clock = || one.run("date +%s").parse::<u64>().expect("seconds");
        let before = clock();
        let start = Instant::now();
        one.freeze();
        assert!(one.try_run(3, "true").is_err());
        assert_eq!(other.run("echo goes on"), "goes on");
        thread::sleep(Duration::from_secs(3));
        one.thaw();
        let asleep = start.elapsed();
        assert!(asleep >= Duration::from_secs(3), "{asleep:?}");
        assert!(clock() - before + 1 >= asleep.as_secs(), "its clock stood still");
    });
}

#[test]
fn a_command_has_an_exit_status_two_outputs_and_a_deadline() {
    on_two(|one, _| {
        let done = one.try_run(30, "echo out; echo 'and more'; echo err >&2; exit 7");
        let done = done.expect("the host answers");
        assert_eq!((done.status, &*done.out, &*done.err), (7, "out\nand more\n", "err\n"));
        let done = one.try_run(6, "echo begun; sleep 100").expect("the host answers");
        assert_eq!((done.status, &*done.out), (124, "begun\n"));
        // Two at once: neither waits for the other.
        thread::scope(|scope| {
            let waits =
                "for i in $(seq 300); do [ ! -e /run/go ] || exit 0; sleep 0.1; done; exit 1";
            let waiting = scope.spawn(|| one.try_run(60, waits));
            one.run("touch /run/go");
            assert_eq!(waiting.join().expect("no panic").expect("an answer").status, 0);
        });
    });
}
