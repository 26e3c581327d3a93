//! The trash.

use std::time::Duration;

use docker_volume_ceph::ceph::{ClusterErrorKind, Images, TrashedImage};

use super::Lab;
use super::lab::{home, new_image, unique};

const HOUR: Duration = Duration::from_secs(3600);

fn in_trash(cluster: &impl Images, name: &str) -> Option<TrashedImage> {
    cluster.trash_list(&home()).expect("a list").into_iter().find(|image| image.name == name)
}

#[test]
fn an_image_goes_to_the_trash_and_comes_back() {
    let (lab, cluster) = (Lab::get(), Lab::get().cluster());
    let image = new_image(&cluster, "trash");
    let id = cluster.image_info(&image).expect("there").id;
    cluster.metadata_set(&image, "docker", "described").expect("set");
    cluster.trash_move(&image, HOUR).expect("moved");

    let gone = cluster.image_info(&image).expect_err("in the trash");
    assert_eq!(gone.kind, ClusterErrorKind::NotFound);
    let again = cluster.trash_move(&image, HOUR).expect_err("in the trash");
    assert_eq!(again.kind, ClusterErrorKind::NotFound);
    let trashed = in_trash(&cluster, &image.image).expect("listed");
    assert_eq!(trashed.id, id);
    let kept = trashed.kept_until.duration_since(trashed.deleted);
    assert_eq!(kept.as_secs(), 3600);
    assert!(lab.run("rbd trash ls rbd/docker").contains(&id));
    let key = |key| cluster.trash_metadata_get(&home(), &id, key);
    assert_eq!(key("docker"), Ok(Some("described".to_owned())));
    assert_eq!(key("other"), Ok(None));

    let name = unique("restored");
    cluster.trash_restore(&home(), &id, &name).expect("restored");
    assert_eq!(in_trash(&cluster, &image.image), None);
    assert_eq!(cluster.image_info(&home().image(&name)).expect("there").id, id);
    cluster.image_remove(&home().image(&name)).expect("removed");
}

#[test]
fn an_image_is_kept_until_its_time_is_over() {
    let cluster = Lab::get().cluster();
    let image = new_image(&cluster, "kept");
    cluster.trash_move(&image, Duration::from_secs(4)).expect("moved");
    let trashed = in_trash(&cluster, &image.image).expect("listed");
    let error = cluster.trash_remove(&home(), &trashed.id).expect_err("too early");
    assert_eq!(error.kind, ClusterErrorKind::Busy);
    assert!(error.to_string().contains("it is kept until 20"), "{error}");
    assert!(in_trash(&cluster, &image.image).is_some());
    std::thread::sleep(Duration::from_secs(5));
    cluster.trash_remove(&home(), &trashed.id).expect("removed");
    let gone = cluster.trash_remove(&home(), &trashed.id).expect_err("it is gone");
    assert_eq!(gone.kind, ClusterErrorKind::NotFound, "{gone}");
    assert_eq!(in_trash(&cluster, &image.image), None);
}

#[test]
fn a_taken_name_is_not_restored_over_and_an_unknown_id_is_not_found() {
    let cluster = Lab::get().cluster();
    let (first, second) = (new_image(&cluster, "first"), new_image(&cluster, "second"));
    let id = cluster.image_info(&first).expect("there").id;
    cluster.trash_move(&first, Duration::ZERO).expect("moved");
    let error = cluster.trash_restore(&home(), &id, &second.image).expect_err("taken");
    assert_eq!(error.kind, ClusterErrorKind::Exists, "{error}");
    assert!(in_trash(&cluster, &first.image).is_some());
    for error in [
        cluster.trash_restore(&home(), "0123456789ab", "x").expect_err("unknown"),
        cluster.trash_remove(&home(), "0123456789ab").expect_err("unknown"),
        cluster.trash_metadata_get(&home(), "0123456789ab", "k").expect_err("unknown"),
    ] {
        assert_eq!(error.kind, ClusterErrorKind::NotFound, "{error}");
    }
    cluster.trash_remove(&home(), &id).expect("removed");
    cluster.image_remove(&second).expect("removed");
}
