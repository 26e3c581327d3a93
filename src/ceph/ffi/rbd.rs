//! librbd (`rbd/librbd.h`), which the `ceph` crate does not declare at all.
#![allow(non_camel_case_types, reason = "their names in the C header")]

use std::ffi::{c_char, c_int, c_uint, c_void};

use libc::{time_t, timespec};

use super::rados::rados_ioctx_t;
use super::{c_constants, c_functions, c_structs};

pub(in crate::ceph) type rbd_image_t = *mut c_void;
pub(in crate::ceph) type rbd_image_options_t = *mut c_void;
pub(in crate::ceph) type rbd_trash_image_source_t = c_uint;
pub(in crate::ceph) type rbd_snap_namespace_type_t = c_uint;
pub(in crate::ceph) type librbd_progress_fn_t =
    extern "C" fn(offset: u64, total: u64, argument: *mut c_void) -> c_int;
pub(in crate::ceph) type diff_callback_t =
    extern "C" fn(offset: u64, length: usize, exists: c_int, argument: *mut c_void) -> c_int;

c_constants! {
    RBD_IMAGE_OPTION_FEATURES: c_int = 1;
    RBD_IMAGE_OPTION_ORDER: c_int = 2;
    RBD_IMAGE_OPTION_STRIPE_UNIT: c_int = 3;
    RBD_IMAGE_OPTION_STRIPE_COUNT: c_int = 4;
    RBD_IMAGE_OPTION_DATA_POOL: c_int = 10;
    RBD_IMAGE_OPTION_CLONE_FORMAT: c_int = 12;
    RBD_SNAP_NAMESPACE_TYPE_USER: rbd_snap_namespace_type_t = 0;
    RBD_SNAP_NAMESPACE_TYPE_TRASH: rbd_snap_namespace_type_t = 2;
    RBD_FLAG_OBJECT_MAP_INVALID: u64 = 1 << 0;
    RBD_FLAG_FAST_DIFF_INVALID: u64 = 1 << 1;
    RBD_TRASH_IMAGE_SOURCE_USER: rbd_trash_image_source_t = 0;
    RBD_TRASH_IMAGE_SOURCE_USER_PARENT: rbd_trash_image_source_t = 4;
    RBD_FEATURE_LAYERING: u64 = 1 << 0;
    RBD_FEATURE_STRIPINGV2: u64 = 1 << 1;
    RBD_FEATURE_EXCLUSIVE_LOCK: u64 = 1 << 2;
    RBD_FEATURE_OBJECT_MAP: u64 = 1 << 3;
    RBD_FEATURE_FAST_DIFF: u64 = 1 << 4;
    RBD_FEATURE_DEEP_FLATTEN: u64 = 1 << 5;
    RBD_FEATURE_JOURNALING: u64 = 1 << 6;
    RBD_FEATURE_DATA_POOL: u64 = 1 << 7;
    RBD_FEATURE_OPERATIONS: u64 = 1 << 8;
    RBD_FEATURE_MIGRATING: u64 = 1 << 9;
    RBD_FEATURE_NON_PRIMARY: u64 = 1 << 10;
    RBD_FEATURE_DIRTY_CACHE: u64 = 1 << 11;
}

