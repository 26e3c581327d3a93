//! RBD images, seen with the stock tool beside ours.

use docker_volume_ceph::ceph::{ClusterErrorKind, ImageLayout, Images};
use docker_volume_ceph::volume::{ByteSize, Location};

use super::Lab;
use super::lab::{home, new_image, unique};

#[test]
fn an_image_is_made_with_the_layout_that_was_asked_for() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = home().image(unique("layout"));
    let layout = ImageLayout {
        size: ByteSize::gib(3),
        features: ["layering", "exclusive-lock"].map(String::from).to_vec(),
        object_size: Some(ByteSize::mib(8)),
        stripes: Some((ByteSize::mib(1), 4)),
        data_pool: Some("data".to_owned()),
    };
    cluster.image_create(&image, &layout).expect("created");
    let info = cluster.image_info(&image).expect("there");
    assert_eq!(info.size, ByteSize::gib(3));
    assert_eq!(info.object_size, ByteSize::mib(8));
    assert_eq!(info.data_pool.as_deref(), Some("data"));
    assert_eq!(info.features, ["layering", "striping", "exclusive-lock", "data-pool"]);
    let age = jiff::Timestamp::now() - info.created.expect("a time");
    assert!(age.get_seconds().abs() < 60, "{age}");

    let seen = lab.run(&format!("rbd info {image}"));
    for line in
        [&format!("id: {}", info.id), "data_pool: data", "stripe unit: 1 MiB", "stripe count: 4"]
    {
        assert!(seen.contains(line), "{line}: {seen}");
    }
    cluster.image_remove(&image).expect("removed");
}

#[test]
fn what_is_not_asked_for_is_the_clusters_choice() {
    let cluster = Lab::get().cluster();
    let image = new_image(&cluster, "plain");
    let info = cluster.image_info(&image).expect("there");
    assert_eq!((info.size, info.object_size), (ByteSize::mib(64), ByteSize::mib(4)));
    assert_eq!(
        info.features,
        ["layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"]
    );
    assert_eq!(info.data_pool, None);
}

#[test]
fn images_are_listed_by_namespace_and_an_image_is_there_or_not() {
    let cluster = Lab::get().cluster();
    let (here, there) = (home(), Location::new("rbd", "other"));
    let image = new_image(&cluster, "listed");
    assert!(cluster.image_list(&here).expect("a list").contains(&image.image));
    assert!(!cluster.image_list(&there).expect("a list").contains(&image.image));
    let same = there.image(&image.image);
    let absent = cluster.image_info(&same).expect_err("another namespace");
    assert_eq!(absent.kind, ClusterErrorKind::NotFound);
    cluster.image_create(&same, &ImageLayout::default()).expect("the name is free there");

    let again = cluster.image_create(&image, &ImageLayout::default()).expect_err("it is there");
    assert_eq!((again.kind, again.errno), (ClusterErrorKind::Exists, 17), "{again}");
    cluster.image_remove(&image).expect("removed");
    let gone = cluster.image_remove(&image).expect_err("it is gone");
    assert_eq!(gone.kind, ClusterErrorKind::NotFound, "{gone}");
    assert!(!cluster.image_list(&here).expect("a list").contains(&image.image));
    cluster.image_remove(&same).expect("removed");
}

#[test]
fn a_longer_list_than_was_expected_is_read_whole() {
    let cluster = Lab::get().cluster();
    let data = Location::new("data", "");
    let tiny = ImageLayout {
        size: ByteSize::mib(4),
        features: vec!["layering".to_owned()],
        ..ImageLayout::default()
    };
    let names: Vec<String> = (0..300).map(|_| unique("many")).collect();
    std::thread::scope(|scope| {
        for names in names.chunks(75) {
            let (cluster, data, tiny) = (&cluster, &data, &tiny);
            scope.spawn(move || {
                for name in names {
                    cluster.image_create(&data.image(name), tiny).expect("created");
                }
            });
        }
    });
    let listed = cluster.image_list(&data).expect("a list");
    assert!(names.iter().all(|name| listed.contains(name)));
    std::thread::scope(|scope| {
        for names in names.chunks(75) {
            let (cluster, data) = (&cluster, &data);
            scope.spawn(move || {
                for name in names {
                    cluster.image_remove(&data.image(name)).expect("removed");
                }
            });
        }
    });
}

