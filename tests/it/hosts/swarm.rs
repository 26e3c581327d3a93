//! A Swarm of two kernels moves a task with its volume: when it is asked to, and when a node has
//! lost its power.

use std::time::Instant;

use super::{address, is_fenced, take, unmount};
use crate::engine::recorded;
use crate::engine::swarm::service::{Service, leave, make, set_availability};
use crate::support::machine::{Machine, on_two};

#[test]
fn a_swarm_moves_a_task_with_its_volume_also_from_a_node_without_power() {
    on_two(|one, other| {
        let (volume, name) = (one.volume(&[]), one.fresh("service"));
        make((one.docker(), "10.77.0.11"), (other.docker(), "10.77.0.12"), &volume);
        set_availability(one.docker(), other.docker(), "drain");
        let service = Service::new(one.docker(), name, &volume);
        let container = is_drained(&service, one, other);

        let lost = address(other);
        set_availability(one.docker(), one.docker(), "active");
        let acknowledged = recorded(other.docker(), &container);
        other.power_off();
        let start = Instant::now();
        let moved = service.await_recording(one.docker(), acknowledged);
        println!("moved from the dead node in {:.1} s", start.elapsed().as_secs_f64());
        service.assert_begun_after(one.docker(), &moved, acknowledged);
        assert!(is_fenced(one, &lost));
        let acknowledged = recorded(one.docker(), &moved);
        service.remove(&[one.docker()]);
        one.assert_released();
        take(one, &volume, acknowledged);
        unmount(one, &volume);
        leave(one.docker());
    });
}

/// From the first node to the other, whose container is the answer. Nobody is fenced.
fn is_drained(service: &Service<'_>, one: &Machine, other: &Machine) -> String {
    let container = service.await_recording(one.docker(), 0);
    let released = address(one);
    let start = Instant::now();
    let (moved, acknowledged) = service.drain(one.docker(), &container, other.docker());
    println!("moved by a drain in {:.1} s", start.elapsed().as_secs_f64());
    service.assert_begun_after(other.docker(), &moved, acknowledged);
    assert!(!is_fenced(one, &released), "an orderly move fences nobody");
    moved
}