c_structs! {
    /// An image's internal ID and name.
    struct rbd_image_spec_t {
        id: *mut c_char,
        name: *mut c_char,
    }
    /// A client that has an image open.
    struct rbd_image_watcher_t {
        addr: *mut c_char,
        id: i64,
        cookie: u64,
    }
    /// An image in the trash.
    struct rbd_trash_image_info_t {
        id: *mut c_char,
        name: *mut c_char,
        source: rbd_trash_image_source_t,
        deletion_time: time_t,
        deferment_end_time: time_t,
    }
    /// A snapshot of an image.
    struct rbd_snap_info_t {
        id: u64,
        size: u64,
        name: *const c_char,
    }
    /// A snapshot that an image was made of.
    struct rbd_snap_spec_t {
        id: u64,
        namespace_type: rbd_snap_namespace_type_t,
        name: *mut c_char,
    }
    /// An image that another was made of, or was made of another.
    struct rbd_linked_image_spec_t {
        pool_id: i64,
        pool_name: *mut c_char,
        pool_namespace: *mut c_char,
        image_id: *mut c_char,
        image_name: *mut c_char,
        trash: bool,
    }
    /// What an image says of itself.
    struct rbd_image_info_t {
        size: u64,
        obj_size: u64,
        num_objs: u64,
        order: c_int,
        block_name_prefix: [c_char; 24],
        parent_pool: i64,
        parent_name: [c_char; 96],
    }
}