#[test]
fn what_is_missing_is_named() {
    let cluster = Lab::get().cluster();
    let admin = Lab::get().admin();
    let words = |at: Location, words: &str| {
        let error = admin.image_info(&at.image("x")).expect_err("missing");
        assert_eq!(error.kind, ClusterErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    words(home(), "read image rbd/docker/x: there is no such image (errno 2)");
    words(Location::new("rbd", "nirvana"), "there is no namespace \"nirvana\" in pool \"rbd\"");
    words(Location::new("nirvana", ""), "there is no pool \"nirvana\"");
    let nowhere = Location::new("rbd", "nirvana");
    assert_eq!(
        admin.image_list(&nowhere).expect_err("no namespace").kind,
        ClusterErrorKind::NotFound
    );
    let made = admin.image_create(&nowhere.image("x"), &ImageLayout::default());
    assert_eq!(made.expect_err("no namespace").kind, ClusterErrorKind::NotFound);
    let data_pool = Some("nirvana".to_owned());
    let layout = ImageLayout { data_pool, ..ImageLayout::default() };
    let image = home().image(unique("nodata"));
    let error = cluster.image_create(&image, &layout).expect_err("no data pool");
    assert!(error.to_string().contains("no pool \"nirvana\""), "{error}");
}

#[test]
fn a_layout_that_cannot_be_is_refused_and_makes_nothing() {
    let cluster = Lab::get().cluster();
    let image = home().image(unique("refused"));
    let plain = ImageLayout { size: ByteSize::mib(64), ..ImageLayout::default() };
    for layout in [
        ImageLayout { features: vec!["raid".to_owned()], ..plain.clone() },
        ImageLayout { features: vec!["object-map".to_owned()], ..plain.clone() },
        ImageLayout { object_size: Some(ByteSize(3 << 20)), ..plain.clone() },
        ImageLayout { object_size: Some(ByteSize::gib(1)), ..plain.clone() },
        ImageLayout { stripes: Some((ByteSize(4097), 3)), ..plain.clone() },
    ] {
        let error = cluster.image_create(&image, &layout).expect_err("refused");
        assert_eq!(error.kind, ClusterErrorKind::Invalid, "{error}");
        let absent = cluster.image_info(&image).expect_err("nothing was made");
        assert_eq!(absent.kind, ClusterErrorKind::NotFound);
    }
    let forbidden = Location::new("rbd", "").image("x");
    let error = cluster.image_create(&forbidden, &plain).expect_err("not ours");
    assert_eq!(error.kind, ClusterErrorKind::Denied, "{error}");
}

#[test]
fn an_image_grows_and_never_shrinks() {
    let cluster = Lab::get().cluster();
    let image = new_image(&cluster, "resize");
    cluster.image_resize(&image, ByteSize::mib(128)).expect("resized");
    assert_eq!(cluster.image_info(&image).expect("there").size, ByteSize::mib(128));
    cluster.image_resize(&image, ByteSize::mib(128)).expect("it is that size");
    let error = cluster.image_resize(&image, ByteSize::mib(64)).expect_err("smaller");
    assert_eq!(error.kind, ClusterErrorKind::Invalid);
    assert!(error.to_string().contains("it is 128 MiB"), "{error}");
    assert_eq!(cluster.image_info(&image).expect("there").size, ByteSize::mib(128));
}

#[test]
fn used_is_what_was_written_and_an_image_with_snapshots_stays() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "used");
    assert_eq!(cluster.image_used(&image), Ok(ByteSize(0)));
    lab.run(&format!("rbd bench {image} --io-type write --io-size 4M --io-total 8M"));
    assert_eq!(cluster.image_used(&image), Ok(ByteSize::mib(8)), "whole objects are counted");

    lab.run(&format!("rbd snap create --no-progress {image}@keep"));
    let error = cluster.image_remove(&image).expect_err("it has a snapshot");
    assert_eq!((error.kind, error.errno), (ClusterErrorKind::NotEmpty, 39), "{error}");
    assert!(cluster.image_info(&image).is_ok());
    lab.run(&format!("rbd snap rm --no-progress {image}@keep"));
    cluster.image_remove(&image).expect("removed");
}

#[test]
fn metadata_is_what_the_stock_tool_sees() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "metadata");
    let get = |key| cluster.metadata_get(&image, key).expect("read");
    assert_eq!(get("docker"), None);
    cluster.metadata_set(&image, "docker", "{\"size\": 1}").expect("set");
    assert_eq!(get("docker").as_deref(), Some("{\"size\": 1}"));
    assert_eq!(lab.run(&format!("rbd image-meta get {image} docker")).trim(), "{\"size\": 1}");
    let long = "ü".repeat(20_000);
    cluster.metadata_set(&image, "docker", &long).expect("set");
    assert_eq!(get("docker"), Some(long));
    lab.run(&format!("rbd image-meta set {image} other value"));
    assert_eq!(get("other").as_deref(), Some("value"));

    let missing = home().image(unique("missing"));
    let error = cluster.metadata_set(&missing, "k", "v").expect_err("no image");
    assert_eq!(error.kind, ClusterErrorKind::NotFound, "{error}");
    let error = cluster.metadata_get(&missing, "k").expect_err("no image");
    assert_eq!(error.kind, ClusterErrorKind::NotFound, "{error}");
    cluster.image_remove(&image).expect("removed");
    let error = cluster.metadata_set(&image, "k", "v").expect_err("no image any more");
    assert_eq!(error.kind, ClusterErrorKind::NotFound, "{error}");
}
