//! PostgreSQL on a host that loses its power.

use std::thread;

use super::{address, is_fenced};
use crate::engine::postgres::{TABLE, count, insert_until, psql, start};
use crate::support::machine::on_two;

#[test]
fn every_row_whose_commit_was_acknowledged_survives_a_host_s_power() {
    on_two(|one, other| {
        thread::scope(|scope| {
            for host in [&*one, &*other] {
                scope.spawn(|| host.load_image("postgres"));
            }
        });
        let volume = one.volume(&["size=320M"]);
        let (first, second) = (one.fresh("pg"), one.fresh("pg"));
        start(one.docker(), &first, &volume);
        one.docker().ok(&psql(&first, TABLE));
        let client = address(one);
        let docker = one.docker().clone();
        let committed = insert_until(&docker, &first, || one.power_off());
        start(other.docker(), &second, &volume);
        assert!(is_fenced(other, &client));
        let there = count(other.docker(), &second);
        assert!(there >= committed, "{there} rows of {committed}");
        println!("{committed} rows were committed, {there} are there");
    });
}
