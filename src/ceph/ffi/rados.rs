//! librados (`rados/librados.h`).

use std::ffi::{c_char, c_int, c_uchar, c_void};

use libc::{time_t, timeval};

use super::{c_constants, c_functions};

pub(in crate::ceph) use ::ceph::rados::{
    rados_ioctx_t, rados_omap_iter_t, rados_read_op_t, rados_t, rados_watchcb2_t,
    rados_watcherrcb_t, rados_write_op_t,
};

c_constants! {
    LIBRADOS_CMPXATTR_OP_EQ: u8 = 1;
    LIBRADOS_CREATE_IDEMPOTENT: c_int = 0;
    LIBRADOS_LOCK_FLAG_MAY_RENEW: u8 = 1;
}

c_functions! {
    from the_ceph_crate;
    fn rados_create2(
        cluster: *mut rados_t, cluster_name: *const c_char, name: *const c_char, flags: u64,
    ) -> c_int;
    fn rados_conf_read_file(cluster: rados_t, path: *const c_char) -> c_int;
    fn rados_conf_set(cluster: rados_t, option: *const c_char, value: *const c_char) -> c_int;
    fn rados_conf_get(
        cluster: rados_t, option: *const c_char, value: *mut c_char, length: usize,
    ) -> c_int;
    fn rados_connect(cluster: rados_t) -> c_int;
    fn rados_shutdown(cluster: rados_t);
    fn rados_cluster_fsid(cluster: rados_t, fsid: *mut c_char, length: usize) -> c_int;
    fn rados_get_instance_id(cluster: rados_t) -> u64;
    fn rados_wait_for_latest_osdmap(cluster: rados_t) -> c_int;
    fn rados_pool_list(cluster: rados_t, names: *mut c_char, length: usize) -> c_int;
    fn rados_pool_lookup(cluster: rados_t, pool: *const c_char) -> i64;
    fn rados_pool_reverse_lookup(
        cluster: rados_t, pool: i64, name: *mut c_char, length: usize,
    ) -> c_int;
    fn rados_ioctx_create2(cluster: rados_t, pool: i64, io: *mut rados_ioctx_t) -> c_int;
    fn rados_ioctx_destroy(io: rados_ioctx_t);
    fn rados_ioctx_set_namespace(io: rados_ioctx_t, namespace: *const c_char);
    fn rados_get_last_version(io: rados_ioctx_t) -> u64;
    fn rados_read(
        io: rados_ioctx_t, object: *const c_char, buffer: *mut c_char, length: usize, offset: u64,
    ) -> c_int;
    fn rados_stat(
        io: rados_ioctx_t, object: *const c_char, size: *mut u64, modified: *mut time_t,
    ) -> c_int;
    fn rados_create_write_op() -> rados_write_op_t;
    fn rados_release_write_op(op: rados_write_op_t);
    fn rados_write_op_assert_exists(op: rados_write_op_t);
    fn rados_write_op_create(op: rados_write_op_t, exclusive: c_int, category: *const c_char);
    fn rados_write_op_exec(
        op: rados_write_op_t, class: *const c_char, method: *const c_char,
        input: *const c_char, length: usize, result: *mut c_int,
    );
    fn rados_write_op_operate(
        op: rados_write_op_t, io: rados_ioctx_t, object: *const c_char,
        modified: *mut time_t, flags: c_int,
    ) -> c_int;
    fn rados_create_read_op() -> rados_read_op_t;
    fn rados_release_read_op(op: rados_read_op_t);
    fn rados_read_op_operate(
        op: rados_read_op_t, io: rados_ioctx_t, object: *const c_char, flags: c_int,
    ) -> c_int;
    fn rados_omap_get_end(entries: rados_omap_iter_t);
    fn rados_mon_command(
        cluster: rados_t, commands: *mut *const c_char, count: usize,
        input: *const c_char, input_length: usize,
        output: *mut *mut c_char, output_length: *mut usize,
        status: *mut *mut c_char, status_length: *mut usize,
    ) -> c_int;
    fn rados_unwatch2(io: rados_ioctx_t, cookie: u64) -> c_int;
    fn rados_watch_check(io: rados_ioctx_t, cookie: u64) -> c_int;
    fn rados_watch_flush(cluster: rados_t) -> c_int;
    fn rados_notify2(
        io: rados_ioctx_t, object: *const c_char, message: *const c_char, length: c_int,
        milliseconds: u64, reply: *mut *mut c_char, reply_length: *mut usize,
    ) -> c_int;
    fn rados_notify_ack(
        io: rados_ioctx_t, object: *const c_char, notify: u64, cookie: u64,
        reply: *const c_char, length: c_int,
    ) -> c_int;
    fn rados_lock_shared(
        io: rados_ioctx_t, object: *const c_char, lock: *const c_char, cookie: *const c_char,
        tag: *const c_char, description: *const c_char, duration: *mut timeval, flags: u8,
    ) -> c_int;
    fn rados_unlock(
        io: rados_ioctx_t, object: *const c_char, lock: *const c_char, cookie: *const c_char,
    ) -> c_int;
    fn rados_exec(
        io: rados_ioctx_t, object: *const c_char, class: *const c_char, method: *const c_char,
        input: *const c_char, length: usize, output: *mut c_char, output_length: usize,
    ) -> c_int;
    fn rados_list_lockers(
        io: rados_ioctx_t, object: *const c_char, lock: *const c_char, exclusive: *mut c_int,
        tag: *mut c_char, tag_length: *mut usize, clients: *mut c_char, clients_length: *mut usize,
        cookies: *mut c_char, cookies_length: *mut usize,
        addresses: *mut c_char, addresses_length: *mut usize,
    ) -> isize;
    fn rados_buffer_free(buffer: *mut c_char);
}