c_functions! {
    link "rbd";
    fn rbd_image_options_create(options: *mut rbd_image_options_t);
    fn rbd_image_options_destroy(options: rbd_image_options_t);
    fn rbd_image_options_set_string(
        options: rbd_image_options_t, option: c_int, value: *const c_char,
    ) -> c_int;
    fn rbd_image_options_set_uint64(
        options: rbd_image_options_t, option: c_int, value: u64,
    ) -> c_int;
    fn rbd_create4(
        io: rados_ioctx_t, name: *const c_char, size: u64, options: rbd_image_options_t,
    ) -> c_int;
    fn rbd_remove_with_progress(
        io: rados_ioctx_t, name: *const c_char,
        progress: librbd_progress_fn_t, argument: *mut c_void,
    ) -> c_int;
    fn rbd_list2(io: rados_ioctx_t, images: *mut rbd_image_spec_t, count: *mut usize) -> c_int;
    fn rbd_image_spec_list_cleanup(images: *mut rbd_image_spec_t, count: usize);
    fn rbd_open(
        io: rados_ioctx_t, name: *const c_char, image: *mut rbd_image_t, snap: *const c_char,
    ) -> c_int;
    fn rbd_open_read_only(
        io: rados_ioctx_t, name: *const c_char, image: *mut rbd_image_t, snap: *const c_char,
    ) -> c_int;
    fn rbd_open_by_id_read_only(
        io: rados_ioctx_t, id: *const c_char, image: *mut rbd_image_t, snap: *const c_char,
    ) -> c_int;
    fn rbd_close(image: rbd_image_t) -> c_int;
    fn rbd_stat(image: rbd_image_t, info: *mut rbd_image_info_t, size: usize) -> c_int;
    fn rbd_get_id(image: rbd_image_t, id: *mut c_char, length: usize) -> c_int;
    fn rbd_get_features(image: rbd_image_t, features: *mut u64) -> c_int;
    fn rbd_get_flags(image: rbd_image_t, flags: *mut u64) -> c_int;
    fn rbd_get_data_pool_id(image: rbd_image_t) -> i64;
    fn rbd_get_create_timestamp(image: rbd_image_t, created: *mut timespec) -> c_int;
    fn rbd_resize2(
        image: rbd_image_t, size: u64, allow_shrink: bool,
        progress: librbd_progress_fn_t, argument: *mut c_void,
    ) -> c_int;
    fn rbd_diff_iterate2(
        image: rbd_image_t, from_snap: *const c_char, offset: u64, length: u64,
        include_parent: u8, whole_object: u8, callback: diff_callback_t, argument: *mut c_void,
    ) -> c_int;
    fn rbd_metadata_get(
        image: rbd_image_t, key: *const c_char, value: *mut c_char, length: *mut usize,
    ) -> c_int;
    fn rbd_watchers_list(
        image: rbd_image_t, watchers: *mut rbd_image_watcher_t, count: *mut usize,
    ) -> c_int;
    fn rbd_watchers_list_cleanup(watchers: *mut rbd_image_watcher_t, count: usize);
    fn rbd_open_by_id(
        io: rados_ioctx_t, id: *const c_char, image: *mut rbd_image_t, snap: *const c_char,
    ) -> c_int;
    fn rbd_snap_set(image: rbd_image_t, name: *const c_char) -> c_int;
    fn rbd_snap_list(
        image: rbd_image_t, snaps: *mut rbd_snap_info_t, count: *mut c_int,
    ) -> c_int;
    fn rbd_snap_list_end(snaps: *mut rbd_snap_info_t);
    fn rbd_snap_create2(
        image: rbd_image_t, name: *const c_char, flags: u32,
        progress: librbd_progress_fn_t, argument: *mut c_void,
    ) -> c_int;
    fn rbd_snap_remove2(
        image: rbd_image_t, name: *const c_char, flags: u32,
        progress: librbd_progress_fn_t, argument: *mut c_void,
    ) -> c_int;
    fn rbd_snap_remove_by_id(image: rbd_image_t, id: u64) -> c_int;
    fn rbd_snap_set_by_id(image: rbd_image_t, id: u64) -> c_int;
    fn rbd_snap_rollback_with_progress(
        image: rbd_image_t, name: *const c_char,
        progress: librbd_progress_fn_t, argument: *mut c_void,
    ) -> c_int;
    fn rbd_snap_get_timestamp(image: rbd_image_t, id: u64, created: *mut timespec) -> c_int;
    fn rbd_snap_get_namespace_type(
        image: rbd_image_t, id: u64, namespace_type: *mut rbd_snap_namespace_type_t,
    ) -> c_int;
    fn rbd_list_children3(
        image: rbd_image_t, images: *mut rbd_linked_image_spec_t, count: *mut usize,
    ) -> c_int;
    fn rbd_linked_image_spec_list_cleanup(images: *mut rbd_linked_image_spec_t, count: usize);
    fn rbd_linked_image_spec_cleanup(image: *mut rbd_linked_image_spec_t);
    fn rbd_snap_spec_cleanup(snap: *mut rbd_snap_spec_t);
    fn rbd_get_parent(
        image: rbd_image_t, parent: *mut rbd_linked_image_spec_t, snap: *mut rbd_snap_spec_t,
    ) -> c_int;
    fn rbd_clone3(
        parent_io: rados_ioctx_t, parent: *const c_char, snap: *const c_char,
        child_io: rados_ioctx_t, child: *const c_char, options: rbd_image_options_t,
    ) -> c_int;
    fn rbd_flatten_with_progress(
        image: rbd_image_t, progress: librbd_progress_fn_t, argument: *mut c_void,
    ) -> c_int;
    fn rbd_rebuild_object_map(
        image: rbd_image_t, progress: librbd_progress_fn_t, argument: *mut c_void,
    ) -> c_int;
    fn rbd_trash_move(io: rados_ioctx_t, name: *const c_char, delay: u64) -> c_int;
    fn rbd_trash_get(
        io: rados_ioctx_t, id: *const c_char, info: *mut rbd_trash_image_info_t,
    ) -> c_int;
    fn rbd_trash_get_cleanup(info: *mut rbd_trash_image_info_t);
    fn rbd_trash_list(
        io: rados_ioctx_t, entries: *mut rbd_trash_image_info_t, count: *mut usize,
    ) -> c_int;
    fn rbd_trash_list_cleanup(entries: *mut rbd_trash_image_info_t, count: usize);
    fn rbd_trash_remove_with_progress(
        io: rados_ioctx_t, id: *const c_char, force: bool,
        progress: librbd_progress_fn_t, argument: *mut c_void,
    ) -> c_int;
    fn rbd_trash_restore(io: rados_ioctx_t, id: *const c_char, name: *const c_char) -> c_int;
    fn rbd_namespace_list(io: rados_ioctx_t, names: *mut c_char, size: *mut usize) -> c_int;
    fn rbd_namespace_exists(
        io: rados_ioctx_t, name: *const c_char, exists: *mut bool,
    ) -> c_int;
}
