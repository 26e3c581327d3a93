//! The C functions of librados and librbd that this layer calls, under their C names.
//!
//! Each is written down once, in [`rados`] or [`rbd`], and serves twice: as the Rust declaration,
//! and (in a test) as a C redeclaration that gcc compares with the installed headers. Functions
//! that the `ceph` crate declares are taken from there, and the compiler compares that
//! declaration with the one written here; so none of the two is believed unchecked.
//!
//! Nothing here is safe, and nothing outside of this layer may name it. The wrappers of the `ceph`
//! crate above its declarations are not used: they free what they then read, and cannot set a
//! time limit.

#[cfg(test)]
mod abi;
pub(super) mod rados;
pub(super) mod rbd;

/// Declares C functions: with `link "NAME"` as our own, with `from the_ceph_crate` as those of
/// its `rados` module.
macro_rules! c_functions {
    (link $library:literal; $(
        fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $return:ty)?;
    )*) => {
        #[link(name = $library)]
        unsafe extern "C" {
            $(pub(in crate::ceph) fn $name($($arg: $type),*) $(-> $return)?;)*
        }
        c_functions!(@written OWN $($name($($type),*) $(-> $return)?;)*);
    };
    (from the_ceph_crate; $(
        fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $return:ty)?;
    )*) => {
        $(pub(in crate::ceph) use ::ceph::rados::$name;)*
        $(const _: unsafe extern "C" fn($($type),*) $(-> $return)? = $name;)*
        c_functions!(@written BORROWED $($name($($type),*) $(-> $return)?;)*);
    };
    (@written $list:ident $($name:ident($($type:ty),*) $(-> $return:ty)?;)*) => {
        #[cfg(test)]
        pub(super) const $list: &[super::abi::Function] = &[$(super::abi::Function {
            name: stringify!($name),
            arguments: &[$(stringify!($type)),*],
            result: concat!($(stringify!($return))?),
        }),*];
    };
}

/// Declares C structs whose fields are all public here.
macro_rules! c_structs {
    ($($(#[$doc:meta])* struct $name:ident { $($field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Debug, Clone, Copy)]
            #[allow(non_camel_case_types, reason = "its name in the C header")]
            pub(in crate::ceph) struct $name { $(pub(in crate::ceph) $field: $type,)* }
        )*
        #[cfg(test)]
        pub(super) const STRUCTS: &[super::abi::Struct] = &[$(super::abi::Struct {
            name: stringify!($name),
            size: size_of::<$name>(),
            fields: &[$((
                stringify!($field), stringify!($type), std::mem::offset_of!($name, $field)
            )),*],
        }),*];
    };
}

/// Declares constants of the C headers.
macro_rules! c_constants {
    ($($name:ident: $type:ty = $value:expr;)*) => {
        $(pub(in crate::ceph) const $name: $type = $value;)*
        #[cfg(test)]
        pub(super) const CONSTANTS: &[(&str, i128)] = &[$((stringify!($name), $value as i128)),*];
    };
}

use {c_constants, c_functions, c_structs};
