//! Omaps and versions.

use docker_volume_ceph::ceph::{ClusterErrorKind, Objects, OmapPage, RadosCluster, Swap};
use docker_volume_ceph::volume::Location;

use super::Lab;
use super::lab::{home, unique};

fn number(value: Option<&[u8]>) -> u64 {
    value.map_or(0, |text| String::from_utf8_lossy(text).parse().expect("a number"))
}

#[test]
fn a_missing_object_is_empty_and_has_version_0() {
    let (cluster, object) = (Lab::get().cluster(), unique("missing"));
    assert_eq!(cluster.omap_get(&home(), &object, "k"), Ok(None));
    assert_eq!(cluster.omap_page(&home(), &object, "", 10), Ok(OmapPage::default()));
    assert_eq!(cluster.object_version(&home(), &object), Ok(0));
}

#[test]
fn a_key_is_set_only_where_it_holds_what_is_expected() {
    let (cluster, object) = (Lab::get().cluster(), unique("catalog"));
    let swap = |expected: Option<&str>, new: Option<&str>| {
        let (expected, new) = (expected.map(str::as_bytes), new.map(str::as_bytes));
        cluster.omap_compare_and_set(&home(), &object, "key", expected, new).expect("a swap")
    };
    let held = || cluster.omap_get(&home(), &object, "key").expect("a value");

    assert_eq!(swap(Some("a"), Some("b")), Swap::Changed, "it is missing");
    assert_eq!(held(), None);
    assert_eq!(swap(None, Some("a")), Swap::Swapped);
    assert_eq!(swap(None, Some("b")), Swap::Changed, "it is there");
    assert_eq!(swap(Some("x"), Some("b")), Swap::Changed, "it is another one");
    assert_eq!(held(), Some(b"a".to_vec()));
    assert_eq!(swap(Some("a"), Some("b")), Swap::Swapped);
    assert_eq!(swap(Some("a"), None), Swap::Changed, "it is no longer that");
    assert_eq!(swap(Some("b"), None), Swap::Swapped);
    assert_eq!(held(), None);
    assert_eq!(swap(None, None), Swap::Swapped, "it is missing, and stays so");
}

#[test]
fn values_are_bytes_and_an_empty_one_is_refused() {
    let (cluster, object) = (Lab::get().cluster(), unique("bytes"));
    let value: Vec<u8> = (0..=255).collect();
    let set = |key: &str, expected: Option<&[u8]>, new: Option<&[u8]>| {
        cluster.omap_compare_and_set(&home(), &object, key, expected, new)
    };
    assert_eq!(set("a\0b/ü", None, Some(&value)), Ok(Swap::Swapped));
    assert_eq!(cluster.omap_get(&home(), &object, "a\0b/ü"), Ok(Some(value)));
    for (expected, new) in [(None, Some(&b""[..])), (Some(&b""[..]), None)] {
        let error = set("k", expected, new).expect_err("an empty value");
        assert_eq!(error.kind, ClusterErrorKind::Invalid, "{error}");
    }
}

#[test]
fn no_update_is_lost_between_eight_threads_and_two_connections() {
    const THREADS: u64 = 8;
    const EACH: u64 = 50;
    let (lab, object) = (Lab::get(), unique("counter"));
    let clusters = [lab.cluster(), lab.cluster()];
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (cluster, object) = (&clusters[thread as usize % 2], &object);
            scope.spawn(move || (0..EACH).for_each(|_| increment(cluster, object)));
        }
    });
    let value = clusters[0].omap_get(&home(), &object, "n").expect("a value");
    assert_eq!(number(value.as_deref()), THREADS * EACH);
}

fn increment(cluster: &RadosCluster, object: &str) {
    loop {
        let old = cluster.omap_get(&home(), object, "n").expect("a value");
        let new = (number(old.as_deref()) + 1).to_string();
        let swap = cluster.omap_compare_and_set(
            &home(),
            object,
            "n",
            old.as_deref(),
            Some(new.as_bytes()),
        );
        if swap.expect("a swap") == Swap::Swapped {
            return;
        }
    }
}

#[test]
fn more_keys_than_one_page_holds_are_read_in_order() {
    const KEYS: usize = 2500;
    let (cluster, object) = (Lab::get().cluster(), unique("pages"));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (cluster, object) = (&cluster, &object);
            scope.spawn(move || {
                for key in (thread..KEYS).step_by(4) {
                    let (key, value) = (format!("volume-{key:05}"), format!("record of {key}"));
                    let set = cluster.omap_compare_and_set(
                        &home(),
                        object,
                        &key,
                        None,
                        Some(value.as_bytes()),
                    );
                    assert_eq!(set, Ok(Swap::Swapped));
                }
            });
        }
    });
    let (mut found, mut pages, mut after) = (Vec::new(), 0, String::new());
    loop {
        // More than an OSD answers at once (osd_max_omap_entries_per_request is 1024).
        let page = cluster.omap_page(&home(), &object, &after, 2000).expect("a page");
        pages += 1;
        found.extend(page.entries);
        if !page.more {
            break;
        }
        after.clone_from(&found.last().expect("a page that is not the last has entries").0);
    }
    assert_eq!(found.len(), KEYS);
    assert!(pages >= 3 && found.is_sorted(), "{pages} pages");
    assert_eq!(found[17], ("volume-00017".to_owned(), b"record of 17".to_vec()));
}

#[test]
fn a_version_changes_with_every_write_and_with_nothing_else() {
    let (cluster, object) = (Lab::get().cluster(), unique("version"));
    let version = || cluster.object_version(&home(), &object).expect("a version");
    let mut seen = vec![version()];
    for value in 0..5 {
        let key = format!("k{value}");
        cluster.omap_compare_and_set(&home(), &object, &key, None, Some(b"v")).expect("a swap");
        assert_eq!(version(), version());
        assert!(!seen.contains(&version()));
        seen.push(version());
    }
    let lost = cluster.omap_compare_and_set(&home(), &object, "k0", None, Some(b"w"));
    assert_eq!((lost, version()), (Ok(Swap::Changed), seen[5]));
}

#[test]
fn namespaces_do_not_see_each_other() {
    let (cluster, object) = (Lab::get().cluster(), unique("apart"));
    let other = Location::new("rbd", "other");
    cluster.omap_compare_and_set(&home(), &object, "k", None, Some(b"here")).expect("a swap");
    assert_eq!(cluster.omap_get(&other, &object, "k"), Ok(None));
    assert_eq!(cluster.omap_get(&home(), &object, "k"), Ok(Some(b"here".to_vec())));
}

#[test]
fn an_error_names_call_key_and_object() {
    let cluster = Lab::get().cluster();
    let at = Location::new("nowhere", "docker");
    let error = cluster.omap_get(&at, "catalog", "pgdata").expect_err("no such pool");
    assert_eq!(error.kind, ClusterErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        "read omap key \"pgdata\" of object nowhere/docker/catalog: there is no pool \"nowhere\" \
         (errno 2)"
    );
    let forbidden = Location::new("rbd", "elsewhere");
    let error = cluster.omap_get(&forbidden, "catalog", "pgdata").expect_err("not allowed");
    assert_eq!((error.kind, error.errno), (ClusterErrorKind::Denied, 1), "{error}");
}
