//! Three daemons serve a schedule: over a hundred due times, whoever dies at whatever call, and
//! however the cluster's clock jumps, each is served once.

use std::collections::BTreeSet;
use std::time::Duration;

use docker_volume_ceph::deadline::Deadline;
use docker_volume_ceph::fault::{Fault, Rule};
use docker_volume_ceph::volume::{ByteSize, MapperKind, Options, SnapshotName};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::kind::Kind;
use super::verb::Verb;
use super::world::World;

/// Seconds between two due times.
const EVERY: i64 = 10;

/// How many looks there are from one due time to the next.
const LOOKS: u32 = 4;

/// The time from one look to the next.
const BETWEEN: Duration = Duration::from_millis(2500);

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Three that serve schedules, and one that only asks.
const HOSTS: [&str; 4] = ["alpha", "beta", "gamma", "asks"];

const SERVING: usize = 3;

const DUE_TIMES: usize = 100;

/// What befalls the daemons at a look.
#[derive(Debug, Clone)]
enum Event {
    Nothing,
    /// One of them dies at one of its next calls.
    Kill {
        host: usize,
        at: Fault,
        nth: u64,
    },
    /// The cluster's clock is put forward, or back, by so many seconds.
    Jump(i64),
}

fn event() -> impl Strategy<Value = Event> {
    let at = prop_oneof![Just(Fault::AbortBefore), Just(Fault::AbortAfter)];
    let kill = (0..SERVING, at, 1..40_u64);
    prop_oneof![
        6 => Just(Event::Nothing),
        3 => kill.prop_map(|(host, at, nth)| Event::Kill { host, at, nth }),
        1 => prop_oneof![Just(37), Just(-25), Just(3), Just(-3), Just(90_000), Just(-90_000)]
            .prop_map(Event::Jump),
    ]
}

/// The schedule's snapshots, oldest first.
fn made(world: &World) -> Vec<Timestamp> {
    let name = "v".parse().expect("a name");
    let deadline = Deadline::after(Duration::from_secs(5));
    let all = world.service(SERVING).snapshots(&name, &deadline).expect("a list");
    let whole = all.iter().filter(|of| of.whole);
    let due = whole.map(|of| of.name.parse::<SnapshotName>().expect("a name").due());
    due.map(|due| due.expect("nobody else makes any")).collect()
}

/// All daemons look at the schedules. One that dies of it is started again, and looks again.
fn look(world: &mut World) {
    for host in 0..SERVING {
        if !world.nodes[host].look_at_schedules() {
            world.restart(host);
            assert!(world.nodes[host].look_at_schedules(), "it has died once");
        }
    }
}

fn latest_due(world: &World) -> Timestamp {
    let now = world.cluster.now().as_second();
    Timestamp::from_second(now.div_euclid(EVERY) * EVERY).expect("a time")
}

/// What is due now has been made, unless the clock was put back to before something that was. A
/// daemon that the machine kept waiting may have taken the cluster for away, and looks again. One that
/// was prepared by a daemon that died then refuses others for half a minute, which the model does not
/// have: it is started again.
fn assert_served(world: &mut World, due: Timestamp) {
    let is_served = |world: &World| {
        let ahead = |other: &Timestamp| *other > due && due.duration_until(*other) < HOUR;
        made(world).iter().any(|other| *other == due || ahead(other))
    };
    for tries in 1..=50 {
        if is_served(world) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
        if tries == 25 {
            (0..SERVING).for_each(|host| world.restart(host));
        }
        look(world);
    }
    panic!("{due} was not served: {:?}", made(world));
}

/// Goes through a hundred periods; how many snapshots there are then.
fn each_once(held: bool, events: &[Event]) -> usize {
    let mut world = World::of_hosts(Kind::Image(MapperKind::Krbd), &HOSTS);
    // What becomes due is due at the first of the looks of a period, and may wait for the others.
    world.cluster.set_clock("2027-01-15T08:00:07.5Z".parse().expect("a time"));
    world.verb(0, &Verb::Create { name: "v".to_owned(), size: ByteSize::gib(1) }, None);
    // One that only asks holds no share in the lease.
    let every = Options::from([("snapshot-schedule".to_owned(), format!("@every {EVERY}s"))]);
    let deadline = Deadline::after(Duration::from_secs(5));
    world.service(0).set_schedule(&"v".parse().expect("a name"), &every, &deadline).expect("set");
    if held {
        world.verb(1, &Verb::Mount { name: "v".to_owned(), id: "a".to_owned() }, None);
    }
    let since = world.cluster.now();
    let mut seen = BTreeSet::new();
    let mut events = events.iter().cycle();
    for _ in 0..DUE_TIMES {
        let mut put_far_back = false;
        for look_at in 0..LOOKS {
            world.cluster.advance(BETWEEN);
            let event = events.next().expect("they never end");
            // Those whose turn is later need the rest of the period.
            let too_late = look_at > 0 && matches!(event, Event::Jump(_));
            let event = if too_late { &Event::Nothing } else { event };
            put_far_back |= matches!(event, Event::Jump(by) if *by < -3600);
            befall(&mut world, event);
            seen.insert(latest_due(&world));
            look(&mut world);
        }
        let due = latest_due(&world);
        // What a clock that was wrong had served says nothing; what is due just then may be passed
        // over, and so is what was due before there was a schedule.
        if due > since && !put_far_back {
            assert_served(&mut world, due);
        }
    }
    let all = made(&world);
    let once: BTreeSet<Timestamp> = all.iter().copied().collect();
    assert_eq!(all.len(), once.len(), "{all:?}");
    assert!(once.is_subset(&seen), "not due: {:?}", once.difference(&seen));
    assert_eq!(world.cluster.violations(), [""; 0]);
    all.len()
}

fn befall(world: &mut World, event: &Event) {
    match event {
        Event::Nothing => {}
        Event::Kill { host, at, nth } => {
            let rule = Rule { fault: *at, call: "*".to_owned(), nth: *nth, onwards: false };
            world.nodes[*host].plan.arm(vec![rule]);
        }
        Event::Jump(by) => {
            let to = world.cluster.now().checked_add(SignedDuration::from_secs(*by));
            world.cluster.set_clock(to.expect("a time"));
        }
    }
}

proptest! {
    #![proptest_config(super::cases(4))]

    #[test]
    fn each_due_time_is_served_once_whoever_dies_and_however_the_clock_jumps(
        held in any::<bool>(),
        events in prop::collection::vec(event(), 50..100),
    ) {
        each_once(held, &events);
    }

    #[test]
    fn a_hundred_due_times_are_a_hundred_snapshots(
        held in any::<bool>(),
        events in prop::collection::vec(event(), 50..100),
    ) {
        let kills: Vec<Event> =
            events.into_iter().filter(|event| !matches!(event, Event::Jump(_))).collect();
        prop_assert_eq!(each_once(held, &kills), DUE_TIMES);
    }
}