// What the `ceph` crate lacks. The omap functions without the "2" take keys as C strings.
c_functions! {
    link "rados";
    fn rados_getaddrs(cluster: rados_t, addresses: *mut *mut c_char) -> c_int;
    fn rados_mgr_command(
        cluster: rados_t, commands: *mut *const c_char, count: usize,
        input: *const c_char, input_length: usize,
        output: *mut *mut c_char, output_length: *mut usize,
        status: *mut *mut c_char, status_length: *mut usize,
    ) -> c_int;
    fn rados_remove(io: rados_ioctx_t, object: *const c_char) -> c_int;
    fn rados_ioctx_selfmanaged_snap_create(io: rados_ioctx_t, snap: *mut u64) -> c_int;
    fn rados_ioctx_selfmanaged_snap_remove(io: rados_ioctx_t, snap: u64) -> c_int;
    fn rados_watch3(
        io: rados_ioctx_t, object: *const c_char, cookie: *mut u64, heard: rados_watchcb2_t,
        lost: rados_watcherrcb_t, seconds: u32, argument: *mut c_void,
    ) -> c_int;
    fn rados_set_pool_full_try(io: rados_ioctx_t);
    fn rados_write_op_omap_cmp2(
        op: rados_write_op_t, key: *const c_char, comparison: u8, value: *const c_char,
        key_length: usize, value_length: usize, result: *mut c_int,
    );
    fn rados_write_op_omap_set2(
        op: rados_write_op_t, keys: *const *const c_char, values: *const *const c_char,
        key_lengths: *const usize, value_lengths: *const usize, count: usize,
    );
    fn rados_write_op_omap_rm_keys2(
        op: rados_write_op_t, keys: *const *const c_char, key_lengths: *const usize, count: usize,
    );
    fn rados_read_op_omap_get_vals2(
        op: rados_read_op_t, after: *const c_char, prefix: *const c_char, limit: u64,
        entries: *mut rados_omap_iter_t, more: *mut c_uchar, result: *mut c_int,
    );
    fn rados_read_op_omap_get_vals_by_keys2(
        op: rados_read_op_t, keys: *const *const c_char, count: usize,
        key_lengths: *const usize, entries: *mut rados_omap_iter_t, result: *mut c_int,
    );
    fn rados_omap_get_next2(
        entries: rados_omap_iter_t, key: *mut *mut c_char, value: *mut *mut c_char,
        key_length: *mut usize, value_length: *mut usize,
    ) -> c_int;
}
